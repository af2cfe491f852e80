"""What pages say when a model does not answer, or when a heatmap cannot mean anything.

Owns the sentences by code (`inference.guard.Abstention`, `inference.attention.HeatmapWarning`; web knows the codes as
text, a test compares them). Refuses numbers: they stand beside the sentence.
"""

from flask import Flask
from flask_babel import lazy_gettext

from web.pages.languages import add_filters

ABSTENTIONS: dict[str, object] = {
    "blank": lazy_gettext("No head was found in this picture."),
    "bright_border": lazy_gettext("The edge of the picture is bright, as in inverted pictures, text and photographs."),
    "unlike_training": lazy_gettext("The picture does not look like those that the model was trained on."),
    "turned": lazy_gettext("The slice seems to lie on its side or upside down."),
    "unsure": lazy_gettext("The model is too unsure of every class."),
}
HEATMAP_WARNINGS: dict[str, object] = {
    "nothing_speaks_for_it": lazy_gettext("The heatmap is empty: no part of the picture speaks for this class."),
    "outside_the_head": lazy_gettext("Most of the heatmap lies outside the head, where it can mean nothing."),
    "on_the_border": lazy_gettext("The hottest part of the heatmap lies at the picture's border, not on the head."),
}
CHECKS: dict[str, object] = {
    "border": lazy_gettext("Brightness of the edge"),
    "distance": lazy_gettext("Distance from the training slices"),
    "turned": lazy_gettext("Turned"),
    "doubt": lazy_gettext("Doubt about the class"),
}


def init_app(app: Flask) -> None:
    """Adds the filters."""
    add_filters(
        app,
        abstention_sentence=lambda code: str(ABSTENTIONS.get(code, code)),
        heatmap_warning_sentence=lambda code: str(HEATMAP_WARNINGS.get(code, code)),
        guard_check_label=lambda name: str(CHECKS.get(name, name)),
    )
