"""De-identified files: none of the marked words is left, the pixels are, and the rest still reads."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imaging import descriptors, profile_table
from imaging.deidentify import deidentify
from imaging.frames import DicomFacts, ImageInfo, Kind
from imaging.limits import Limits
from imaging.outcomes import RejectedFile
from imaging.pseudonyms import Pseudonyms
from imaging.reading import inspect, read_frames, without_identity
from imaging.text_risk import TextRisk, text_risk
from tests.fuzz.seeds import seeds
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
KEY = b"k" * 32
MARK = "ZZMARKZZ"
STUDY = "1.2.826.99.1"


def marked(**more: Any) -> Dataset:
    """An image with a marked word, date or number in everything that a file may say about somebody."""
    ds = mr(
        ramp(),
        StudyInstanceUID=STUDY,
        PatientName=f"{MARK}^Jane",
        PatientID=f"{MARK}-7",
        PatientBirthDate="19700203",
        PatientSex="F",
        PatientAddress=MARK,
        AccessionNumber=MARK,
        InstitutionName=MARK,
        ReferringPhysicianName=MARK,
        OperatorsName=[f"{MARK}^A", f"{MARK}^B"],
        StationName=MARK,
        StudyID=MARK,
        StudyDate="20240229",
        StudyTime="101112",
        AcquisitionDateTime="20240229101112.5+0100",
        StudyDescription=f"MR brain {MARK}",
        SeriesDescription=f"t1_mprage sag post {MARK}",
        ProtocolName=f"{MARK} T1",
        ImageComments=MARK,
        RequestedProcedureDescription=MARK,
        Manufacturer="ACME",
        EchoTime=3.5,
        RepetitionTime=600,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[0, 0, 5],
        FrameOfReferenceUID="1.2.3.4",
        **more,
    )
    inner = Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.5"
    inner.PatientName = MARK
    ds.ReferencedImageSequence = Sequence([inner])
    inner = Dataset()
    inner.ScheduledProcedureStepDescription = MARK
    ds.RequestAttributesSequence = Sequence([inner])
    block = ds.private_block(0x0029, f"{MARK} MAKER", create=True)
    block.add_new(0x10, "LO", MARK)
    ds.add(DataElement(0x60000010, "US", 1))
    ds.add(DataElement(0x60000022, "LO", MARK))
    ds.add(DataElement(0x00090101, "LO", MARK))
    ds.add(DataElement(0xFFFCFFFC, "OB", MARK.encode()))
    return ds


def raw(ds: Dataset) -> bytes:
    """As a file, with a marked preamble and sender."""
    assert isinstance(ds.file_meta, Dataset)
    ds.preamble = MARK.encode().ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = MARK
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=False)
    return out.getvalue()


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.keyword,
)
def test_nothing_that_names_somebody_is_left(syntax: Any) -> None:
    data = raw(marked(syntax=syntax))
    new = deidentify(data, KEY, LIMITS)
    for word in (MARK, "19700203", "20240229", STUDY, "1.2.3.4", "1.2.3.5"):
        assert word.encode() not in new, word
    assert new == deidentify(data, KEY, LIMITS), "not the same twice"
    assert np.array_equal(read_frames(new, LIMITS)[0].pixels, read_frames(data, LIMITS)[0].pixels)
    before, after = inspect(data, LIMITS), inspect(new, LIMITS)
    assert after.geometry == before.geometry
    assert after.dicom is not None
    assert after.identity is not None
    assert (after.dicom.echo_time_ms, after.dicom.manufacturer, after.dicom.instance_number) == (3.5, "ACME", 7)
    assert after.dicom.study_description == "MR brain"
    assert after.dicom.series_description == "t1 mprage sag post"
    names = Pseudonyms(KEY, f"PatientID\0{MARK}-7".lower().replace("patientid", "PatientID"))
    assert (after.identity.patient_name, after.identity.patient_id) == (names.patient, names.patient)
    assert (after.identity.patient_birth_date, after.identity.accession_number) == (None, None)
    assert after.dicom.study_instance_uid == names.uid(STUDY)
    read = dcmread(io.BytesIO(new))
    assert read.StudyDate == names.date("20240229")
    assert read.AcquisitionDateTime == read.StudyDate + "101112.5+0100"
    assert (read.PatientIdentityRemoved, read.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
    assert [code.CodeValue for code in read.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
    assert read.ReferencedImageSequence[0].ReferencedSOPInstanceUID == names.uid("1.2.3.5")
    assert read.ReferencedImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
    assert "RequestAttributesSequence" not in read


def test_every_attribute_of_the_table_goes_or_changes() -> None:
    """Each attribute of Table E.1-1 of a kind that holds text, in one file, top and nested."""
    from pydicom.datadict import dictionary_VM, dictionary_VR

    ds = mr(ramp())
    nested = Dataset()
    put = 0
    for tag in profile_table.actions():
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue
        if (
            tag >> 16 in (0, 2)
            or tag >> 16 >= 0x7FE0
            or vr not in ("LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "DA", "DT", "UI", "UR")
        ):
            continue
        value = {"DA": "20240229", "DT": "20240229101112", "UI": "1.2.3.4.5"}.get(vr, MARK)
        assert dictionary_VM(tag)
        for target in (ds, nested):
            target.add(DataElement(tag, vr, value))
        put += 1
    assert put > 300
    ds.PatientName = MARK
    ds.DerivationCodeSequence = Sequence([nested])
    new = deidentify(to_bytes(ds), KEY, LIMITS)
    for word in (MARK, "20240229", "1.2.3.4.5"):
        assert word.encode() not in new, word


def test_dates_and_pseudonyms_go_by_patient_and_key() -> None:
    one, same, other = (Pseudonyms(KEY, who) for who in ("a", "a", "b"))
    assert (one.patient, one.date("20240229")) == (same.patient, same.date("20240229"))
    assert one.patient != other.patient
    assert Pseudonyms(b"x" * 32, "a").patient != one.patient
    from datetime import date

    first, second = (date.fromisoformat(one.date(day)) for day in ("20240101", "20240131"))
    assert (second - first).days == 30
    assert first < date(2024, 1, 1)
    assert [one.date(text) for text in ("", "x", "20241399", "00010101")] == ["", "", "", ""]
    assert one.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert len(one.uid("1.2.3")) <= 64


def test_only_known_words_of_a_description_stay() -> None:
    assert descriptors.clean("AX T2 FLAIR Smith, John 1970-02-03 +C 3D") == "AX T2 FLAIR +C 3D"
    assert descriptors.clean("T1W_3D_TFE_POST_GAD roe^jane") == "T1W 3D TFE POST GAD"
    assert descriptors.clean("O'Brien") == ""


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless.dcm", "nested_priv_SQ.dcm", "no_meta.dcm", "UN_sequence.dcm"]
)
def test_odd_files_are_read_as_before(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    try:
        before = [frame.pixels for frame in read_frames(path, LIMITS)]
    except RejectedFile:
        before = []
    new = deidentify(path, KEY, LIMITS)
    if before:
        for old, found in zip(before, read_frames(new, LIMITS), strict=True):
            assert np.array_equal(old, found.pixels)
    assert not [element for element in dcmread(io.BytesIO(new), force=True) if element.tag.is_private]


def test_every_seed_of_the_fuzzer_is_kept_or_refused() -> None:
    for name, data in seeds().items():
        if name.endswith(".zip"):
            continue
        try:
            new, old = without_identity(data, KEY, LIMITS), read_frames(data, LIMITS)
        except RejectedFile:
            continue
        for before, after in zip(old, read_frames(new, LIMITS), strict=True):
            assert np.array_equal(before.pixels, after.pixels), name


def picture(kind: str, mode: str, **more: Any) -> bytes:
    """A picture with marked words in every corner of the file."""
    values = np.arange(24 * 16 * 4, dtype=np.uint32).reshape(24, 16, 4) * 37 % 251
    image = (
        Image.fromarray(values[..., :3].astype(np.uint8), "RGB").convert(mode)
        if mode != "I;16"
        else Image.fromarray((values[..., 0] * 199).astype(np.uint16))
    )
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x0112] = MARK, MARK, 6
    options: dict[str, Any] = {}
    if kind in ("PNG", "JPEG"):
        options["exif"] = exif
    if kind == "JPEG":
        options["comment"] = MARK
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Patient", MARK)
    if kind == "TIFF":
        options["tiffinfo"] = {270: MARK, 315: MARK}
    out = io.BytesIO()
    image.save(out, kind, **options, **more)
    return out.getvalue() + MARK.encode()


@pytest.mark.parametrize(
    ("kind", "mode", "more"),
    [
        ("PNG", "L", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "L", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "I;16", {}),
        ("TIFF", "1", {}),
    ],
)
def test_of_a_picture_only_the_picture_stays(kind: str, mode: str, more: dict[str, Any]) -> None:
    data = picture(kind, mode, **more)
    assert MARK.encode() in data
    new = without_identity(data, KEY, LIMITS)
    assert MARK.encode() not in new
    (before,), (after,) = read_frames(data, LIMITS), read_frames(new, LIMITS)
    assert np.array_equal(before.pixels, after.pixels)
    assert new == without_identity(data, KEY, LIMITS)


def test_a_form_that_cannot_be_kept_is_refused() -> None:
    out = io.BytesIO()
    Image.new("F", (8, 8)).save(out, "TIFF")
    with pytest.raises(RejectedFile, match=r"TIFF.*save it as PNG"):
        without_identity(out.getvalue(), KEY, LIMITS)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"burned_in_annotation": True}, TextRisk.DECLARED),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, TextRisk.CAPTURE),
        ({"conversion_type": "WSD"}, TextRisk.CAPTURE),
        ({"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, TextRisk.CAPTURE),
        ({"conversion_type": "WSD", "burned_in_annotation": False}, None),
    ],
)
def test_signs_of_text_in_the_pixels(facts: dict[str, Any], expected: TextRisk | None) -> None:
    info = ImageInfo(Kind.DICOM, 1, 1, 1, 1, 16, False, (), DicomFacts(**facts))
    assert text_risk(info) is expected
