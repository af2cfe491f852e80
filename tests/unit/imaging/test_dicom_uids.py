"""The UIDs of a file, found without decoding it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from imaging.dicom_uids import NoUids, Uids, is_uid, read_uids
from tests.unit.imaging.dicom_files import INSTANCE, STUDY, mr, ramp


def with_sequences(syntax: UID, **attributes: Any) -> FileDataset:
    """A file with nested sequences, of defined and undefined length, in front of the study's UID."""
    file = mr(ramp(), syntax=syntax, **attributes)
    inner, item = Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = "2.25.99"
    inner.StudyInstanceUID = "2.25.98"
    item.ReferencedImageSequence = Sequence([inner])
    item["ReferencedImageSequence"].is_undefined_length = True
    inner.is_undefined_length_sequence_item = True
    file.ReferencedStudySequence = Sequence([item, Dataset()])
    file["ReferencedStudySequence"].is_undefined_length = True
    file.ReferencedPerformedProcedureStepSequence = Sequence([item])
    file.add_new(0x00091001, "UN", b"private")
    return file


def saved(folder: Path, file: FileDataset, name: str = "one.dcm") -> Path:
    file.save_as(folder / name)
    return folder / name


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_found_in_every_encoding_behind_nested_sequences(tmp_path: Path, syntax: UID) -> None:
    path = saved(tmp_path, with_sequences(syntax))
    assert read_uids(path) == Uids(MRImageStorage, INSTANCE, STUDY, syntax)


def test_a_file_that_is_not_in_the_encoding_it_names(tmp_path: Path) -> None:
    data = io.BytesIO()
    with_sequences(ImplicitVRLittleEndian).save_as(data)
    path = tmp_path / "one.dcm"
    path.write_bytes(data.getvalue().replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0"[:18]))
    assert read_uids(path).study == STUDY


HEAD = b"\0" * 128 + b"DICM"
ENDLESS = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
ITEM = b"\xfe\xff\0\xe0\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no DICOM file: the letters DICM are not at byte 128"),
        (HEAD, "SOPClassUID is missing"),
        (HEAD + b"\x08\0\5\0CS\xff", "malformed in front of StudyInstanceUID"),
        (HEAD + b"\x08\0\x16\0UI\xff\xff" + b"1" * 70, "malformed in front of StudyInstanceUID"),
        (HEAD + ENDLESS + ITEM * 500, "malformed"),
        (HEAD + b"\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99" + b"nonsense", "deflated"),
    ],
)  # fmt: skip
def test_what_does_not_say_what_it_is(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(content)
    with pytest.raises(NoUids, match=says):
        read_uids(path)


@pytest.mark.parametrize(
    ("uid", "says"), [(None, "is missing"), ("../../etc/passwd", "is malformed"), ("1..2", "is malformed")]
)
def test_a_uid_that_is_none(tmp_path: Path, uid: str | None, says: str) -> None:
    file = mr(ramp(), StudyInstanceUID=None)
    if uid is not None:
        file.add_new(0x0020000D, "LO", uid)
    data = io.BytesIO()
    file.save_as(data)
    path = tmp_path / "one.dcm"
    path.write_bytes(data.getvalue())
    with pytest.raises(NoUids, match=f"StudyInstanceUID {says}") as caught:
        read_uids(path)
    assert "passwd" not in str(caught.value)


def test_the_form_of_a_uid() -> None:
    assert is_uid("1.2.840.10008.1.2")
    for text in ("", "1.", ".1", "1.02", "1.2 ", "1/2", "1" * 65, "1.2\n"):
        assert not is_uid(text), text
