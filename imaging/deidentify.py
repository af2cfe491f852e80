"""De-identifying a DICOM file: the Basic Application Level Confidentiality Profile of PS3.15, Annex E.

This module owns the rules, and writes the new file. With the options Retain Longitudinal Temporal Information with
Modified Dates (E.3.6), every date shifted by the same days for a patient, and Clean Descriptors (E.3.5). Table E.1-1
decides for each attribute that it names (`imaging.profile_table`); those that it does not name stay only when their
kind cannot hold a sentence or a name: free text, person names, unknown and private attributes go. What cannot be
understood goes. It refuses to touch pixels: a name written into them stays (`imaging.text_risk` says where that is
likely), and a head can be recognised by its face.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from imaging import descriptors
from imaging.dicom import MALFORMED, open_header
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.profile_table import actions
from imaging.pseudonyms import Pseudonyms

METHOD: Final = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
"""Codes of PS3.16 CID 7050 that say what was done, written into each file."""

_IMPLEMENTATION_UID = "2.25.203715003841112604931046216417061180417"
_PIXELS = 0x7FE00010
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_BORN = frozenset({0x00100030, 0x00100032, 0x001021D0})
# Of these known words stay: StudyDescription, SeriesDescription, ProtocolName, ContrastBolusAgent.
_DESCRIPTORS = frozenset({0x00081030, 0x0008103E, 0x00181030, 0x00180010})
# What a UID of a class says is no identity: SOPClassUID, RelatedGeneralSOPClassUID, ReferencedSOPClassUID.
_CLASSES = frozenset({0x00080016, 0x0008001A, 0x0008001B, 0x00081150})
_FREE_TEXT = frozenset({"LT", "ST", "UC", "UR", "UT", "PN", "AE"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
_MOMENTS = frozenset({"DA", "DT"})
_NO_TIME = frozenset({"TM"})
_TEXT = frozenset({"CS", "LO", "SH", "AS"})


def deidentify(source: Path | bytes, key: bytes, limits: Limits) -> bytes:
    """Write a DICOM file anew without what says whose it is.

    Args:
        source: The file, or its bytes.
        key: Secret of the pseudonyms.
        limits: Bounds of reading.

    Returns:
        The new file, the same bytes for the same input and key: pixels as they were, in the same transfer syntax (a
        deflated one is inflated), a new preamble and file meta group.

    Raises:
        RejectedFile: Malformed, or over a limit.
    """
    header = open_header(source, limits)
    try:
        header.stream.seek(0)
        whole = dcmread(header.stream, force=True)
        names = Pseudonyms(key, _who(whole))
        implicit_vr, little_endian = (flag is not False for flag in whole.original_encoding)
        cleaned = _cleaned(whole, names, top=True)
        _state(cleaned, names)
        return _written(cleaned, header.transfer_syntax, implicit_vr, little_endian)
    except RecursionError as error:
        raise RejectedFile(Reason.SEQUENCE_DEPTH, limit=limits.max_sequence_depth) from error
    except MemoryError as error:
        raise RejectedFile(Reason.MEMORY) from error
    except MALFORMED as error:
        raise RejectedFile(Reason.DICOM_MALFORMED) from error
    finally:
        header.close()


def _who(dataset: Dataset) -> str:
    """What tells this patient apart: his ID, else name and birth date, else the study."""
    for keywords in (("PatientID",), ("PatientName", "PatientBirthDate"), ("StudyInstanceUID",), ("SOPInstanceUID",)):
        found = [_text(dataset, keyword).casefold() for keyword in keywords]
        if found[0]:
            return "\0".join((keywords[0], *found))
    return ""


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip("\0 ")
    except MALFORMED:
        return ""


def _cleaned(dataset: Dataset, names: Pseudonyms, *, top: bool = False) -> Dataset:
    """A copy with what may stay. What stays unchanged is copied as it lies there, without being decoded."""
    kept = Dataset()
    for tag in sorted(dataset.keys()):
        if top and tag > _PIXELS:
            break  # signatures and padding
        try:
            element = _kept(dataset, tag, names)
        except MALFORMED:
            continue
        if element is not None:
            kept[tag] = element
    return kept


def _kept(dataset: Dataset, tag: BaseTag, names: Pseudonyms) -> DataElement | RawDataElement | None:
    if tag.is_private or tag.element == 0 or tag.group & 0xFF00 in (0x5000, 0x6000):
        return None
    raw = dataset.get_item(tag)
    vr = _vr(tag, raw.VR)
    if vr is None or tag.group in (0x0000, 0x0002):
        return None
    action = actions().get(int(tag), "")
    if vr == "SQ":
        if action and "U*" not in action:
            return None
        items = [_cleaned(item, names) for item in dataset[tag].value]
        return DataElement(tag, "SQ", Sequence(items))
    if tag in (_PATIENT_NAME, _PATIENT_ID):
        return DataElement(tag, "PN" if tag == _PATIENT_NAME else "LO", names.patient)
    if tag in _DESCRIPTORS:
        words = descriptors.clean(str(dataset[tag].value))
        return DataElement(tag, vr, words) if words else None
    if vr == "UI":
        return (
            raw if tag in _CLASSES else DataElement(tag, "UI", [names.uid(str(one)) for one in _values(dataset, tag)])
        )
    if vr in _MOMENTS and tag not in _BORN:
        # Retain Longitudinal Temporal Information with Modified Dates: also those that the profile would take away.
        return DataElement(tag, vr, [names.date(str(one)) for one in _values(dataset, tag)])
    if vr in _NO_TIME and tag not in _BORN:
        return raw  # a time of day on a day that is not told
    if action:
        return _replaced(tag, vr, action)
    if vr in _FREE_TEXT or (vr in _BINARY and tag.group not in (0x0028, 0x7FE0)):
        return None
    return raw


def _replaced(tag: BaseTag, vr: str, action: str) -> DataElement | None:
    """What stands in place of a value that goes: nothing, an empty value, or a dummy."""
    if action == "D" and vr in _TEXT | _FREE_TEXT:
        return DataElement(tag, vr, "REMOVED")
    if "Z" in action and vr not in _BINARY:
        return DataElement(tag, vr, None)
    return None


def _values(dataset: Dataset, tag: BaseTag) -> list[Any]:
    value = dataset[tag].value
    return list(value) if isinstance(value, list) or hasattr(value, "append") else [value]


def _vr(tag: BaseTag, stated: str | None) -> str | None:
    """The value representation; None for an attribute that the standard does not know."""
    try:
        known = str(dictionary_VR(tag))
    except KeyError:
        return None
    # The dictionary wins where a file says something shorter or unknown: what it names a name is one.
    return known if stated in (None, "UN") or known in ("SQ", "PN", "UI", "DA", "DT", "TM") else str(stated)


def _state(dataset: Dataset, names: Pseudonyms) -> None:
    """Say in the file that, and how, it was de-identified."""
    dataset.PatientName = dataset.PatientID = names.patient
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        setattr(dataset, keyword, "")  # type 2: these must be there
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "NeuroSight: PS3.15 basic profile at intake"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    codes = []
    for value, meaning in METHOD:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)


def _written(dataset: Dataset, syntax: UID, implicit_vr: bool, little_endian: bool) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # counted when it is written
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(_text(dataset, "SOPClassUID"))
    meta.MediaStorageSOPInstanceUID = UID(_text(dataset, "SOPInstanceUID"))
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_UID)
    file = FileDataset(io.BytesIO(), dataset, file_meta=meta, preamble=b"\0" * 128)
    file.set_original_encoding(implicit_vr, little_endian)
    out = io.BytesIO()
    dcmwrite(out, file, implicit_vr=implicit_vr, little_endian=little_endian, enforce_file_format=False)
    return out.getvalue()
