"""What a DICOM header says, as plain checked values.

This module owns reading facts, identity, geometry and the question whether an object is an image that is analysed
here. Optional attributes that cannot be read become None. It refuses to let a value through unchecked: numbers are
finite, UIDs are UIDs, text is freed of what must not be shown.
"""

from __future__ import annotations

import math
import re

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from imaging.dicom import MALFORMED, Header, uid_words
from imaging.frames import DicomFacts, FrameGeometry, Identity
from imaging.geometry import locate
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.plain_text import plain

MR_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color Image
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image
    }
)
SECONDARY_CAPTURE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2.840.10008.5.1.4.1.1.7.1",
        "1.2.840.10008.5.1.4.1.1.7.2",
        "1.2.840.10008.5.1.4.1.1.7.3",
        "1.2.840.10008.5.1.4.1.1.7.4",
    }
)
# What secondary captures say when they do not carry the modality of their source.
_NO_MODALITY = frozenset({"", "OT", "SC"})
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_UID_LENGTH = 64
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_MAX_INTEGER = 2**31 - 1


def text(dataset: Dataset, keyword: str, limits: Limits) -> str | None:
    """Read a text attribute.

    Args:
        dataset: Where it stands.
        keyword: Its DICOM keyword.
        limits: For its longest length.

    Returns:
        Plain text (several values joined by a backslash, as DICOM writes them), or None when missing or empty.
    """
    value = attribute(dataset, keyword)
    if value is None:
        return None
    try:
        words = "\\".join(str(part) for part in _parts(value))
    except MALFORMED:
        return None
    return plain(words, limits.max_text_length) or None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Read a number attribute, the first value of several.

    Args:
        dataset: Where it stands.
        keyword: Its DICOM keyword.

    Returns:
        A finite number, or None.
    """
    value = attribute(dataset, keyword)
    if value is None:
        return None
    try:
        result = float(str(_parts(value)[0]))
    except MALFORMED:
        return None
    return result if math.isfinite(result) else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Read a whole number that fits 32 bits.

    Args:
        dataset: Where it stands.
        keyword: Its DICOM keyword.

    Returns:
        The number, or None.
    """
    value = number(dataset, keyword)
    return int(value) if value is not None and value.is_integer() and abs(value) <= _MAX_INTEGER else None


def attribute(dataset: Dataset, keyword: str) -> object:
    """Read any attribute's value without ever failing on a malformed one.

    Args:
        dataset: Where it stands.
        keyword: Its DICOM keyword.

    Returns:
        pydicom's value, or None when it is missing, empty or malformed.
    """
    try:
        value: object = dataset.get(keyword)
    except MALFORMED:
        return None
    return None if value is None or value == "" else value


def _parts(value: object) -> list[object]:
    """List the values of an attribute, be they one or several."""
    return list(value) if isinstance(value, list | tuple | MultiValue) else [value]


def uid(dataset: Dataset, keyword: str) -> str | None:
    """Read a UID.

    Args:
        dataset: Where it stands.
        keyword: Its DICOM keyword.

    Returns:
        The UID, or None when missing.

    Raises:
        RejectedFile: It is there but is no UID; results would be filed under a name that others cannot match.
    """
    value = attribute(dataset, keyword)
    if value is None:
        return None
    found = str(value).strip("\x00 ")
    if not found:
        return None
    if len(found) > _MAX_UID_LENGTH or not _UID.fullmatch(found):
        raise RejectedFile(Reason.DICOM_UID, attribute=keyword)
    return found


def check_analysed(header: Header, limits: Limits, has_pixels: bool) -> None:
    """Refuse objects that are no pictures, and pictures of other modalities.

    Args:
        header: The opened file.
        limits: Names the modalities that are accepted.
        has_pixels: Whether the file holds pixel data.

    Raises:
        RejectedFile: It is refused.
    """
    dataset = header.dataset
    sop_class = uid(dataset, "SOPClassUID") or ""
    modality = (text(dataset, "Modality", limits) or "").upper()
    if not has_pixels:
        found = uid_words(sop_class, "") if sop_class else ""
        raise RejectedFile(Reason.NO_PIXEL_DATA, found=found or _code(modality))
    if modality in limits.modalities:
        return
    if modality in _NO_MODALITY and sop_class in SECONDARY_CAPTURE_CLASSES:
        return
    if not modality and sop_class in MR_CLASSES and "MR" in limits.modalities:
        return
    raise RejectedFile(Reason.MODALITY, found=_code(modality), accepted=", ".join(sorted(limits.modalities)))


def _code(modality: str) -> str:
    """Repeat a modality only when it looks like one: the attribute might hold anything."""
    return modality if _CODE.fullmatch(modality) else "unknown"


def facts_of(header: Header, limits: Limits) -> DicomFacts:
    """Read what describes study, series and instance.

    Args:
        header: The opened file.
        limits: For the longest text.

    Returns:
        The facts.

    Raises:
        RejectedFile: A UID is malformed.
    """
    dataset = header.dataset
    image_type = tuple((text(dataset, "ImageType", limits) or "").upper().split("\\"))
    burned_in = (text(dataset, "BurnedInAnnotation", limits) or "").upper()
    return DicomFacts(
        study_instance_uid=uid(dataset, "StudyInstanceUID"),
        series_instance_uid=uid(dataset, "SeriesInstanceUID"),
        sop_instance_uid=uid(dataset, "SOPInstanceUID"),
        sop_class_uid=uid(dataset, "SOPClassUID"),
        transfer_syntax_uid=header.stated_transfer_syntax or str(UID(header.transfer_syntax)),
        modality=(text(dataset, "Modality", limits) or "").upper() or None,
        series_number=integer(dataset, "SeriesNumber"),
        instance_number=integer(dataset, "InstanceNumber"),
        study_description=text(dataset, "StudyDescription", limits),
        series_description=text(dataset, "SeriesDescription", limits),
        protocol_name=text(dataset, "ProtocolName", limits),
        body_part=text(dataset, "BodyPartExamined", limits),
        image_type=image_type if image_type != ("",) else (),
        localizer="LOCALIZER" in image_type or "SCOUT" in image_type,
        contrast_agent=text(dataset, "ContrastBolusAgent", limits) is not None
        or attribute(dataset, "ContrastBolusAgentSequence") is not None,
        echo_time_ms=_timing(dataset, "EchoTime"),
        repetition_time_ms=_timing(dataset, "RepetitionTime"),
        inversion_time_ms=_timing(dataset, "InversionTime"),
        scanning_sequence=_scanning_sequence(dataset, limits),
        slice_thickness_mm=_timing(dataset, "SliceThickness"),
        field_strength_tesla=number(dataset, "MagneticFieldStrength"),
        manufacturer=text(dataset, "Manufacturer", limits),
        manufacturer_model=text(dataset, "ManufacturerModelName", limits),
        photometric_interpretation=text(dataset, "PhotometricInterpretation", limits),
        bits_stored=integer(dataset, "BitsStored"),
        burned_in_annotation={"YES": True, "NO": False}.get(burned_in),
        conversion_type=text(dataset, "ConversionType", limits),
    )


# Where an enhanced object keeps, for each frame or for all, what others say at the top (PS3.3 C.8.13).
_GROUP_OF = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
}
_PULSES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}


def _timing(dataset: Dataset, keyword: str) -> float | None:
    """Read an acquisition parameter, an enhanced object's from the first frame's functional groups."""
    found = number(dataset, keyword)
    if found is not None:
        return found
    group, inside = _GROUP_OF[keyword]
    item = functional_group(dataset, 0, group)
    return None if item is None else number(item, inside)


def _scanning_sequence(dataset: Dataset, limits: Limits) -> tuple[str, ...]:
    found = (text(dataset, "ScanningSequence", limits) or "").upper()
    if found:
        return tuple(found.split("\\"))
    pulses = _PULSES.get((text(dataset, "EchoPulseSequence", limits) or "").upper(), ())
    planar = (text(dataset, "EchoPlanarPulseSequence", limits) or "").upper() == "YES"
    return (*pulses, "EP") if planar else pulses


def identity_of(header: Header, limits: Limits) -> Identity:
    """Read who and which visit, for the caller to keep apart.

    Args:
        header: The opened file.
        limits: For the longest text.

    Returns:
        The identity.
    """
    dataset = header.dataset
    return Identity(
        patient_name=text(dataset, "PatientName", limits),
        patient_id=text(dataset, "PatientID", limits),
        patient_birth_date=text(dataset, "PatientBirthDate", limits),
        patient_sex=text(dataset, "PatientSex", limits),
        accession_number=text(dataset, "AccessionNumber", limits),
        study_date=text(dataset, "StudyDate", limits),
        study_time=text(dataset, "StudyTime", limits),
        study_id=text(dataset, "StudyID", limits),
        institution_name=text(dataset, "InstitutionName", limits),
        referring_physician=text(dataset, "ReferringPhysicianName", limits),
    )


def item_of(dataset: Dataset | None, keyword: str, index: int = 0) -> Dataset | None:
    """Read one item of a sequence.

    Args:
        dataset: Where the sequence stands; None is allowed, to chain calls.
        keyword: The sequence's DICOM keyword.
        index: Which item, counted from 0.

    Returns:
        The item, or None when sequence or item is missing or malformed.
    """
    if dataset is None:
        return None
    try:
        sequence = dataset.get(keyword)
        item = sequence[index] if sequence else None
    except MALFORMED:
        return None
    return item if isinstance(item, Dataset) else None


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Find a frame's functional group (PS3.3 C.7.6.16): its own, or else the one shared by all frames.

    Args:
        dataset: The header of a multi-frame image.
        frame: Frame number, counted from 0.
        keyword: Keyword of the group's sequence.

    Returns:
        The group's only item, or None.
    """
    own = item_of(item_of(dataset, "PerFrameFunctionalGroupsSequence", frame), keyword)
    return own if own is not None else item_of(item_of(dataset, "SharedFunctionalGroupsSequence"), keyword)


def geometry_of(dataset: Dataset, frame: int, frames: int) -> FrameGeometry:
    """Work out where one frame lies.

    Args:
        dataset: The header.
        frame: Frame number, counted from 0.
        frames: Number of frames in the file.

    Returns:
        The geometry. Frames of a multi-frame file without positions of their own have a plane but no position: the
        one position in the header cannot be that of all of them.
    """
    grouped = attribute(dataset, "PerFrameFunctionalGroupsSequence") is not None
    grouped = grouped or attribute(dataset, "SharedFunctionalGroupsSequence") is not None
    orientation, position, measures = (
        (functional_group(dataset, frame, keyword) if grouped else None)
        for keyword in ("PlaneOrientationSequence", "PlanePositionSequence", "PixelMeasuresSequence")
    )
    fallback_position = attribute(dataset, "ImagePositionPatient") if frames == 1 else None
    return locate(
        attribute(orientation if orientation is not None else dataset, "ImageOrientationPatient"),
        attribute(position, "ImagePositionPatient") if position is not None else fallback_position,
        attribute(measures if measures is not None else dataset, "PixelSpacing"),
    )
