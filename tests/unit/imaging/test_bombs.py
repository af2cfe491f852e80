"""Small files that ask for a lot, through the doors that intake uses: read or refused, soon and at bounded cost."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from imaging.decoders import Decoders
from imaging.frames import ImageInfo
from imaging.limits import MIB, Allowance, Limits
from imaging.outcomes import Outcome, RejectedFile
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

EIGHT = (ramp() // 16).astype(np.uint8)
SOON_S = 15.0


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    with Decoders(Limits(), Allowance(memory_bytes=768 * MIB, cpu_s=8, wall_s=SOON_S), lanes=1) as made:
        yield made


def outcome(pool: Decoders, path: Path) -> ImageInfo | RejectedFile:
    """Describes a file and reads its first frame; what either says first."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        info = pool.inspect(path)
        pool.read_frame(path, 0)
        return info
    except RejectedFile as rejection:
        return rejection
    finally:
        assert time.monotonic() - started < 2 * SOON_S
        # The largest picture allowed takes 200 MB, shared with the decoder and once more as our copy.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 450 * 1024


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_many_chunks() -> bytes:
    """A valid picture with three hundred thousand comments of one byte."""
    done, data = cv2.imencode(".png", EIGHT)
    assert done
    whole = bytes(data.tobytes())
    return whole[:33] + chunk(b"prVt", b"x") * 300_000 + whole[33:]


def png_of_nothing(columns: int, rows: int) -> bytes:
    """A black picture that packs a thousandfold."""
    packer = zlib.compressobj(9)
    line = bytes(columns + 1)
    packed = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff_of_nothing(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return buffer.getvalue()


def big_tiff(columns: int, rows: int) -> bytes:
    """A BigTIFF (offsets of eight bytes) that states so many pixels and holds none."""
    entries = [(256, 4, columns), (257, 4, rows), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 300), (279, 4, 10)]
    directory = struct.pack("<Q", len(entries)) + b"".join(struct.pack("<HHQQ", *one[:2], 1, one[2]) for one in entries)
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory + struct.pack("<Q", 0) + bytes(300)


def jpeg2000_of_tiles(tile: int) -> bytes:
    """A DICOM file whose JPEG 2000 stream states as many tiles as it can."""
    done, data = cv2.imencode(".jp2", EIGHT)
    assert done
    stream = bytearray(data.tobytes()[data.tobytes().index(b"\xff\x4f\xff\x51") :])
    side = 4096
    stream[8:16] = struct.pack(">II", side, side)
    stream[24:32] = struct.pack(">II", tile, tile)
    ds = mr(EIGHT, 8, Rows=side, Columns=side)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([bytes(stream)])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return to_bytes(ds)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("many chunks", png_of_many_chunks(), {Outcome.ACCEPTED, Outcome.OVER_LIMIT}),
        ("black PNG within the limits", png_of_nothing(16_000, 3_000), {Outcome.ACCEPTED}),
        ("black PNG beyond", png_of_nothing(16_000, 3_200), {Outcome.OVER_LIMIT}),
        ("black TIFF", tiff_of_nothing(7_000), {Outcome.ACCEPTED}),
        ("huge BigTIFF", big_tiff(60_000, 60_000), {Outcome.OVER_LIMIT, Outcome.UNREADABLE}),
        ("endless BigTIFF", big_tiff(2**32 - 1, 2**32 - 1), {Outcome.OVER_LIMIT, Outcome.UNREADABLE}),
        ("a tile a pixel", jpeg2000_of_tiles(1), {Outcome.UNREADABLE, Outcome.OVER_LIMIT}),
        ("few tiles", jpeg2000_of_tiles(64), {Outcome.UNREADABLE, Outcome.OVER_LIMIT, Outcome.ACCEPTED}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_small_files_that_ask_for_a_lot(
    pool: Decoders, tmp_path: Path, name: str, data: bytes, expected: set[Outcome]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    found = outcome(pool, path)
    assert (found.outcome if isinstance(found, RejectedFile) else Outcome.ACCEPTED) in expected
    path.write_bytes(to_bytes(mr(ramp())))
    assert isinstance(outcome(pool, path), ImageInfo), "the next file is read as ever"


def test_ten_thousand_frames_are_refused_by_default_and_read_soon_when_allowed(tmp_path: Path) -> None:
    ds = mr(np.zeros((10_000, 8, 8), np.uint8), 8)
    path = tmp_path / "frames.dcm"
    path.write_bytes(to_bytes(ds))
    with Decoders(Limits(), Allowance(), lanes=1) as strict, pytest.raises(RejectedFile, match="more than the 2000"):
        strict.inspect(path)
    with Decoders(Limits(max_frames=10_000), Allowance(cpu_s=8, wall_s=SOON_S), lanes=1) as wide:
        assert len(wide.inspect(path).geometry) == 10_000
        answers = wide.read_pixels([(path, index) for index in (0, 5_000, 9_999)])
    assert [getattr(one, "shape", one) for one in answers] == [(8, 8)] * 3


@pytest.mark.parametrize(
    "geometry",
    [
        {"ImageOrientationPatient": [b"NaN ", b"0 ", b"0 ", b"0 ", b"1 ", b"0 "]},
        {"ImagePositionPatient": [b"1e308 ", b"-1e308 ", b"inf "]},
        {"PixelSpacing": [b"NaN ", b"1e-320"]},
        {"ImageOrientationPatient": [b"9" * 14] * 6},
        {"ImagePositionPatient": [b"one ", b"two ", b"3 "]},
        {"PixelSpacing": [b"1 "] * 500},
    ],
    ids=lambda geometry: next(iter(geometry)),
)
def test_geometry_that_is_no_number_is_unknown_and_the_picture_is_read(
    pool: Decoders, tmp_path: Path, geometry: dict[str, list[bytes]]
) -> None:
    tags = {
        "ImageOrientationPatient": b"\x20\x00\x37\x00",
        "ImagePositionPatient": b"\x20\x00\x32\x00",
        "PixelSpacing": b"\x28\x00\x30\x00",
    }
    whole: dict[str, Any] = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, 5],
        "PixelSpacing": [1, 1],
    }
    data = to_bytes(mr(ramp(), **whole))
    ((keyword, parts),) = geometry.items()
    value = b"\\".join(parts)
    value += b" " * (len(value) % 2)
    at = data.index(tags[keyword] + b"DS")
    end = at + 8 + struct.unpack_from("<H", data, at + 6)[0]
    path = tmp_path / "odd.dcm"
    path.write_bytes(data[: at + 6] + struct.pack("<H", len(value)) + value + data[end:])
    info = outcome(pool, path)
    assert isinstance(info, ImageInfo)
    (found,) = info.geometry
    if keyword == "PixelSpacing":
        assert (found.plane, found.position_mm, found.spacing_mm) == ("axial", 5, None)
    elif keyword == "ImagePositionPatient":
        assert (found.plane, found.position_mm, found.spacing_mm) == ("axial", None, (1, 1))
    else:
        assert (found.plane, found.position_mm, found.spacing_mm) == (None, None, (1, 1))
