"""The words for what is exchanged with archives, in the reader's language.

Owns one table a vocabulary of `db.exchange`, and their filters.
"""

from flask import Flask
from flask_babel import lazy_gettext

from db.exchange import Content, PeerKind
from web.pages.languages import add_filters

PEER_KINDS = {
    PeerKind.DIMSE: lazy_gettext("DICOM"),
    PeerKind.DICOMWEB: lazy_gettext("DICOMweb"),
}
CONTENTS = {
    Content.BOTH: lazy_gettext("Structured report and pictures of the heatmaps"),
    Content.REPORT: lazy_gettext("Structured report only"),
    Content.CAPTURES: lazy_gettext("Pictures of the heatmaps only (Secondary Capture)"),
}
OBJECTS = {
    "report": lazy_gettext("structured report"),
    "capture": lazy_gettext("picture"),
}


def init_app(app: Flask) -> None:
    """Adds the filters."""
    add_filters(
        app,
        peer_kind_label=lambda kind: str(PEER_KINDS.get(kind, kind)),
        content_label=lambda content: str(CONTENTS.get(content, content)),
        object_label=lambda kind: str(OBJECTS.get(kind, kind)),
    )
