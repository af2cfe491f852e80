"""`imaging.dicom_plain`: what it gives is what the long way gives, to the bit, and it gives nothing else."""

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from config.settings import ROOT
from imaging.dicom_plain import plain_pixels, read_plain
from imaging.limits import Limits
from imaging.outcomes import RejectedFile
from imaging.reading import read_frame
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
DEEP = ramp()
SIGNED = (DEEP.astype(np.int32) - 2000).astype(np.int16)
SHALLOW = (DEEP // 16).astype(np.uint8)
FLAT = np.full((8, 8), 5, np.uint16)


TABLE: dict[str, Any] = {"LUTDescriptor": [3, 0, 8], "LUTData": b"\x00\x00\x01\x00\xff\x00"}


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


PLAIN: list[tuple[NDArray[Any], int, dict[str, Any]]] = [
    (DEEP, 12, {}),
    (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 3000}),
    (DEEP, 12, {"WindowCenter": ["900", "1e2"], "WindowWidth": ["+800.5", "1"]}),
    (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 0}),
    (DEEP, 12, {"WindowCenter": 90000, "WindowWidth": 2}),
    (DEEP, 12, {"WindowCenter": "", "WindowWidth": 3000}),
    (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "SIGMOID"}),
    (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "LINEAR_EXACT"}),
    (DEEP, 12, {"RescaleSlope": "2.5", "RescaleIntercept": "-1024"}),
    (DEEP, 12, {"RescaleIntercept": "-1024", "WindowCenter": 40, "WindowWidth": 400}),
    (DEEP, 12, {"RescaleSlope": "1", "RescaleIntercept": "0"}),
    (DEEP, 12, {"RescaleSlope": "-1", "WindowCenter": -2000, "WindowWidth": 3000}),
    (DEEP, 10, {}),
    (DEEP, 16, {"NumberOfFrames": 1, "Modality": "MR"}),
    (DEEP, 12, {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2000, "WindowWidth": 3000}),
    (SIGNED, 16, {}),
    (SIGNED, 12, {"WindowCenter": 0, "WindowWidth": 3000}),
    (SHALLOW, 8, {}),
    (SHALLOW, 8, {"RescaleSlope": "2"}),
    (SHALLOW, 8, {"PhotometricInterpretation": "MONOCHROME1"}),
    (SHALLOW.astype(np.int8), 8, {}),
    (FLAT, 12, {"WindowCenter": 2000, "WindowWidth": 3000}),
    (FLAT, 12, {}),
    (DEEP, 12, {"PatientName": "Doe^Jane", "StudyDescription": "x" * 64, "ImageComments": "y" * 900}),
]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda one: one.keyword)
@pytest.mark.parametrize(("pixels", "bits", "attributes"), PLAIN)
def test_plain_files_give_the_same_bits(
    syntax: UID, pixels: NDArray[Any], bits: int, attributes: dict[str, Any]
) -> None:
    data = to_bytes(mr(pixels, bits, syntax, **attributes))
    expected = read_frame(data, 0, LIMITS).pixels

    short = plain_pixels(data, LIMITS)

    assert short is not None
    assert short.dtype == np.float32
    assert short.shape == expected.shape
    assert short.tobytes() == expected.tobytes()
    assert short.flags.writeable


def test_the_uncompressed_examples_are_plain() -> None:
    for path in sorted((ROOT / "examples" / "two" / "dicom").rglob("*.dcm")):
        short = read_plain(path, LIMITS)

        assert short is not None
        assert short.tobytes() == read_frame(path, 0, LIMITS).pixels.tobytes()


def test_files_that_are_missing_long_disguised_or_no_dicom_go_the_long_way(tmp_path: Path) -> None:
    whole = to_bytes(mr(DEEP))
    path = tmp_path / "file"
    for data in (b"", b"text", b"MZ" + whole[2:], whole[:140]):
        path.write_bytes(data)
        assert read_plain(path, LIMITS) is None
    path.write_bytes(whole)

    assert read_plain(tmp_path / "missing", LIMITS) is None
    assert read_plain(path, Limits(max_file_bytes=len(whole) - 1)) is None
    assert read_plain(path, Limits(max_file_bytes=len(whole))) is not None


OTHERS: list[dict[str, Any]] = [
    {"PixelPaddingValue": 0},
    {"VOILUTSequence": [_item(**TABLE, LUTExplanation="x")]},
    {"ModalityLUTSequence": [_item(**TABLE, ModalityLUTType="US")]},
    {"SharedFunctionalGroupsSequence": [_item(FrameVOILUTSequence=[_item(WindowCenter=9, WindowWidth=9)])]},
    {"PhotometricInterpretation": "PALETTE COLOR"},
    {"BitsStored": 12, "HighBit": 13},
    {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"},
    {"SOPClassUID": "../../x"},
    {"RescaleSlope": 0},
    {"VOILUTFunction": "PARABOLIC"},
    {"Rows": 0},
    {"Columns": 60000},
]


@pytest.mark.parametrize("attributes", OTHERS, ids=lambda one: next(iter(one)))
def test_other_forms_go_the_long_way(attributes: dict[str, Any]) -> None:
    assert plain_pixels(to_bytes(mr(DEEP, **attributes)), LIMITS) is None


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes_go_the_long_way(syntax: UID) -> None:
    if syntax == RLELossless:
        dataset = mr(DEEP)
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset = mr(DEEP, syntax=syntax)

    assert plain_pixels(to_bytes(dataset), LIMITS) is None


def test_several_frames_colour_and_other_modalities_go_the_long_way() -> None:
    colour = np.zeros((4, 4, 3), np.uint8)
    for dataset in (
        mr(np.stack([DEEP, DEEP])),
        mr(colour, 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        mr(DEEP, Modality="CT", SOPClassUID=CTImageStorage),
    ):
        assert plain_pixels(to_bytes(dataset), LIMITS) is None


@pytest.mark.parametrize(
    "limits", [Limits(max_side=40), Limits(max_pixels=1000), Limits(max_decoded_bytes=4000)], ids=lambda one: repr(one)
)
def test_limits_are_kept(limits: Limits) -> None:
    assert plain_pixels(to_bytes(mr(DEEP)), limits) is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda one: one.keyword)
def test_missing_bytes_go_the_long_way(syntax: UID) -> None:
    data = to_bytes(mr(DEEP, syntax=syntax))

    for kept in (0, 131, 140, 300, len(data) // 2, len(data) - 1):
        assert plain_pixels(data[:kept], LIMITS) is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda one: one.keyword)
def test_damaged_headers_never_give_other_pixels_than_the_long_way(syntax: UID) -> None:
    """Whatever the short way accepts, the long way accepts, with the same result."""
    whole = to_bytes(mr(DEEP[:8, :8], syntax=syntax, WindowCenter=2000, WindowWidth=3000, RescaleSlope="2"))
    start = whole.index(struct.pack("<HH", 0x7FE0, 0x0010))
    rng = random.Random(7)
    accepted = 0
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 4))):
            data[rng.randrange(132, start + 12)] = rng.choice((rng.randrange(256), 0, 255, 32, 92))
        short = plain_pixels(bytes(data), LIMITS)
        if short is None:
            continue
        accepted += 1
        try:
            expected = read_frame(bytes(data), 0, LIMITS).pixels
        except RejectedFile as rejection:
            pytest.fail(f"the long way refuses what the short way reads: {rejection}")
        assert short.tobytes() == expected.tobytes()
    assert accepted > 300
