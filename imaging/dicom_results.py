"""The results of a study as a DICOM Structured Report (Comprehensive SR, TID 1500 of PS3.16).

Owns the report's content: for each slice the predicted class, its calibrated probability, the model with version and
digest, and the image it is about. The report says of itself what it is: unverified, preliminary, not reviewed, for
research use only. Refuses standard codes for the classes: they are labels of a network and not diagnoses, so they
stand in a coding scheme of our own.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Final

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from imaging.dicom_out import (
    IMPLEMENTATION_UID,
    MANUFACTURER,
    MARK,
    Algorithm,
    ImageRef,
    SliceResult,
    StudyOfResults,
    derived_uid,
    report_uid,
)

SERIES_NUMBER: Final = 9901
SCHEME: Final = "99NEUROSIGHT"
_FINDING = CodedConcept("121071", "DCM", "Finding")
_REVIEW = CodedConcept("review_status", SCHEME, "Review status")
_NOT_REVIEWED = CodedConcept("not_reviewed", SCHEME, MARK)
_PROBABILITY = CodedConcept("probability", SCHEME, "Calibrated probability of the predicted class")
_NO_UNITS = CodedConcept("1", "UCUM", "no units")
_MRI = CodedConcept("113091000", "SCT", "Magnetic resonance imaging")


def structured_report(study: StudyOfResults, algorithm: Algorithm, results: Sequence[SliceResult]) -> bytes:
    """Makes the report.

    Args:
        study: Where it belongs.
        algorithm: The model, one for all results.
        results: At least one, in the order in which they are to be read; at least one with an image.

    Returns:
        A DICOM file, explicit VR little endian. The same results give the same UIDs; further results give another
        SOP Instance UID in the same series.

    Raises:
        ValueError: There is no result, or none with an image: a report must have evidence (PS3.3 C.17.2).
    """
    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it reports each module that it copies, with UIDs
    images = list(dict.fromkeys(_object(result.image) for result in results if result.image is not None))
    if not images:
        raise ValueError(f"received {len(results)} results without an image; expected at least one with an image")
    observer = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", algorithm.digest),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=algorithm.name[:64],
    )
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=observer
            )
        ),
        procedure_reported=_MRI,
        imaging_measurements=[_group(study, algorithm, result) for result in results],
    )
    document = ComprehensiveSR(
        evidence=[_evidence(study, image) for image in images],
        content=report[0],
        series_instance_uid=derived_uid("report series", study.study_instance_uid, algorithm.digest),
        series_number=SERIES_NUMBER,
        sop_instance_uid=report_uid(study, algorithm, results),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
    )
    # The time of the results and not of the download: the same results are the same object, byte for byte.
    newest = max(result.created_at for result in results)
    for keyword in ("ContentDate", "InstanceCreationDate"):
        setattr(document, keyword, f"{newest:%Y%m%d}")
    for keyword in ("ContentTime", "InstanceCreationTime"):
        setattr(document, keyword, f"{newest:%H%M%S}")
    for equipment in document.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{newest:%Y%m%d%H%M%S}"
    document.TimezoneOffsetFromUTC = "+0000"
    document.SpecificCharacterSet = "ISO_IR 192"
    # Set here and not by way of the evidence: the library quotes a name that it finds odd in a warning.
    document.PatientName, document.ReferringPhysicianName = study.patient_name, study.referring_physician
    document.SeriesDescription = MARK
    document.ManufacturerModelName = algorithm.name[:64]
    document.SoftwareVersions = "\\".join(dict.fromkeys(result.code_version for result in results))
    if study.description:
        document.StudyDescription = study.description[:64]
    document.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _group(study: StudyOfResults, algorithm: Algorithm, result: SliceResult) -> MeasurementsAndQualitativeEvaluations:
    """One slice (TID 1501)."""
    image = result.image
    sources = None
    if image is not None:
        frames = None if image.frame is None else [image.frame + 1]
        sources = [SourceImageForMeasurementGroup(image.sop_class_uid, image.sop_instance_uid, frames)]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid("slice", study.study_instance_uid, algorithm.digest, result.key), identifier=result.name
        ),
        algorithm_id=AlgorithmIdentification(
            name=algorithm.name,
            version=result.code_version,
            parameters=[
                f"model SHA-256: {algorithm.digest}",
                f"network: {algorithm.network}",
                f"engine: {result.engine}",
            ],
        ),
        measurements=[Measurement(name=_PROBABILITY, value=round(result.probability, 6), unit=_NO_UNITS)],
        qualitative_evaluations=[
            QualitativeEvaluation(_FINDING, _class(result.class_name)),
            QualitativeEvaluation(_REVIEW, _NOT_REVIEWED),
        ],
        source_images=sources,
    )


def _class(name: str) -> CodedConcept:
    return CodedConcept(name, SCHEME, name.replace("_", " ")[:64])


def _object(image: ImageRef) -> tuple[str, str, str]:
    """What identifies the object; all frames of one are one piece of evidence."""
    return image.sop_class_uid, image.sop_instance_uid, image.series_instance_uid


def _evidence(study: StudyOfResults, image: tuple[str, str, str]) -> Dataset:
    """As much of an image's header as a report takes over."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = image
    ds.StudyInstanceUID = study.study_instance_uid
    ds.StudyDate, ds.StudyTime, ds.StudyID = study.study_date, study.study_time, study.study_id
    ds.AccessionNumber, ds.ReferringPhysicianName = study.accession_number, ""
    ds.PatientName, ds.PatientID = "", study.patient_id
    ds.PatientBirthDate, ds.PatientSex = study.birth_date, study.sex
    return ds
