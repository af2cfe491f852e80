"""A study's results to be downloaded: as DICOM objects in one zip with a note about them, or as a FHIR bundle.

Owns the downloads. What the objects say is made in `exchange`. Refuses to send anything anywhere: somebody who
may see whose study it is downloads the file and decides where it goes.
"""

import json
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from typing import IO, Final

from flask import Response

from db.predictions import Prediction
from db.queries import views
from db.queries.views import StudyView
from db.studies import Instance
from exchange import results
from exchange.fhir import bundle
from imaging.decoders import DecodersUnavailable
from imaging.frames import ImageInfo
from imaging.heatmaps import DEFAULT_COLOUR_MAP, DEFAULT_OPACITY
from imaging.outcomes import RejectedFile
from web import blinding, pictures
from web.access import the_user
from web.objects import find_study, note_view
from web.services import services

_MEMORY_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


def download(study_id: uuid.UUID, digest: str) -> Response:
    """The zip of a study.

    Args:
        study_id: The study.
        digest: Of the model whose results are wanted; empty: those that are shown.

    Raises:
        Problem: 404; 422 when a stored file cannot be read.
        ExchangeRefused: There are no results, the model is withdrawn, or there are too many slices.
    """
    view = _view(study_id, digest)
    body = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - the answer closes it when it has been sent
    try:
        _write(body, view)
        size = body.tell()
        body.seek(0)
    except BaseException:
        body.close()
        raise

    def pieces() -> Iterator[bytes]:
        with body:
            while piece := body.read(_PIECE_BYTES):
                yield piece

    response = Response(pieces(), content_type="application/zip")
    response.call_on_close(body.close)
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Disposition"] = f'attachment; filename="dicom-{study_id}.zip"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


def fhir(study_id: uuid.UUID, digest: str) -> Response:
    """The FHIR R4 bundle of a study, as far as the user may see it.

    Args:
        study_id: The study.
        digest: As for `download`.

    Raises:
        Problem: As `download`.
        ExchangeRefused: As `download`.
    """
    view = _view(study_id, digest)
    found = results.plan(view, inspect=inspected, overlay=_overlay)
    response = Response(json.dumps(bundle(view, found), ensure_ascii=False), content_type="application/fhir+json")
    response.headers["Content-Disposition"] = f'attachment; filename="fhir-{study_id}.json"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _view(study_id: uuid.UUID, digest: str) -> StudyView:
    """The study as the user may see it; the export is in the audit trail before anything is made."""
    with services().database.read() as db:
        find_study(db, study_id)
        blinding.refuse_covered(db, [study_id])
    note_view("study.export", study_id)
    with services().database.read() as db:
        return views.study_view(db, the_user().viewer, find_study(db, study_id), digest)


def inspected(digest: str) -> ImageInfo:
    """The header of a stored DICOM file; read where hostile files can do no harm.

    Raises:
        Problem: 422 when it cannot be read, 503 when no decoder is free.
    """
    parts = services()
    with parts.blobs.local_path(digest) as path:
        try:
            return parts.decoders.inspect(path)
        except RejectedFile as rejected:
            raise pictures.unreadable(rejected) from rejected
        except DecodersUnavailable as error:
            raise pictures.busy() from error


def _write(body: IO[bytes], view: StudyView) -> None:
    found = results.plan(view, inspect=inspected, overlay=_overlay)
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in found.objects:
            archive.writestr(item.name, item.make())
        archive.writestr("README.txt", results.note(found))


def _overlay(instance: Instance, prediction: Prediction) -> bytes:
    with services().database.read() as db:
        heatmap = pictures.heatmap_of(db, prediction)
    return pictures.overlay_png(instance, heatmap, DEFAULT_COLOUR_MAP, DEFAULT_OPACITY)
