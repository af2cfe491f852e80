"""A study's results as DICOM objects, planned first and made one by one: a Structured Report and Secondary Captures.

Owns what the objects are made of: rows, stored headers, heatmaps; which slices get a capture; and what cannot go out.
The plan names every object by its UID before a pixel is read, so that a sending that was cut short goes on where it
was. Refuses results of a withdrawn model, and knows neither HTTP nor a peer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import ComprehensiveSRStorage

from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries.refusals import ExchangeRefused
from db.queries.views import SliceView, StudyView
from db.studies import Instance
from imaging.dicom_capture import capture_ref, secondary_capture
from imaging.dicom_out import MARK, Algorithm, ImageRef, SliceResult, StudyOfResults, derived_uid, report_uid
from imaging.frames import ImageInfo

MAX_CAPTURES: Final = 100
"""An uncompressed capture takes 0.4 to 3 MB; a report holds all slices, captures show the most suspicious ones."""
MAX_SLICES: Final = 2000
"""Each file's header is read once more, some milliseconds a file."""
REPORT, CAPTURE = "report", "capture"
_DATE: Final = re.compile(r"[12][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_NO_TUMOUR: Final = "no_tumor"

Overlay = Callable[[Instance, Prediction], bytes]
"""Draws the heatmap of a prediction over its slice; PNG, 8-bit RGB."""
Inspect = Callable[[str], ImageInfo]
"""Reads the header of the stored DICOM file with this digest."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An object that can be made.

    Attributes:
        kind: `report` or `capture`.
        name: Of its file in a zip.
        make: Makes the DICOM file; the same bytes each time.
    """

    kind: str
    name: str
    sop_class_uid: str
    sop_instance_uid: str
    make: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ResultObjects:
    """Everything that can go out of one study."""

    study: StudyOfResults
    algorithm: Algorithm
    results: Sequence[SliceResult]
    objects: Sequence[Planned]
    """The captures, then the report."""

    def of(self, *kinds: str) -> Iterator[Planned]:
        """The objects of these kinds."""
        return (item for item in self.objects if item.kind in kinds)


def plan(view: StudyView, *, inspect: Inspect, overlay: Overlay) -> ResultObjects:
    """Plans the objects of a study.

    Args:
        view: The study under one checkpoint, as somebody may see it.
        inspect: Reads headers; called once a DICOM file.
        overlay: Draws; called when a capture is made.

    Raises:
        ExchangeRefused: `no_results`, `withdrawn` or `too_many_slices`.
        Exception: Whatever `inspect` raises.
    """
    slices, checkpoint = results_of(view)
    headers = _headers([item.instance for item, _ in slices], inspect)
    study = _study(view, headers)
    algorithm = Algorithm(name=checkpoint.name, digest=checkpoint.digest, network=checkpoint.network)
    captured = sorted(slices, key=lambda pair: _suspicion(pair[1]), reverse=True)[:MAX_CAPTURES]
    chosen = {item.instance.id for item, _ in captured}
    reported: list[SliceResult] = []
    objects: list[Planned] = []
    for place, (item, prediction) in enumerate(slices, start=1):
        header = headers.get(item.instance.content_sha256)
        result = _result(place, item, prediction, header)
        if item.instance.id in chosen:
            ref = capture_ref(study, algorithm, result)
            data = _Drawing(study, algorithm, result, item.instance, prediction, overlay, len(objects) + 1)
            name = f"capture-{data.number:04d}.dcm"
            objects.append(Planned(CAPTURE, name, ref.sop_class_uid, ref.sop_instance_uid, data.make))
            if result.image is None:  # a picture from elsewhere is in no archive: its capture is the evidence
                result = _result(place, item, prediction, header, ref)
        reported.append(result)

    def report() -> bytes:
        from imaging.dicom_results import structured_report  # its library is large, and few processes need it

        return structured_report(study, algorithm, reported)

    uid = report_uid(study, algorithm, reported)
    objects.append(Planned(REPORT, "report.dcm", str(ComprehensiveSRStorage), uid, report))
    return ResultObjects(study, algorithm, reported, objects)


def results_of(view: StudyView) -> tuple[list[tuple[SliceView, Prediction]], Checkpoint]:
    """The slices with results, and the checkpoint that gave them.

    Raises:
        ExchangeRefused: As `plan`.
    """
    # Where the model did not answer there is no result to send.
    slices = [
        (item, item.prediction)
        for series in view.series
        for item in series.slices
        if item.prediction and not item.prediction.abstention
    ]
    if view.checkpoint is None or not slices:
        raise ExchangeRefused("no_results", "There are no results of this study yet; wait until slices are analysed.")
    if view.withdrawal is not None:
        raise ExchangeRefused(
            "withdrawn",
            "The model behind these results was withdrawn; they do not go out as DICOM. Classify the study again.",
        )
    if len(slices) > MAX_SLICES:
        raise ExchangeRefused(
            "too_many_slices",
            "The study has %(slices)s slices with results; at most %(limit)s go into one DICOM export. Use the CSV.",
            {"slices": len(slices), "limit": MAX_SLICES},
            status=422,
        )
    return slices, view.checkpoint


def note(found: ResultObjects) -> str:
    """The text that lies beside the objects in a zip."""
    study, algorithm = found.study, found.algorithm
    captured = sum(1 for _ in found.of(CAPTURE))
    origin = (
        "The pictures came without a DICOM study: the Study Instance UID was made for them and is in no archive,\n"
        "and the report refers to the captures in this archive.\n"
        if study.made_uid
        else "All objects belong to the study as received, in two new series, and refer to the images received.\n"
    )
    return (
        f"{MARK}\nNot for diagnosis or treatment decisions.\n\n"
        f"report.dcm         Comprehensive SR (TID 1500), unverified: {len(found.results)} slices\n"
        f"capture-NNNN.dcm   Secondary Captures, heatmap over slice: {captured} slices, those with the highest\n"
        f"                   probability of a tumour, at most {MAX_CAPTURES}\n\n"
        f"Study Instance UID {study.study_instance_uid}\n{origin}"
        f"Model {algorithm.name}, SHA-256 {algorithm.digest}\n"
    )


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What one capture is made of."""

    study: StudyOfResults
    algorithm: Algorithm
    result: SliceResult
    instance: Instance
    prediction: Prediction
    overlay: Overlay
    number: int

    def make(self) -> bytes:
        drawn = self.overlay(self.instance, self.prediction)
        return secondary_capture(self.study, self.algorithm, self.result, drawn, self.number).data


def _headers(instances: list[Instance], inspect: Inspect) -> Mapping[str, ImageInfo]:
    found: dict[str, ImageInfo] = {}
    for instance in instances:
        if instance.kind == "dicom" and instance.content_sha256 not in found:
            found[instance.content_sha256] = inspect(instance.content_sha256)
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


def _result(
    place: int, item: SliceView, prediction: Prediction, header: ImageInfo | None, made: ImageRef | None = None
) -> SliceResult:
    instance, facts = item.instance, header.dicom if header else None
    image = made
    if facts and facts.sop_class_uid and facts.sop_instance_uid and facts.series_instance_uid and header:
        frame = instance.frame_index if header.frames > 1 else None
        image = ImageRef(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid, frame)
    # In the name, because that stands in the report and is burned into the capture.
    mark = f" ({instance.plane}: model not trained on this plane)" if item.untrained else ""
    return SliceResult(
        key=str(prediction.id),
        name=f"Slice {place}{mark}",
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
