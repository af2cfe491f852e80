"""DICOM as scanners and archives write it: transfer syntaxes, intensities, frames, geometry, facts."""

from __future__ import annotations

import shutil
import struct
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from imaging.frames import Intensity, Kind
from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason, RejectedFile
from imaging.quiet import silence_decoders
from imaging.reading import inspect, read_frame, read_frames
from tests.unit.imaging.dicom_files import INSTANCE, SERIES, STUDY, mr, ramp, to_bytes

LIMITS = Limits()
PIXELS = ramp()
FULL_WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
EXPECTED = PIXELS / 4095.0


def item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.keyword,
)
@pytest.mark.parametrize("source", ["bytes", "path", "long path"])
def test_native_transfer_syntaxes(syntax: UID, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_bytes(mr(PIXELS, syntax=syntax, **FULL_WINDOW))
    path = tmp_path / "anything.txt"
    path.write_bytes(data)
    if source == "long path":
        monkeypatch.setattr("imaging.dicom._READ_WHOLE_BYTES", 100)
        monkeypatch.setattr("imaging.reading._MAPPED_BEYOND_BYTES", 100)
    received = data if source == "bytes" else path
    info = inspect(received, LIMITS)
    assert (info.kind, info.rows, info.columns, info.frames, info.bits) == (Kind.DICOM, *PIXELS.shape, 1, 16)
    assert info.size_bytes == len(data)
    assert info.dicom is not None
    assert info.dicom.transfer_syntax_uid == syntax
    (frame,) = read_frames(received, LIMITS)
    np.testing.assert_allclose(frame.pixels, EXPECTED, atol=1e-6)
    assert frame.intensity is Intensity.WINDOW


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEG2000], ids=lambda syntax: syntax.keyword)
def test_compressed_by_pydicom(syntax: UID) -> None:
    ds = mr(PIXELS, **FULL_WINDOW)
    options: dict[str, Any] = {"j2k_psnr": [80]} if syntax == JPEG2000 else {}
    ds.compress(syntax, generate_instance_uid=False, **options)
    np.testing.assert_allclose(read_frame(to_bytes(ds), 0, LIMITS).pixels, EXPECTED, atol=5e-3)


@pytest.mark.parametrize(
    ("tool", "options", "bits", "tolerance"),
    [
        ("dcmcrle", [], 12, 0),
        ("dcmcjpeg", ["+e1"], 12, 0),
        ("dcmcjpeg", ["+el"], 12, 0),
        ("dcmcjpeg", ["+eb"], 8, 0.03),
        ("dcmcjpls", ["+el"], 12, 0),
        ("dcmcjpls", ["+en", "+md", "2"], 12, 3e-3),
        ("dcmconv", ["+ti"], 12, 0),
        ("dcmconv", ["+tb"], 12, 0),
        ("dcmconv", ["+td"], 12, 0),
    ],
)
def test_compressed_by_dcmtk(tool: str, options: list[str], bits: int, tolerance: float, tmp_path: Path) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed (Debian package dcmtk)")
    values = PIXELS if bits == 12 else (PIXELS // 16).astype(np.uint8)
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    plain.write_bytes(to_bytes(mr(values, bits, **(FULL_WINDOW if bits == 12 else {}))))
    subprocess.run([program, *options, plain, packed], check=True, capture_output=True, timeout=30)
    assert inspect(packed, LIMITS).frames == 1
    expected = EXPECTED if bits == 12 else values / 255
    np.testing.assert_allclose(read_frame(packed, 0, LIMITS).pixels, expected, atol=tolerance + 1e-6)


def test_a_slice_as_dicom_and_as_png_is_the_same_picture() -> None:
    eight = np.rint(EXPECTED * 255).astype(np.uint8)
    pictures = {
        "8 bits": to_bytes(mr(eight, 8)),
        "8 bits inverted": to_bytes(mr(255 - eight, 8, PhotometricInterpretation="MONOCHROME1")),
        "12 bits, window": to_bytes(mr(PIXELS, **FULL_WINDOW)),
        "12 bits, no window": to_bytes(mr(PIXELS)),
        "secondary capture": to_bytes(
            mr(
                np.dstack([eight] * 3),
                8,
                SamplesPerPixel=3,
                PhotometricInterpretation="RGB",
                PlanarConfiguration=0,
                Modality="OT",
                SOPClassUID=SecondaryCaptureImageStorage,
            )
        ),
    }
    done, png = cv2.imencode(".png", eight)
    assert done
    expected = read_frame(png.tobytes(), 0, LIMITS).pixels
    for name, data in pictures.items():
        shown = read_frame(data, 0, LIMITS).pixels
        assert np.abs(shown - expected).max() <= 0.5 / 255 + 1e-5, name


def test_monochrome1_is_inverted_after_the_window() -> None:
    # Centre 1000, width 1001: stored 499.5 and below is black, 1499.5 and above white, before the inversion.
    data = to_bytes(mr(PIXELS, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=1001))
    expected = 1 - np.clip((PIXELS.astype(float) - 999.5) / 1000 + 0.5, 0, 1)
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, expected, atol=1e-5)
    stretched = to_bytes(mr(PIXELS, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(read_frame(stretched, 0, LIMITS).pixels, 1 - EXPECTED, atol=1e-6)


def test_rescale_comes_before_the_window() -> None:
    data = to_bytes(mr(PIXELS, RescaleSlope=2.0, RescaleIntercept=-1000.0, WindowCenter=3096, WindowWidth=8191))
    expected = np.clip((PIXELS * 2.0 - 1000 - 3095.5) / 8190 + 0.5, 0, 1)
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, expected, atol=1e-5)


def test_signed_pixels() -> None:
    signed = PIXELS.astype(np.int16) - 2048
    frame = read_frame(to_bytes(mr(signed, WindowCenter=0, WindowWidth=4096)), 0, LIMITS)
    np.testing.assert_allclose(frame.pixels, EXPECTED, atol=1e-6)
    np.testing.assert_allclose(read_frame(to_bytes(mr(signed)), 0, LIMITS).pixels, EXPECTED, atol=1e-6)


def test_bits_above_those_stored_are_not_pixels() -> None:
    overlaid = (PIXELS >> 2) | np.uint16(0x8000)  # an old-style overlay in the top bit
    frame = read_frame(to_bytes(mr(overlaid, 10)), 0, LIMITS)
    np.testing.assert_allclose(frame.pixels, (PIXELS >> 2) / 1023, atol=1e-5)


@pytest.mark.parametrize("bits", [9, 11, 13, 15, 16])
def test_odd_bit_depths(bits: int) -> None:
    values = ramp(highest=2**bits - 1)
    frame = read_frame(to_bytes(mr(values, bits)), 0, LIMITS)
    np.testing.assert_allclose(frame.pixels, values / (2**bits - 1), atol=1e-5)


def test_padding_is_black_and_does_not_count() -> None:
    values = PIXELS.astype(np.int16) + 100
    values[0, :5] = -2000
    data = to_bytes(mr(values, 16, PixelPaddingValue=-2000))
    frame = read_frame(data, 0, LIMITS)
    assert (frame.pixels[0, :5] == 0).all()
    low, high = values[values > -2000].min(), values.max()
    np.testing.assert_allclose(frame.pixels[1:], (values[1:] - low) / (high - low), atol=1e-5)
    inverted = to_bytes(mr(values, 16, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1"))
    assert (read_frame(inverted, 0, LIMITS).pixels[0, :5] == 0).all()


def test_a_range_of_padding_values() -> None:
    values = PIXELS.copy()
    data = to_bytes(mr(values, PixelPaddingValue=0, PixelPaddingRangeLimit=1000))
    pixels = read_frame(data, 0, LIMITS).pixels
    assert (pixels[values <= 1000] == 0).all()
    assert pixels.max() == 1


def test_padding_that_covers_everything_is_a_mistake() -> None:
    data = to_bytes(mr(PIXELS, PixelPaddingValue=0, PixelPaddingRangeLimit=65535))
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, EXPECTED, atol=1e-6)


def test_the_first_of_several_windows_counts() -> None:
    data = to_bytes(mr(PIXELS, WindowCenter=[2048, 10], WindowWidth=[4096, 20]))
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, EXPECTED, atol=1e-6)


def test_the_sigmoid_function_is_used_when_named() -> None:
    data = to_bytes(mr(PIXELS, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    expected = 1 / (1 + np.exp(-4 * (PIXELS - 2000.0) / 1000))
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, expected, atol=1e-5)


@pytest.mark.parametrize(("centre", "width"), [(2048, 0), (2048, -1), (900_000, 10), ("", "")])
def test_an_unusable_window_falls_back_to_darkest_and_brightest(centre: object, width: object) -> None:
    frame = read_frame(to_bytes(mr(PIXELS, WindowCenter=centre, WindowWidth=width)), 0, LIMITS)
    assert frame.intensity is Intensity.MIN_MAX
    np.testing.assert_allclose(frame.pixels, EXPECTED, atol=1e-6)


def lut(entries: NDArray[np.uint16], first: int, bits: int, as_bytes: bool) -> Dataset:
    table = item(LUTDescriptor=[len(entries) % 65536, first, bits])
    table.add_new(0x00283006, "OW" if as_bytes else "US", entries.tobytes() if as_bytes else entries.tolist())
    table["LUTDescriptor"].VR = "US"
    return table


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_voi_table_counts_before_a_window(as_bytes: bool) -> None:
    entries = np.linspace(0, 1023, 2000).astype(np.uint16)
    table = Sequence([lut(entries, 1000, 10, as_bytes)])
    data = to_bytes(mr(PIXELS, VOILUTSequence=table, WindowCenter=10, WindowWidth=20))
    frame = read_frame(data, 0, LIMITS)
    expected = entries[np.clip(PIXELS.astype(int) - 1000, 0, 1999)] / 1023
    np.testing.assert_allclose(frame.pixels, expected, atol=1e-6)
    assert frame.intensity is Intensity.VOI_LUT


def test_a_modality_table_comes_first() -> None:
    entries = (np.arange(4096, dtype=np.uint16) // 2).astype(np.uint16)
    table = Sequence([lut(entries, 0, 12, True)])
    data = to_bytes(mr(PIXELS, ModalityLUTSequence=table, WindowCenter=1024, WindowWidth=2048))
    expected = np.clip((PIXELS // 2 - 1023.5) / 2047 + 0.5, 0, 1)
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, expected, atol=1e-5)


@pytest.mark.parametrize(
    "broken",
    [item(), item(LUTDescriptor=[3, 0, 8]), lut(np.array([1, 2], np.uint16), 0, 99, True)],
    ids=["empty", "no data", "absurd depth"],
)
def test_a_broken_table_is_not_used(broken: Dataset) -> None:
    data = to_bytes(mr(PIXELS, VOILUTSequence=Sequence([broken]), **FULL_WINDOW))
    frame = read_frame(data, 0, LIMITS)
    assert frame.intensity is Intensity.WINDOW
    np.testing.assert_allclose(frame.pixels, EXPECTED, atol=1e-6)


def test_palette_indices_beyond_the_table_stay_inside_it() -> None:
    table = np.arange(0, 65536, 256, dtype=np.uint16)[:16]
    palette: dict[str, Any] = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [16, 0, 16]), ("Data", table.tobytes()))
    }
    values = (PIXELS // 16).astype(np.uint8)
    data = to_bytes(mr(values, 8, PhotometricInterpretation="PALETTE COLOR", **palette))
    pixels = read_frame(data, 0, LIMITS).pixels
    np.testing.assert_allclose(pixels, np.clip(values, 0, 15) / 15, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("MR_small.dcm", (64, 64)),
        ("MR_small_RLE.dcm", (64, 64)),
        ("MR_small_bigendian.dcm", (64, 64)),
        ("MR_small_implicit.dcm", (64, 64)),
        ("MR_small_jp2klossless.dcm", (64, 64)),
        ("MR_small_jpeg_ls_lossless.dcm", (64, 64)),
        ("MR_small_padded.dcm", (64, 64)),
    ],
)
def test_the_same_slice_in_many_transfer_syntaxes(name: str, shape: tuple[int, int]) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    frame = read_frame(path, 0, LIMITS)
    assert frame.pixels.shape == shape
    ds = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    expected = np.clip((ds.pixel_array - (ds.WindowCenter - 0.5)) / (ds.WindowWidth - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(frame.pixels, expected, atol=1e-5)
    assert frame.plane == "axial"


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_small_odd.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "examples_ybr_color.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_colour_becomes_the_grey_of_its_colours(name: str) -> None:
    silence_decoders()
    path = str(get_testdata_file(name, download=False))
    ds = dcmread(path)
    limits = Limits(modalities=frozenset({"MR", str(ds.get("Modality", "MR"))}))
    info = inspect(path, limits)
    frames = read_frames(path, limits)
    assert info.colour
    assert len(frames) == info.frames
    if ds.PhotometricInterpretation in ("RGB", "YBR_FULL_422") and ds.BitsAllocated == 8:
        rgb = ds.pixel_array if info.frames == 1 else ds.pixel_array[0]
        grey = rgb.astype(float) @ [0.299, 0.587, 0.114] / 255
        np.testing.assert_allclose(frames[0].pixels, grey, atol=1e-5)


def test_frames_are_read_one_by_one_or_all() -> None:
    stack = np.stack([PIXELS, PIXELS[::-1], PIXELS[:, ::-1]])
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        ds = mr(stack, **FULL_WINDOW)
        if syntax == RLELossless:
            ds.compress(RLELossless, generate_instance_uid=False)
        data = to_bytes(ds)
        assert inspect(data, LIMITS).frames == 3
        for index, frame in enumerate(read_frames(data, LIMITS)):
            np.testing.assert_allclose(frame.pixels, stack[index] / 4095, atol=1e-6)
            np.testing.assert_array_equal(read_frame(data, index, LIMITS).pixels, frame.pixels)
            assert frame.index == index
        for index in (-1, 3):
            with pytest.raises(RejectedFile, match=f"Frame {index} was asked for, but this file has 3"):
                read_frame(data, index, LIMITS)


def enhanced() -> bytes:
    stack = np.stack([PIXELS, PIXELS // 2])
    frames = []
    for number, (z_mm, centre, width) in enumerate([(10.0, 2048, 4096), (-4.0, 1024, 2048)]):
        frames.append(
            item(
                PlanePositionSequence=Sequence([item(ImagePositionPatient=[0, 0, z_mm])]),
                FrameVOILUTSequence=Sequence([item(WindowCenter=centre, WindowWidth=width)]),
                PixelValueTransformationSequence=Sequence(
                    [item(RescaleSlope=1 + number, RescaleIntercept=0, RescaleType="US")]
                ),
            )
        )
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.5, 0.75], SliceThickness=3)]),
    )
    return to_bytes(
        mr(
            stack,
            SOPClassUID=EnhancedMRImageStorage,
            SharedFunctionalGroupsSequence=Sequence([shared]),
            PerFrameFunctionalGroupsSequence=Sequence(frames),
            # What stands outside the functional groups does not count in an enhanced object.
            WindowCenter=1,
            WindowWidth=2,
        )
    )


def test_enhanced_mr_keeps_geometry_window_and_rescale_a_frame() -> None:
    data = enhanced()
    info = inspect(data, LIMITS)
    assert [(one.plane, one.position_mm, one.spacing_mm) for one in info.geometry] == [
        ("axial", 10.0, (0.5, 0.75)),
        ("axial", -4.0, (0.5, 0.75)),
    ]
    first, second = read_frames(data, LIMITS)
    assert (first.plane, first.position_mm, second.position_mm) == ("axial", 10.0, -4.0)
    np.testing.assert_allclose(first.pixels, EXPECTED, atol=1e-6)
    expected = np.clip((PIXELS // 2 * 2.0 - 1023.5) / 2047 + 0.5, 0, 1)
    np.testing.assert_allclose(second.pixels, expected, atol=1e-5)


def test_frames_that_share_one_position_have_none() -> None:
    stack = np.stack([PIXELS, PIXELS])
    place: dict[str, Any] = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 5]}
    assert [(one.plane, one.position_mm) for one in inspect(to_bytes(mr(stack, **place)), LIMITS).geometry] == [
        ("axial", None),
        ("axial", None),
    ]
    assert inspect(to_bytes(mr(PIXELS, **place)), LIMITS).geometry[0].position_mm == 5


def test_facts_and_identity_are_read_apart() -> None:
    data = to_bytes(
        mr(
            PIXELS,
            SpecificCharacterSet="ISO_IR 192",
            PatientName="Yamada^Tarou=山田^太郎",
            PatientID="P-1\t",
            PatientBirthDate="19700101",
            AccessionNumber="ACC 7",
            StudyDate="20240229",
            SeriesDescription="T1 \u202eafter\x07 contrast",
            SeriesNumber=3,
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            ContrastBolusAgent="Gd",
            EchoTime=12.5,
            RepetitionTime="",
            BurnedInAnnotation="YES",
            Manufacturer="Maker",
            MagneticFieldStrength=1.5,
        )
    )
    info = inspect(data, LIMITS)
    facts, identity = info.dicom, info.identity
    assert facts is not None
    assert identity is not None
    assert (facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid) == (STUDY, SERIES, INSTANCE)
    assert (facts.modality, facts.series_number, facts.instance_number) == ("MR", 3, 7)
    assert facts.series_description == "T1 after contrast"
    assert (facts.localizer, facts.contrast_agent, facts.burned_in_annotation) == (True, True, True)
    assert (facts.echo_time_ms, facts.repetition_time_ms, facts.field_strength_tesla) == (12.5, None, 1.5)
    assert identity.patient_name == "Yamada^Tarou=山田^太郎"
    assert (identity.patient_id, identity.accession_number) == ("P-1", "ACC 7")
    assert (identity.patient_birth_date, identity.study_date) == ("19700101", "20240229")
    assert "Yamada" not in repr(info)
    assert "ACC 7" not in repr(info)


def test_a_header_that_says_little_is_enough() -> None:
    data = to_bytes(mr(PIXELS, InstanceNumber=None))
    facts = inspect(data, LIMITS).dicom
    assert facts is not None
    assert (facts.instance_number, facts.burned_in_annotation, facts.localizer) == (None, None, False)


def test_multi_byte_names_in_iso_2022() -> None:
    data = to_bytes(mr(PIXELS, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎"))
    identity = inspect(data, LIMITS).identity
    assert identity is not None
    assert identity.patient_name == "Yamada^Tarou=山田^太郎"


@pytest.mark.parametrize(
    ("character_set", "stored", "shown"),
    [
        ("ISO_IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        ("ISO_IR 13", "ヤマダ".encode("shift_jis"), "ヤマダ"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (["", "ISO 2022 IR 149"], b"\x1b$)C" + "洪".encode("euc_kr") + b"^A", "洪^A"),
        ("ISO_IR 192", "\u202eevil\u2066".encode(), "evil"),
        ("ISO_IR 192", b"M\xfcller", "M\ufffdller"),
        ("ISO_IR 999", b"Muller", "Muller"),
        ("no such set", b"M\xfcller", "Müller"),
        (["ISO 2022 IR 87", "nonsense"], b"\x1b$B;3\x1b(B^A", "山^A"),
    ],
)
def test_names_in_the_character_sets_of_the_world(character_set: Any, stored: bytes, shown: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writer does not like all of these either
        data = to_bytes(mr(PIXELS, PatientName="XX", SpecificCharacterSet=character_set))
    at = data.index(b"\x10\x00\x10\x00PN")
    stored += b" " * (len(stored) % 2)
    end = at + 8 + struct.unpack_from("<H", data, at + 6)[0]
    data = data[: at + 6] + struct.pack("<H", len(stored)) + stored + data[end:]
    identity = inspect(data, LIMITS).identity
    assert identity is not None
    assert identity.patient_name == shown


def test_private_elements_are_passed_over() -> None:
    ds = mr(PIXELS, **FULL_WINDOW)
    block = ds.private_block(0x0029, "MAKER 1.0", create=True)
    block.add_new(0x10, "OB", b"\x00" * 5000)
    block.add_new(0x11, "UN", b"Name^Hidden ")
    block.add_new(0x12, "SQ", [item(PatientName="Nested")])
    data = to_bytes(ds)
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, EXPECTED, atol=1e-6)
    assert inspect(data, LIMITS) == replace(inspect(to_bytes(mr(PIXELS, **FULL_WINDOW)), LIMITS), size_bytes=len(data))


@pytest.mark.parametrize("more", [1, 2, 1000])
def test_more_bytes_than_pixels_are_left_alone(more: int) -> None:
    ds = mr(PIXELS, **FULL_WINDOW)
    ds.PixelData = PIXELS.tobytes() + b"\x07" * (more + more % 2)
    np.testing.assert_allclose(read_frame(to_bytes(ds), 0, LIMITS).pixels, EXPECTED, atol=1e-6)
    trailing = to_bytes(mr(PIXELS, **FULL_WINDOW)) + b"\x07" * more
    np.testing.assert_allclose(read_frame(trailing, 0, LIMITS).pixels, EXPECTED, atol=1e-6)


def test_an_enhanced_localizer_has_a_plane_a_frame_also_when_compressed() -> None:
    orientations = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1], [0.7071, 0.7071, 0, 0, 0, -1])
    ds = mr(
        np.stack([PIXELS >> number for number in range(4)]),
        SOPClassUID=EnhancedMRImageStorage,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"],
        SharedFunctionalGroupsSequence=Sequence([item(PixelMeasuresSequence=Sequence([item(PixelSpacing=[1, 2])]))]),
        PerFrameFunctionalGroupsSequence=Sequence(
            [
                item(
                    PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=one)]),
                    PlanePositionSequence=Sequence([item(ImagePositionPatient=[1, 2, 3])]),
                    FrameVOILUTSequence=Sequence([item(WindowCenter=2048 >> number, WindowWidth=4096 >> number)]),
                )
                for number, one in enumerate(orientations)
            ]
        ),
    )
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    data = to_bytes(ds)
    info = inspect(data, LIMITS)
    assert info.dicom is not None
    assert info.dicom.localizer
    assert [one.plane for one in info.geometry] == ["axial", "coronal", "sagittal", "oblique"]
    assert {one.spacing_mm for one in info.geometry} == {(1.0, 2.0)}
    for number, frame in enumerate(read_frames(data, LIMITS)):
        assert frame.plane == info.geometry[number].plane
        expected = np.clip(((PIXELS >> number) - ((2048 >> number) - 0.5)) / ((4096 >> number) - 1) + 0.5, 0, 1)
        np.testing.assert_allclose(frame.pixels, expected, atol=1e-4)


def test_without_preamble_and_meta_group() -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        data = to_bytes(mr(PIXELS, syntax=syntax, **FULL_WINDOW))
        (group_length,) = struct.unpack_from("<I", data, 140)
        bare = data[144 + group_length :]
        assert bare[:4] in (b"\x08\x00\x16\x00", b"\x00\x08\x00\x16")
        np.testing.assert_allclose(read_frame(bare, 0, LIMITS).pixels, EXPECTED, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "outcome", "words"),
    [
        ({"Modality": "CT"}, Outcome.UNSUPPORTED, "modality CT; only MR is analysed"),
        ({"Modality": "CR", "SOPClassUID": SecondaryCaptureImageStorage}, Outcome.UNSUPPORTED, "modality CR"),
        ({"Modality": "OT"}, Outcome.UNSUPPORTED, "modality OT"),
        ({"Modality": "Smith^John^1970"}, Outcome.UNSUPPORTED, "modality unknown"),
        ({"PixelData": None}, Outcome.NO_PIXELS, r"This DICOM object \(MR Image Storage\) holds no picture"),
        ({"PixelData": None, "Modality": "SR"}, Outcome.NO_PIXELS, "holds no picture"),
    ],
)
def test_what_is_not_an_mr_picture_is_said(attributes: dict[str, Any], outcome: Outcome, words: str) -> None:
    data = to_bytes(mr(PIXELS, **attributes))
    for read in (inspect, read_frames):
        with pytest.raises(RejectedFile, match=words) as refused:
            read(data, LIMITS)
        assert refused.value.outcome is outcome


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": "SC", "SOPClassUID": SecondaryCaptureImageStorage},
        {"Modality": None, "SOPClassUID": SecondaryCaptureImageStorage},
        {"Modality": None},
        {"Modality": "mr "},
    ],
)
def test_secondary_captures_and_sloppy_headers_are_read(attributes: dict[str, Any]) -> None:
    assert read_frame(to_bytes(mr(PIXELS, **attributes)), 0, LIMITS).pixels.shape == PIXELS.shape


def test_the_modalities_accepted_are_a_setting() -> None:
    data = to_bytes(mr(PIXELS, Modality="CT"))
    assert inspect(data, Limits(modalities=frozenset({"MR", "CT"}))).rows == PIXELS.shape[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", Reason.NO_PIXEL_DATA),
        ("rtplan.dcm", Reason.NO_PIXEL_DATA),
        ("waveform_ecg.dcm", Reason.NO_PIXEL_DATA),
        ("liver_1frame.dcm", Reason.MODALITY),
        ("CT_small.dcm", Reason.MODALITY),
        ("MR_truncated.dcm", Reason.PIXEL_DATA_SHORT),
        ("DICOMDIR", Reason.DICOMDIR),
        ("badVR.dcm", Reason.MODALITY),
        ("zipMR.gz", Reason.ARCHIVE_FORMAT),
        ("JPEG2000-embedded-sequence-delimiter.dcm", Reason.FRAME_MISMATCH),
    ],
)
def test_files_of_other_kinds_are_told_apart(name: str, reason: Reason) -> None:
    limits = (
        LIMITS if name != "JPEG2000-embedded-sequence-delimiter.dcm" else Limits(modalities=frozenset({"NM", "MR"}))
    )
    with pytest.raises(RejectedFile, match=r"\.$") as refused:
        read_frames(str(get_testdata_file(name, download=False)), limits)
    assert refused.value.reason is reason
