"""A study's results as DICOM objects in one zip: a Structured Report, Secondary Captures, and a note about both.

Owns gathering what the objects say from rows and stored headers. Refuses results of a withdrawn model, and sends
nothing anywhere: somebody who may see whose study it is downloads the file and decides where it goes.
"""

import re
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Final

from flask import Response

from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries import views
from db.queries.views import SliceView, StudyView
from db.studies import Instance
from imaging.decoders import DecodersUnavailable
from imaging.dicom_capture import capture_ref, secondary_capture
from imaging.dicom_out import MARK, Algorithm, ImageRef, SliceResult, StudyOfResults, derived_uid
from imaging.frames import ImageInfo
from imaging.heatmaps import DEFAULT_COLOUR_MAP, DEFAULT_OPACITY
from imaging.outcomes import RejectedFile
from web import pictures
from web.access import the_user
from web.objects import find_study, note_view
from web.problems import Problem
from web.services import services

MAX_CAPTURES: Final = 100
"""An uncompressed capture takes 0.4 to 3 MB; a report holds all slices, captures show the most suspicious ones."""
MAX_SLICES: Final = 2000
"""Each file's header is read once more, some milliseconds a file, while somebody waits."""
_MEMORY_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
_DATE: Final = re.compile(r"[12][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_NO_TUMOUR: Final = "no_tumor"


def download(study_id: uuid.UUID, digest: str) -> Response:
    """The zip of a study.

    Args:
        study_id: The study.
        digest: Of the model whose results are wanted; empty: those that are shown.

    Raises:
        Problem: 404; 409 when there are no results, or the model is withdrawn; 422 when there are too many slices
            or a stored file cannot be read.
    """
    with services().database.read() as db:
        find_study(db, study_id)
    note_view("study.export", study_id)
    with services().database.read() as db:
        view = views.study_view(db, the_user().viewer, find_study(db, study_id), digest)
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


def _write(body: IO[bytes], view: StudyView) -> None:
    slices = [(item, item.prediction) for series in view.series for item in series.slices if item.prediction]
    checkpoint = view.checkpoint
    if checkpoint is None or not slices:
        raise Problem(409, "no_results", "There are no results of this study yet; wait until slices are analysed.")
    if view.withdrawal is not None:
        raise Problem(
            409,
            "withdrawn",
            "The model behind these results was withdrawn; they do not go out as DICOM. Classify the study again.",
        )
    if len(slices) > MAX_SLICES:
        raise Problem(
            422,
            "too_many_slices",
            "The study has %(slices)s slices with results; at most %(limit)s go into one DICOM export. Use the CSV.",
            facts={"slices": len(slices), "limit": MAX_SLICES},
        )
    headers = _headers([item.instance for item, _ in slices])
    study = _study(view, headers)
    algorithm = _algorithm(checkpoint)
    captured = sorted(slices, key=lambda pair: _suspicion(pair[1]), reverse=True)[:MAX_CAPTURES]
    chosen = {item.instance.id for item, _ in captured}
    reported: list[SliceResult] = []
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        number = 0
        for place, (item, prediction) in enumerate(slices, start=1):
            header = headers.get(item.instance.content_sha256)
            result = _result(place, item, prediction, header)
            if item.instance.id in chosen:
                number += 1
                overlay = _overlay(item.instance, prediction)
                capture = secondary_capture(study, algorithm, result, overlay, number)
                archive.writestr(f"capture-{number:04d}.dcm", capture.data)
                if result.image is None:  # a picture from elsewhere is in no archive: its capture is the evidence
                    result = _result(place, item, prediction, header, capture_ref(study, algorithm, result))
            reported.append(result)
        from imaging.dicom_results import structured_report  # its library is large, and few requests need it

        archive.writestr("report.dcm", structured_report(study, algorithm, reported))
        archive.writestr("README.txt", _note(study, algorithm, len(reported), number))


def _headers(instances: list[Instance]) -> Mapping[str, ImageInfo]:
    """The header of each DICOM file, by its digest; read where hostile files can do no harm."""
    parts = services()
    found: dict[str, ImageInfo] = {}
    for instance in instances:
        if instance.kind != "dicom" or instance.content_sha256 in found:
            continue
        with parts.blobs.local_path(instance.content_sha256) as path:
            try:
                found[instance.content_sha256] = parts.decoders.inspect(path)
            except RejectedFile as rejected:
                raise pictures.unreadable(rejected) from rejected
            except DecodersUnavailable as error:
                raise pictures.busy() from error
    return found


def _study(view: StudyView, headers: Mapping[str, ImageInfo]) -> StudyOfResults:
    """Identity comes from its table alone; time and number of the study from a header, only where there is identity."""
    study, identity = view.study, view.identity
    uid = study.study_instance_uid
    visit = next((info.identity for info in headers.values() if info.identity), None) if identity else None
    return StudyOfResults(
        study_instance_uid=uid or derived_uid("study", study.study_key),
        made_uid=uid is None,
        study_date=_matching(_DATE, study.study_date),
        study_time=_matching(_TIME, (visit.study_time or "") if visit else ""),
        study_id=_fitting((visit.study_id or "") if visit else "", 16),
        description=_fitting(study.description, 64),
        accession_number=_fitting(identity.accession_number, 16) if identity else "",
        referring_physician=_fitting((visit.referring_physician or "") if visit else "", 64),
        patient_name=_fitting(identity.patient_name, 64) if identity else "",
        patient_id=_fitting(identity.patient_id, 64) if identity else "",
        birth_date=_matching(_DATE, identity.birth_date) if identity else "",
        sex=identity.sex if identity and identity.sex in ("M", "F", "O") else "",
    )


def _fitting(text: str, length: int) -> str:
    """A text that DICOM takes as one value: an archive that finds another one refuses the whole object."""
    return text.replace("\\", " ").strip()[:length]


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _algorithm(checkpoint: Checkpoint) -> Algorithm:
    return Algorithm(name=checkpoint.name, digest=checkpoint.digest, network=checkpoint.network)


def _result(
    place: int, item: SliceView, prediction: Prediction, header: ImageInfo | None, made: ImageRef | None = None
) -> SliceResult:
    instance, facts = item.instance, header.dicom if header else None
    image = made
    if facts and facts.sop_class_uid and facts.sop_instance_uid and facts.series_instance_uid and header:
        frame = instance.frame_index if header.frames > 1 else None
        image = ImageRef(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid, frame)
    return SliceResult(
        key=str(prediction.id),
        name=f"Slice {place}",
        image=image,
        class_name=prediction.class_name,
        probability=prediction.probability,
        engine=prediction.engine,
        code_version=prediction.code_version,
        created_at=prediction.created_at,
    )


def _suspicion(prediction: Prediction) -> tuple[float, float]:
    """The probability that there is any tumour, then that of the predicted class."""
    return 1.0 - float(prediction.probabilities.get(_NO_TUMOUR, 0.0)), prediction.probability


def _overlay(instance: Instance, prediction: Prediction) -> bytes:
    with services().database.read() as db:
        heatmap = pictures.heatmap_of(db, prediction)
    return pictures.overlay_png(instance, heatmap, DEFAULT_COLOUR_MAP, DEFAULT_OPACITY)


def _note(study: StudyOfResults, algorithm: Algorithm, reported: int, captured: int) -> str:
    origin = (
        "The pictures came without a DICOM study: the Study Instance UID was made for them and is in no archive,\n"
        "and the report refers to the captures in this archive.\n"
        if study.made_uid
        else "All objects belong to the study as received, in two new series, and refer to the images received.\n"
    )
    return (
        f"{MARK}\nNot for diagnosis or treatment decisions.\n\n"
        f"report.dcm         Comprehensive SR (TID 1500), unverified: {reported} slices\n"
        f"capture-NNNN.dcm   Secondary Captures, heatmap over slice: {captured} slices, those with the highest\n"
        f"                   probability of a tumour, at most {MAX_CAPTURES}\n\n"
        f"Study Instance UID {study.study_instance_uid}\n{origin}"
        f"Model {algorithm.name}, SHA-256 {algorithm.digest}\n"
    )
