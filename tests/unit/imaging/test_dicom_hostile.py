"""DICOM files built to hurt: each gets one typed refusal, at once and in bounded memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason, RejectedFile
from imaging.reading import inspect, read_frames
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
PIXELS = ramp()
MIB = 1024 * 1024


def refused(data: bytes, limits: Limits = LIMITS, mib: int = 48) -> RejectedFile:
    """Read a file in both ways, and check that both refuse it alike, fast, and without much memory."""
    rejections = []
    for read in (inspect, read_frames):
        tracemalloc.start()
        started = time.perf_counter()
        with pytest.raises(RejectedFile, match=r"\.$") as caught:
            read(data, limits)
        assert time.perf_counter() - started < 3
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
        tracemalloc.stop()
        rejections.append(caught.value)
    assert rejections[0].reason is rejections[1].reason
    return rejections[1]


def replaced(data: bytes, tag: bytes, vr: bytes, value: bytes) -> bytes:
    """Replace an explicit little endian element with a short length."""
    at = data.index(tag, 132)
    length = struct.unpack_from("<H", data, at + 6)[0]
    return data[:at] + tag + vr + struct.pack("<H", len(value)) + value + data[at + 8 + length :]


ROWS, COLUMNS = b"\x28\x00\x10\x00", b"\x28\x00\x11\x00"


@pytest.mark.parametrize(
    ("tag", "vr", "value", "attribute"),
    [
        (ROWS, b"UL", struct.pack("<I", 65536 + 32), "Rows"),
        (COLUMNS, b"UL", struct.pack("<I", 48), "Columns"),
        (ROWS, b"SS", struct.pack("<h", -32), "Rows"),
        (ROWS, b"US", struct.pack("<H", 0), "Rows"),
        (COLUMNS, b"US", struct.pack("<H", 0), "Columns"),
        (ROWS, b"US", struct.pack("<HH", 32, 32), "Rows"),
        (ROWS, b"US", b"", "Rows"),
        (ROWS, b"US", b"\x01", "Rows"),
        (ROWS, b"LO", b"32", "Rows"),
    ],
)
def test_rows_and_columns_must_be_one_unsigned_short(tag: bytes, vr: bytes, value: bytes, attribute: str) -> None:
    rejection = refused(replaced(to_bytes(mr(PIXELS)), tag, vr, value))
    assert rejection.reason in (Reason.DICOM_VALUE, Reason.DICOM_MALFORMED)
    assert rejection.detail.get("attribute", attribute) == attribute


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, Reason.PICTURE_SIZE),
        ({"Rows": 16_000, "Columns": 16_000}, Reason.PICTURE_SIZE),
        ({"Rows": 5_000, "Columns": 5_000}, Reason.PIXEL_DATA_SHORT),
        ({"NumberOfFrames": 100_000}, Reason.FRAMES),
        ({"NumberOfFrames": 1_000}, Reason.PIXEL_DATA_SHORT),
        ({"NumberOfFrames": -1}, Reason.DICOM_VALUE),
        ({"NumberOfFrames": 0}, Reason.DICOM_VALUE),
        ({"Rows": 5_000, "Columns": 5_000, "NumberOfFrames": 1_999}, Reason.DECODED_BYTES),
        ({"BitsAllocated": 64}, Reason.PIXEL_FORMAT),
        ({"BitsAllocated": 12}, Reason.PIXEL_FORMAT),
        ({"BitsStored": 17}, Reason.DICOM_VALUE),
        ({"BitsStored": 0}, Reason.DICOM_VALUE),
        ({"HighBit": 3}, Reason.DICOM_VALUE),
        ({"HighBit": 16}, Reason.DICOM_VALUE),
        ({"SamplesPerPixel": 4}, Reason.PIXEL_FORMAT),
        ({"PhotometricInterpretation": "CMYK"}, Reason.PIXEL_FORMAT),
        ({"PhotometricInterpretation": None}, Reason.PIXEL_FORMAT),
        ({"PhotometricInterpretation": "RGB"}, Reason.PIXEL_FORMAT),
        ({"Rows": None}, Reason.DICOM_VALUE),
        ({"BitsAllocated": None}, Reason.DICOM_VALUE),
    ],
)
def test_impossible_layouts(attributes: dict[str, Any], reason: Reason) -> None:
    assert refused(to_bytes(mr(PIXELS, **attributes))).reason is reason


@pytest.mark.parametrize("missing", [1, 2, 100, 3000])
def test_pixel_data_short_by_any_number_of_bytes(missing: int) -> None:
    data = to_bytes(mr(PIXELS))
    rejection = refused(data[:-missing])
    assert rejection.reason is Reason.PIXEL_DATA_SHORT
    assert rejection.detail == {"announced": PIXELS.nbytes, "found": PIXELS.nbytes - missing}


def test_pixel_data_that_says_it_is_shorter_than_the_picture() -> None:
    assert refused(to_bytes(mr(PIXELS, PixelData=PIXELS.tobytes()[:-2]))).reason is Reason.PIXEL_DATA_SHORT


@pytest.mark.parametrize(
    ("attributes", "attribute"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"RescaleSlope": 1e300, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"RescaleSlope": 1, "RescaleIntercept": -1e300}, "RescaleIntercept"),
    ],
)
def test_absurd_rescale(attributes: dict[str, Any], attribute: str) -> None:
    data = to_bytes(mr(PIXELS, **attributes))
    with pytest.raises(RejectedFile, match=f"impossible value for {attribute}"):
        read_frames(data, LIMITS)


def test_a_slope_that_is_no_number() -> None:
    data = replaced(to_bytes(mr(PIXELS, RescaleSlope=1, RescaleIntercept=0)), b"\x28\x00\x53\x10", b"DS", b"NaN ")
    with pytest.raises(RejectedFile, match="impossible value for RescaleSlope"):
        read_frames(data, LIMITS)


def nested(depth: int, defined_length: bool) -> bytes:
    """A private sequence inside itself, `depth` deep, in explicit little endian."""
    body = b""
    if defined_length:
        for _ in range(depth):
            item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body
            body = b"\x08\x00\x40\x11SQ\x00\x00" + struct.pack("<I", len(item)) + item
        return body
    start = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    return start * depth + end * depth


def with_element(data: bytes, element: bytes) -> bytes:
    """Put an element in front of the patient group."""
    at = data.index(b"\x20\x00\x0d\x00UI", 132)
    return data[:at] + element + data[at:]


@pytest.mark.parametrize("depth", [40, 150, 200, 5_000, 50_000])
def test_sequences_nested_too_deep(depth: int) -> None:
    data = with_element(to_bytes(mr(PIXELS)), nested(depth, defined_length=False))
    rejection = refused(data)
    assert rejection.reason is Reason.SEQUENCE_DEPTH
    assert "deeper than the 32 levels" in str(rejection)


def test_sequences_nested_as_deep_as_allowed() -> None:
    data = with_element(to_bytes(mr(PIXELS)), nested(30, defined_length=False))
    assert inspect(data, LIMITS).rows == PIXELS.shape[0]


def test_deep_sequences_that_nobody_reads_do_no_harm() -> None:
    data = with_element(to_bytes(mr(PIXELS)), nested(2_000, defined_length=True))
    assert inspect(data, LIMITS).rows == PIXELS.shape[0]


@pytest.mark.parametrize("tag", [b"\x28\x00\x10\x30", b"\x28\x00\x00\x30"], ids=["VOI", "modality"])
def test_deep_sequences_in_the_way_of_the_window_do_no_harm(tag: bytes) -> None:
    inside = nested(3_000, defined_length=False)
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inside)) + inside
    table = tag + b"SQ\x00\x00" + struct.pack("<I", len(item)) + item
    data = to_bytes(mr(PIXELS))
    at = data.index(b"\xe0\x7f\x10\x00OW")
    (frame,) = read_frames(data[:at] + table + data[at:], LIMITS)
    assert frame.pixels.shape == PIXELS.shape


def test_an_undefined_length_that_is_never_closed() -> None:
    data = to_bytes(mr(PIXELS))
    at = data.index(b"\x20\x00\x0d\x00UI", 132)
    open_end = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert refused(data[:at] + open_end + data[at:]).outcome in (Outcome.UNREADABLE, Outcome.NO_PIXELS)


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFF, 10**6])
def test_a_length_beyond_the_file_reserves_nothing(length: int) -> None:
    data = to_bytes(mr(PIXELS))
    element = b"\x09\x00\x10\x10OB\x00\x00" + struct.pack("<I", length)
    assert refused(with_element(data, element)).outcome in (Outcome.UNREADABLE, Outcome.NO_PIXELS)


def test_a_length_beyond_the_file_reserves_nothing_in_a_long_file(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.dicom._READ_WHOLE_BYTES", 100)
    monkeypatch.setattr("imaging.reading._MAPPED_BEYOND_BYTES", 100)
    element = b"\x09\x00\x10\x10OB\x00\x00" + struct.pack("<I", 0xFFFFFFF0)
    path = tmp_path / "long.dcm"
    path.write_bytes(with_element(to_bytes(mr(PIXELS)), element))
    tracemalloc.start()
    with pytest.raises(RejectedFile, match="holds no picture"):
        inspect(path, LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def deflated_bomb(size_bytes: int) -> bytes:
    """A deflated data set that holds one private element of `size_bytes` zeros."""
    data = to_bytes(mr(PIXELS, syntax=ExplicitVRLittleEndian))
    meta_end = 144 + struct.unpack_from("<I", data, 140)[0]
    ds = mr(PIXELS, syntax=DeflatedExplicitVRLittleEndian)
    deflated = to_bytes(ds)
    meta = deflated[: 144 + struct.unpack_from("<I", deflated, 140)[0]]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data[meta_end:] + b"\xe1\x7f\x10\x10OB\x00\x00" + struct.pack("<I", size_bytes))
    chunk = bytes(MIB)
    for _ in range(size_bytes // MIB):
        body += packer.compress(chunk)
    return meta + body + packer.flush()


def test_a_deflated_bomb_is_stopped_at_the_cap() -> None:
    data = deflated_bomb(256 * MIB)
    assert len(data) < MIB
    rejection = refused(data, Limits(max_file_bytes=8 * MIB))
    assert rejection.reason is Reason.INFLATED_BYTES
    assert rejection.outcome is Outcome.OVER_LIMIT


def test_a_broken_deflate_stream() -> None:
    data = to_bytes(mr(PIXELS, syntax=DeflatedExplicitVRLittleEndian))
    at = 150 + struct.unpack_from("<I", data, 140)[0]
    assert refused(data[:at] + b"\xff" * 40 + data[at + 40 :]).outcome is Outcome.UNREADABLE


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.95", "1.2.3.4", "../../etc", "", "x" * 500]
)
def test_other_transfer_syntaxes_are_named_and_refused(syntax: str) -> None:
    data = to_bytes(mr(PIXELS))
    at = data.index(b"\x02\x00\x10\x00UI")
    length = struct.unpack_from("<H", data, at + 6)[0]
    value = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\x00")
    changed = data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + length :]
    rejection = refused(changed)
    assert rejection.reason is Reason.TRANSFER_SYNTAX
    assert syntax == "" or syntax not in str(rejection), "what the file made up is not repeated"


def encapsulated(syntax: UID, fragments: list[bytes], **attributes: Any) -> bytes:
    ds = mr((PIXELS // 16).astype(np.uint8), 8, **attributes)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(fragments)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return to_bytes(ds)


def stream(syntax: UID) -> bytes:
    """A valid compressed frame of the ramp."""
    import cv2

    eight = (PIXELS // 16).astype(np.uint8)
    done, data = cv2.imencode(".jpg" if syntax == JPEGBaseline8Bit else ".jp2", eight)
    assert done
    found = data.tobytes()
    return found[found.index(b"\xff\x4f\xff\x51") :] if syntax == JPEG2000Lossless else found


def huge_jpeg() -> bytes:
    data = bytearray(stream(JPEGBaseline8Bit))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def huge_jpeg2000() -> bytes:
    data = bytearray(stream(JPEG2000Lossless))
    data[8:16] = struct.pack(">II", 60_000, 60_000)
    data[24:32] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)


def hidden_frame_header() -> bytes:
    """A JPEG whose frame header comes after more comments than anybody reads at once."""
    comment = b"\xff\xfe\xff\xff" + b"\x00" * 65_533
    return b"\xff\xd8" + comment * 3 + huge_jpeg()[2:]


@pytest.mark.parametrize(
    ("syntax", "make", "reason"),
    [
        (JPEGBaseline8Bit, huge_jpeg, Reason.FRAME_MISMATCH),
        (JPEGBaseline8Bit, hidden_frame_header, Reason.FRAME_MISMATCH),
        (JPEG2000Lossless, huge_jpeg2000, Reason.FRAME_MISMATCH),
        (JPEGBaseline8Bit, lambda: b"\xff\xd8\xff\xd9", Reason.DICOM_MALFORMED),
        (JPEGBaseline8Bit, lambda: b"no picture at all", Reason.TRUNCATED),
        (JPEG2000Lossless, lambda: b"\xff\x4f\xff\x51\x00\x29", Reason.DICOM_MALFORMED),
        (RLELossless, lambda: bytes(100_000), Reason.FRAME_MISMATCH),
    ],
)
def test_streams_that_state_another_size_than_the_header(
    syntax: UID, make: Callable[[], bytes], reason: Reason
) -> None:
    assert refused(encapsulated(syntax, [make()])).reason is reason


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
def test_valid_streams_pass_the_same_checks(syntax: UID) -> None:
    (frame,) = read_frames(encapsulated(syntax, [stream(syntax)]), LIMITS)
    np.testing.assert_allclose(frame.pixels, (PIXELS // 16) / 255, atol=0.03)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
def test_encapsulated_pixels_that_end_too_early(syntax: UID, kept: float) -> None:
    data = encapsulated(syntax, [stream(syntax)])
    at = data.index(b"\xe0\x7f\x10\x00OB")
    cut = data[: at + int((len(data) - at) * kept)]
    assert refused(cut).reason is Reason.TRUNCATED


def test_fewer_streams_than_frames() -> None:
    data = encapsulated(JPEGBaseline8Bit, [stream(JPEGBaseline8Bit)], NumberOfFrames=2)
    assert refused(data).reason is Reason.TRUNCATED


def test_an_extended_offset_table_cannot_lead_past_the_checks() -> None:
    good = stream(JPEGBaseline8Bit)
    offsets = {
        "ExtendedOffsetTable": struct.pack("<Q", 10**12),
        "ExtendedOffsetTableLengths": struct.pack("<Q", 10**12),
    }
    (frame,) = read_frames(encapsulated(JPEGBaseline8Bit, [good], **offsets), LIMITS)
    assert frame.pixels.shape == PIXELS.shape


def test_native_pixels_called_compressed_and_the_other_way_round() -> None:
    native = to_bytes(mr(PIXELS)).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.5\x00")
    assert refused(native).outcome is Outcome.UNREADABLE
    packed = encapsulated(RLELossless, [bytes(64)]).replace(b"1.2.840.10008.1.2.5\x00", b"1.2.840.10008.1.2.1\x00")
    assert refused(packed).outcome is Outcome.UNREADABLE


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "../../x"),
        ("SOPInstanceUID", "1." * 250 + "1"),
        ("StudyInstanceUID", "1.2.3/4"),
        ("SeriesInstanceUID", "1..2"),
        ("StudyInstanceUID", "<script>"),
    ],
)
def test_uids_that_are_paths_or_markup_are_refused(keyword: str, value: str) -> None:
    ds = mr(PIXELS)
    ds.add_new(keyword, "LO", "1")
    ds[keyword]._value = value
    ds[keyword].VR = "UI"
    with pytest.raises(RejectedFile, match=f"malformed identifier for {keyword}") as caught:
        inspect(to_bytes(ds), LIMITS)
    assert value not in str(caught.value)


def test_names_full_of_tricks_come_out_plain() -> None:
    name = "<img src=x onerror=alert(1)>\u202e\x00\x1b" + "n" * 65_000
    ds = mr(PIXELS, SpecificCharacterSet="ISO_IR 192", PatientComments="x")
    ds.add_new("PatientName", "PN", "A")
    ds.add_new("SeriesDescription", "UT", name)
    facts = inspect(to_bytes(ds), LIMITS).dicom
    assert facts is not None
    assert facts.series_description is not None
    assert facts.series_description.startswith("<img src=x onerror=alert(1)>nnn")
    assert len(facts.series_description) == LIMITS.max_text_length


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 128 + b"DICM",
        b"\x00" * 128 + b"DICM then text that goes on and on",
        to_bytes(mr(PIXELS))[:200],
        to_bytes(mr(PIXELS))[:300],
        b"\x00" * 128 + b"DICM" + b"\xff" * 5_000,
        b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 64,
    ],
    ids=["0 bytes", "magic alone", "text", "200 bytes", "300 bytes", "ones", "bare meta"],
)
def test_stumps(data: bytes) -> None:
    assert refused(data).outcome in (Outcome.EMPTY, Outcome.UNREADABLE, Outcome.NO_PIXELS, Outcome.OVER_LIMIT)


def test_group_length_missing_or_wrong() -> None:
    data = to_bytes(mr(PIXELS))
    wrong = data[:140] + struct.pack("<I", 9_999) + data[144:]
    missing = data[:132] + data[144:]
    for changed in (wrong, missing):
        assert inspect(changed, LIMITS).rows == PIXELS.shape[0]


def test_implicit_data_in_an_explicit_file() -> None:
    explicit = to_bytes(mr(PIXELS))
    implicit = to_bytes(mr(PIXELS, syntax=ImplicitVRLittleEndian))
    meta_end = 144 + struct.unpack_from("<I", explicit, 140)[0]
    body = implicit[144 + struct.unpack_from("<I", implicit, 140)[0] :]
    (frame,) = read_frames(explicit[:meta_end] + body, LIMITS)
    np.testing.assert_allclose(frame.pixels, PIXELS / 4095, atol=1e-6)


def test_absurd_geometry_is_unknown_and_the_picture_is_read() -> None:
    ds = mr(PIXELS, ImageOrientationPatient=[9, 9, 9, 9, 9, 9], ImagePositionPatient=[0, 0, 1], PixelSpacing=[0, 0])
    geometry = inspect(to_bytes(ds), LIMITS).geometry[0]
    assert (geometry.plane, geometry.position_mm, geometry.spacing_mm) == (None, None, None)


def test_a_table_of_contents_is_ignored_even_under_another_name() -> None:
    ds = mr(PIXELS, SOPClassUID="1.2.840.10008.1.3.10")
    assert refused(to_bytes(ds)).outcome is Outcome.IGNORED


def test_functional_groups_that_are_too_few_or_empty() -> None:
    ds = mr(np.stack([PIXELS] * 3))
    ds.PerFrameFunctionalGroupsSequence = Sequence([Dataset()])
    ds.SharedFunctionalGroupsSequence = Sequence([])
    data = to_bytes(ds)
    assert [one.plane for one in inspect(data, LIMITS).geometry] == [None] * 3
    assert len(read_frames(data, LIMITS)) == 3


def test_random_damage_never_escapes_as_another_error() -> None:
    random = np.random.default_rng(11)
    ds = mr(PIXELS, WindowCenter=2048, WindowWidth=4096, PatientName="A^B", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    rle = mr(PIXELS)
    rle.compress(RLELossless, generate_instance_uid=False)
    wholes = [
        to_bytes(ds),
        to_bytes(rle),
        encapsulated(JPEGBaseline8Bit, [stream(JPEGBaseline8Bit)]),
        encapsulated(JPEG2000Lossless, [stream(JPEG2000Lossless)]),
    ]
    outcomes = set()
    for whole in wholes:
        for _ in range(120):
            data = bytearray(whole)
            last = len(data) if random.random() < 0.5 else min(900, len(data))
            for at in random.integers(128, last, random.integers(1, 6)):
                data[at] = random.integers(0, 256)
            for read in (inspect, read_frames):
                try:
                    read(bytes(data), LIMITS)
                except RejectedFile as caught:
                    outcomes.add(caught.outcome)
    assert Outcome.UNREADABLE in outcomes
    assert Outcome.ACCEPTED not in outcomes
