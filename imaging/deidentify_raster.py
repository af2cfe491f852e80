"""De-identifying PNG, JPEG, TIFF and BMP: everything in the file but the picture goes.

This module owns what may stay. Of PNG and JPEG the compressed picture is copied as it is, with the few parts that say
how it is to be decoded, and the orientation; comments, EXIF, XMP, profiles, thumbnails and what follows the picture go.
TIFF and BMP, in which anything may lie anywhere, are written anew as PNG of the same pixels. It refuses what PNG cannot
hold unchanged, and to look for text in the picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Final

from PIL import Image

from imaging.frames import Kind
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.raster import inspect_raster, orientation_of

_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_JPEG_ADOBE = 0xEE
_NO_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_SAME_IN_PNG: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def strip_raster(kind: Kind, data: bytes, limits: Limits) -> bytes:
    """Write a picture anew with nothing but itself in the file.

    Args:
        kind: Format, told by content.
        data: The whole file.
        limits: Bounds.

    Returns:
        A file that decodes to the same pixels, the same bytes for the same input: PNG, or JPEG for a JPEG.

    Raises:
        RejectedFile: Broken, over a limit, or of a form that cannot be kept unchanged.
    """
    info = inspect_raster(kind, data, limits)
    if kind is Kind.PNG:
        return _png(data, orientation_of(kind, data, limits))
    if kind is Kind.JPEG:
        return _jpeg(data, orientation_of(kind, data, limits))
    if info.frames > 1 or (kind is Kind.TIFF and info.bits > 8 and info.colour):
        raise RejectedFile(Reason.NOT_DEIDENTIFIABLE, found=kind.value.upper())
    return _as_png(kind, data)


def _png(data: bytes, orientation: int) -> bytes:
    out = bytearray(_PNG_HEAD)
    position = len(_PNG_HEAD)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        if name in _PNG_KEPT:
            out += data[position : position + 12 + length]
        if name == b"IHDR" and orientation != 1:
            exif = b"eXIf" + _exif(orientation)
            out += struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
        if name == b"IEND":
            return bytes(out)
        position += 12 + length
    raise RejectedFile(Reason.TRUNCATED, found="PNG")


def _jpeg(data: bytes, orientation: int) -> bytes:
    """Copies what is needed to decode: of the application segments only Adobe's, which tells how colour is stored."""
    out = bytearray(b"\xff\xd8")
    if orientation != 1:
        exif = b"Exif\0\0" + _exif(orientation)
        out += b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    position = 2
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            position = _next_marker(data, position)  # what stands between segments is no part of the picture
            continue
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _EOI:
            return bytes(out + b"\xff\xd9")
        if marker in _NO_LENGTH or marker in (0x00, _SOI):
            position += 2
            continue
        if position + 4 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position : position + 2 + length]
        if marker == _JPEG_ADOBE and segment[4:9] == b"Adobe":
            out += b"\xff\xee\x00\x0e" + segment[4:16]
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            out += segment
        position += 2 + length
        if marker == _SOS:
            end = _end_of_scan(data, position)
            out += data[position:end]
            position = end
    raise RejectedFile(Reason.TRUNCATED, found="JPEG")


def _next_marker(data: bytes, position: int) -> int:
    found = data.find(b"\xff", position)
    return len(data) if found < 0 else found


def _end_of_scan(data: bytes, position: int) -> int:
    """Where the entropy-coded bytes end: at the first marker that is no stuffing, filling or restart."""
    while True:
        position = _next_marker(data, position)
        if position + 1 >= len(data):
            return len(data)
        after = data[position + 1]
        if after not in (0x00, 0xFF) and after not in _NO_LENGTH:
            return position
        position += 1 if after == 0xFF else 2


def _exif(orientation: int) -> bytes:
    """The smallest EXIF block (TIFF 6.0, big endian): one directory with the orientation alone."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def _as_png(kind: Kind, data: bytes) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=[kind.value.upper()]) as picture:
            picture.load()
            clean = picture.copy()
    except MemoryError as error:
        raise RejectedFile(Reason.MEMORY) from error
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, RuntimeError, struct.error) as error:
        raise RejectedFile(Reason.DAMAGED, found=kind.value.upper()) from error
    if clean.mode == "I;16B":
        clean = clean.convert("I;16")
    if clean.mode not in _SAME_IN_PNG:
        raise RejectedFile(Reason.NOT_DEIDENTIFIABLE, found=kind.value.upper())
    transparent = clean.info.get("transparency")
    clean.info = {} if transparent is None else {"transparency": transparent}
    out = io.BytesIO()
    clean.save(out, "PNG")
    return out.getvalue()
