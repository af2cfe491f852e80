"""Every format, depth and colour mode that is read, and the ways in which such files are broken."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from imaging.frames import Intensity, Kind
from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason, RejectedFile
from imaging.reading import inspect, read_frame, read_frames

LIMITS = Limits()
ROWS, COLUMNS = 24, 40
GREY = np.rint(np.add.outer(np.linspace(0, 100, ROWS), np.linspace(0, 155, COLUMNS))).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 257
BIG_ENDIAN = Image.frombytes("I;16B", (COLUMNS, ROWS), DEEP.astype(">u2").tobytes())
EXPECTED = GREY / 255.0


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def encoded(suffix: str, array: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(suffix, array)
    assert done
    return bytes(data.tobytes())


def grey(mode: str = "L") -> Image.Image:
    return Image.fromarray(GREY).convert(mode)


def palette() -> Image.Image:
    image = Image.fromarray(255 - GREY)
    image.putpalette([shade for value in range(256) for shade in (255 - value,) * 3])
    return image


def layered(mode: str) -> Image.Image:
    image = grey("RGBA" if mode == "RGBA" else "LA")
    image.putalpha(Image.new("L", image.size, 255))
    return image


# name, bytes, kind, bits, colour, tolerance of the decoded grey
TABLE: list[tuple[str, bytes, Kind, int, bool, float]] = [
    ("png-8-grey", saved(grey(), "PNG"), Kind.PNG, 8, False, 0),
    ("png-8-grey-interlaced-by-row-filter", encoded(".png", GREY), Kind.PNG, 8, False, 0),
    ("png-16-grey", encoded(".png", DEEP), Kind.PNG, 16, False, 1e-4),
    ("png-8-rgb", saved(grey("RGB"), "PNG"), Kind.PNG, 8, True, 0),
    ("png-16-rgb", encoded(".png", np.dstack([DEEP] * 3)), Kind.PNG, 16, True, 1e-4),
    (
        "png-16-rgba",
        encoded(".png", np.dstack([DEEP] * 3 + [np.full_like(DEEP, 65535)])),
        Kind.PNG,
        16,
        True,
        1e-4,
    ),
    ("png-8-rgba", saved(layered("RGBA"), "PNG"), Kind.PNG, 8, True, 0),
    ("png-8-la", saved(layered("LA"), "PNG"), Kind.PNG, 8, False, 0),
    ("png-palette", saved(palette(), "PNG"), Kind.PNG, 8, False, 0),
    ("jpeg-grey", saved(grey(), "JPEG", quality=98), Kind.JPEG, 8, False, 0.02),
    ("jpeg-grey-progressive", saved(grey(), "JPEG", quality=98, progressive=True), Kind.JPEG, 8, False, 0.02),
    ("jpeg-rgb", saved(grey("RGB"), "JPEG", quality=98), Kind.JPEG, 8, True, 0.02),
    ("jpeg-cmyk", saved(grey("CMYK"), "JPEG", quality=98), Kind.JPEG, 8, True, 0.03),
    ("tiff-8-grey", saved(grey(), "TIFF"), Kind.TIFF, 8, False, 0),
    ("tiff-8-lzw", saved(grey(), "TIFF", compression="tiff_lzw"), Kind.TIFF, 8, False, 0),
    ("tiff-8-deflate", saved(grey(), "TIFF", compression="tiff_adobe_deflate"), Kind.TIFF, 8, False, 0),
    ("tiff-16-grey", saved(Image.fromarray(DEEP), "TIFF"), Kind.TIFF, 16, False, 1e-4),
    ("tiff-16-big-endian", saved(BIG_ENDIAN, "TIFF"), Kind.TIFF, 16, False, 1e-4),
    ("tiff-32-float", saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), Kind.TIFF, 32, False, 1e-4),
    ("tiff-8-rgb", saved(grey("RGB"), "TIFF"), Kind.TIFF, 8, True, 0),
    ("tiff-16-rgb", encoded(".tiff", np.dstack([DEEP] * 3)), Kind.TIFF, 16, True, 1e-4),
    ("tiff-8-rgba", saved(layered("RGBA"), "TIFF"), Kind.TIFF, 8, True, 0),
    ("tiff-palette", saved(palette(), "TIFF"), Kind.TIFF, 8, False, 0),
    ("bmp-8-grey", saved(grey(), "BMP"), Kind.BMP, 8, False, 0),
    ("bmp-24-rgb", saved(grey("RGB"), "BMP"), Kind.BMP, 8, True, 0),
    ("bmp-32-rgba", saved(layered("RGBA"), "BMP"), Kind.BMP, 8, True, 0),
    ("bmp-palette", saved(palette(), "BMP"), Kind.BMP, 8, False, 0),
]


@pytest.mark.parametrize(
    ("data", "kind", "bits", "colour", "tolerance"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_every_format_gives_the_same_grey(data: bytes, kind: Kind, bits: int, colour: bool, tolerance: float) -> None:
    info = inspect(data, LIMITS)
    assert (info.kind, info.rows, info.columns, info.frames) == (kind, ROWS, COLUMNS, 1)
    assert (info.bits, info.colour, info.dicom, info.identity) == (bits, colour, None, None)
    (frame,) = read_frames(data, LIMITS)
    assert frame.pixels.dtype == np.float32
    assert frame.pixels.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(frame.pixels, EXPECTED, atol=tolerance + 1e-6)
    assert frame.intensity is (Intensity.MIN_MAX if bits > 8 else Intensity.FULL_RANGE)
    assert (frame.plane, frame.position_mm, frame.spacing_mm) == (None, None, None)


@pytest.mark.parametrize("data", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_long_file_is_mapped_and_read_alike(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture"
    path.write_bytes(data)
    info, pixels = inspect(path, LIMITS), read_frame(path, 0, LIMITS).pixels
    monkeypatch.setattr("imaging.reading._MAPPED_BEYOND_BYTES", 10)
    assert inspect(path, LIMITS) == info == inspect(data, LIMITS)
    np.testing.assert_array_equal(read_frame(path, 0, LIMITS).pixels, pixels)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RejectedFile, match=r"ends too early|damaged"):
        read_frame(path, 0, LIMITS)


def test_one_bit_pictures_are_black_and_white() -> None:
    for form in ("PNG", "TIFF", "BMP"):
        data = saved(Image.fromarray(GREY > 100), form)
        (frame,) = read_frames(data, LIMITS)
        np.testing.assert_array_equal(frame.pixels, GREY > 100)
        assert inspect(data, LIMITS).bits == 1


def test_transparent_is_black_whatever_colour_hides_beneath() -> None:
    image = Image.fromarray(np.dstack([np.full((4, 4), 255, np.uint8)] * 3 + [np.full((4, 4), 51, np.uint8)]))
    np.testing.assert_allclose(read_frame(saved(image, "PNG"), 0, LIMITS).pixels, 0.2, atol=1e-6)
    deep = np.dstack(
        [np.full((4, 4), 65535, np.uint16)] * 3 + [np.tile(np.array([0, 0, 65535, 65535], np.uint16), (4, 1))]
    )
    np.testing.assert_allclose(
        read_frame(encoded(".png", deep), 0, LIMITS).pixels, np.tile([0, 0, 1, 1], (4, 1)), atol=1e-4
    )
    see_through = saved(palette(), "PNG", transparency=0)  # index 0 is white
    assert read_frame(see_through, 0, LIMITS).pixels.min() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_undone(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.kron(np.array([[0, 80, 160], [40, 120, 240]], np.uint8), np.ones((16, 16), np.uint8))
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    options: dict[str, Any] = {"exif": exif} | ({"quality": 98} if form == "JPEG" else {})
    data = saved(Image.fromarray(np.ascontiguousarray(turned)), form, **options)
    info = inspect(data, LIMITS)
    assert (info.rows, info.columns) == upright.shape
    np.testing.assert_allclose(read_frame(data, 0, LIMITS).pixels, upright / 255, atol=0.03)


def test_pages_of_a_tiff_are_frames() -> None:
    pages = [Image.fromarray(np.full((5, 6), value, np.uint8)) for value in (10, 20, 30)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert inspect(data, LIMITS).frames == 3
    assert [round(float(frame.pixels[0, 0]) * 255) for frame in read_frames(data, LIMITS)] == [10, 20, 30]
    assert read_frame(data, 2, LIMITS).index == 2
    with pytest.raises(RejectedFile, match="Frame 3 was asked for, but this file has 3"):
        read_frame(data, 3, LIMITS)
    with pytest.raises(RejectedFile, match="more than the 2 allowed"):
        inspect(data, Limits(max_frames=2))


def test_deep_colour_pages_of_a_tiff_are_the_pages_asked_for() -> None:
    pages = [np.dstack([np.roll(DEEP, shift)] * 3) for shift in (0, 7)]
    done, data = cv2.imencodemulti(".tiff", pages)
    assert done
    for index, page in enumerate(pages):
        frame = read_frame(data.tobytes(), index, LIMITS)
        np.testing.assert_allclose(frame.pixels, page[..., 0] / 65535, atol=1e-4)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_a_file_that_ends_too_early_is_refused_not_half_read(form: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    whole = saved(Image.fromarray(noise), form)
    data = whole[: int(len(whole) * kept)]
    for read in (inspect, read_frames):
        with pytest.raises(RejectedFile, match=r"ends too early|damaged") as refused:
            read(data, LIMITS)
        assert refused.value.outcome is Outcome.UNREADABLE
        assert refused.value.detail == {"found": form}


def test_a_progressive_jpeg_cut_at_60_percent_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    whole = saved(Image.fromarray(noise), "JPEG", progressive=True)
    with pytest.raises(RejectedFile, match="ends too early"):
        read_frames(whole[: len(whole) * 6 // 10], LIMITS)


def test_damage_inside_a_png_is_found() -> None:
    data = bytearray(saved(grey(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(RejectedFile, match=r"This PNG file (is damaged|ends too early)"):
        read_frames(bytes(data), LIMITS)


@pytest.mark.parametrize("name", ["png", "jpeg", "bmp", "tiff"])
def test_a_header_that_states_a_huge_size_is_refused_at_once(name: str) -> None:
    side = 30_000
    small = {
        "png": saved(grey(), "PNG"),
        "jpeg": saved(grey(), "JPEG"),
        "bmp": saved(grey(), "BMP"),
        "tiff": saved(grey(), "TIFF"),
    }[name]
    data = bytearray(small)
    if name == "png":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "jpeg":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif name == "bmp":
        data[18:26] = struct.pack("<ii", side, -side)
    else:
        # Width and height are the first two entries of the directory, 12 bytes each.
        at = struct.unpack_from("<I", data, 4)[0] + 2
        data[at : at + 24] = struct.pack("<HHIIHHII", 256, 4, 1, 16_000, 257, 4, 1, 16_000)
    started = time.perf_counter()
    for read in (inspect, read_frames):
        with pytest.raises(RejectedFile, match=r"This picture is (30000 x 30000|16000 x 16000) pixels") as refused:
            read(bytes(data), LIMITS)
        assert refused.value.reason is Reason.PICTURE_SIZE
    assert time.perf_counter() - started < 1


def test_a_real_30000_by_30000_png_is_refused_without_decoding() -> None:
    row = zlib.compressobj(9)
    chunk = bytes(30_001 * 100)
    packed = b"".join(row.compress(chunk) for _ in range(300)) + row.flush()
    header = struct.pack(">II", 30_000, 30_000) + b"\x08\x00\x00\x00\x00"

    def block(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    data = b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", packed) + block(b"IEND", b"")
    started = time.perf_counter()
    with pytest.raises(RejectedFile, match="30000 x 30000"):
        read_frames(data, LIMITS)
    assert time.perf_counter() - started < 0.5


def test_text_that_unpacks_to_a_lot_is_refused() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "x" * 60_000_000, zip=True)
    data = saved(grey(), "PNG", pnginfo=notes)
    assert len(data) < 100_000
    started = time.perf_counter()
    with pytest.raises(RejectedFile, match="text stored inside this PNG file") as refused:
        read_frames(data, LIMITS)
    assert refused.value.outcome is Outcome.OVER_LIMIT
    assert time.perf_counter() - started < 1


def test_an_animated_png_is_refused_because_only_one_frame_would_be_read() -> None:
    frames = [Image.fromarray(np.roll(GREY, shift)) for shift in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(RejectedFile, match="animated picture of 3 frames"):
        inspect(data, LIMITS)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP"])
def test_one_pixel_is_a_picture(form: str) -> None:
    assert read_frame(saved(Image.new("L", (1, 1), 255), form), 0, LIMITS).pixels.shape == (1, 1)


def test_a_file_larger_than_allowed_is_not_even_opened() -> None:
    data = saved(grey(), "PNG")
    with pytest.raises(RejectedFile, match=f"has {len(data)} bytes, more than the 10 allowed"):
        inspect(data, Limits(max_file_bytes=10))


def test_a_tiff_whose_pages_together_are_too_large_is_refused() -> None:
    pages = [Image.new("L", (100, 100))] * 4
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(RejectedFile, match="need 160000 bytes of memory, more than the 120000 allowed"):
        inspect(data, Limits(max_decoded_bytes=120_000))


def test_random_damage_never_escapes_as_another_error() -> None:
    random = np.random.default_rng(7)
    outcomes = set()
    for _, whole, *_ in TABLE:
        for _ in range(25):
            data = bytearray(whole)
            for at in random.integers(4, len(data), random.integers(1, 8)):
                data[at] = random.integers(0, 256)
            for read in (inspect, read_frames):
                try:
                    read(bytes(data), Limits(max_pixels=1_000_000))
                except RejectedFile as refused:
                    outcomes.add(refused.outcome)
    assert Outcome.UNREADABLE in outcomes
    assert Outcome.ACCEPTED not in outcomes
