"""Heatmap overlays as DICOM Secondary Captures, for archives and viewers that show pictures only.

Owns one capture: the overlay as RGB (PS3.3 A.8.1), what it is burned into bars above and below the picture, so that
nothing of the slice is covered, and the reference to the image it was made of. Refuses to draw the overlay
(`imaging.heatmaps` does) and to claim a geometry: a capture may be scaled and cannot be measured in.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from imaging.dicom_out import (
    IMPLEMENTATION_UID,
    MANUFACTURER,
    MARK,
    Algorithm,
    ImageRef,
    SliceResult,
    StudyOfResults,
    derived_uid,
    percent,
)

SERIES_NUMBER: Final = 9902
_LEAST_SIDE: Final = 384
_PURPOSE = ("121322", "DCM", "Source image for image processing operation")


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture and how to refer to it."""

    ref: ImageRef
    data: bytes


def capture_ref(study: StudyOfResults, algorithm: Algorithm, result: SliceResult) -> ImageRef:
    """The UIDs that the capture of a result has, now and whenever it is made again."""
    return ImageRef(
        str(SecondaryCaptureImageStorage),
        derived_uid("capture", study.study_instance_uid, algorithm.digest, result.key),
        derived_uid("capture series", study.study_instance_uid, algorithm.digest),
    )


def secondary_capture(
    study: StudyOfResults, algorithm: Algorithm, result: SliceResult, overlay_png: bytes, number: int
) -> Capture:
    """Makes one capture.

    Args:
        study: Where it belongs.
        algorithm: Whose heatmap it is.
        result: What the model said of the slice.
        overlay_png: The overlay, PNG, 8-bit RGB, any size.
        number: Instance number, from 1.

    Returns:
        A DICOM file, explicit VR little endian, uncompressed.

    Raises:
        ValueError: The overlay is no picture.
    """
    ref = capture_ref(study, algorithm, result)
    pixels = _captioned(overlay_png, f"{result.class_name} {percent(result.probability)} - {result.name}")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(ref.sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    ds = FileDataset("", Dataset(), preamble=b"\x00" * 128, file_meta=meta)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, ref.sop_instance_uid
    _describe_study(ds, study)
    ds.Modality, ds.ConversionType = "OT", "WSD"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = ref.series_instance_uid, SERIES_NUMBER, number
    ds.SeriesDescription = MARK
    ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, algorithm.name[:64]
    ds.SoftwareVersions = result.code_version
    ds.InstanceCreationDate = ds.ContentDate = ds.SeriesDate = f"{result.created_at:%Y%m%d}"
    ds.InstanceCreationTime = ds.ContentTime = ds.SeriesTime = f"{result.created_at:%H%M%S}"
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ds.Laterality = None
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = (
        f"{MARK}. Grad-CAM heatmap of {algorithm.name} (SHA-256 {algorithm.digest}) drawn over the slice: where the "
        f"network looked, not where a tumour is. Prediction: {result.class_name}, probability {result.probability:.4f}."
    )
    if result.image is not None:
        ds.SourceImageSequence = [_source(result.image)]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 3
    ds.PhotometricInterpretation, ds.PlanarConfiguration = "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    values = pixels.tobytes()
    ds.PixelData = values + b"\x00" * (len(values) % 2)
    ds["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return Capture(ref, buffer.getvalue())


def _describe_study(ds: Dataset, study: StudyOfResults) -> None:
    ds.StudyInstanceUID = study.study_instance_uid
    ds.StudyDate, ds.StudyTime, ds.StudyID = study.study_date, study.study_time, study.study_id
    ds.AccessionNumber, ds.ReferringPhysicianName = study.accession_number, study.referring_physician
    if study.description:
        ds.StudyDescription = study.description[:64]
    ds.PatientName, ds.PatientID = study.patient_name, study.patient_id
    ds.PatientBirthDate, ds.PatientSex = study.birth_date, study.sex


def _source(image: ImageRef) -> Dataset:
    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    if image.frame is not None:
        item.ReferencedFrameNumber = image.frame + 1
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = _PURPOSE
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _captioned(overlay_png: bytes, caption: str) -> NDArray[np.uint8]:
    """The overlay between two bars of text; uint8, shape (rows, columns, 3), RGB."""
    found = cv2.imdecode(np.frombuffer(overlay_png, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("received bytes that are no PNG; expected an overlay as imaging.heatmaps.overlay draws it")
    picture = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    # Letters need some pixels: a small slice is enlarged by whole numbers, so that its own pixels can still be told.
    scale = -(-_LEAST_SIDE // picture.shape[1])
    if scale > 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    width = picture.shape[1]
    parts = [_bar(MARK, width, (255, 214, 0)), picture, _bar(caption, width, (255, 255, 255))]
    return np.ascontiguousarray(np.vstack(parts), dtype=np.uint8)


def _bar(text: str, width: int, colour: tuple[int, int, int]) -> NDArray[Any]:
    """A black bar with one line of text that fits; uint8, shape (height, width, 3)."""
    plain = text.encode("ascii", "replace").decode()
    thickness = max(1, width // 512)
    (unit, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, 1.0, thickness)
    size = min(0.92 * width / unit, width / 640)
    (_, height), below = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    bar = np.zeros((2 * height + below, width, 3), np.uint8)
    at = (round(0.04 * width), height + height // 2 + below // 2)
    cv2.putText(bar, plain, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)
    return bar
