"""Telling what a file is by its first bytes, never by its name.

This module owns the magic numbers: of the formats that are read, of those that are recognised only to say what was
found, and of the sizes that PNG, JPEG and BMP state up front. It refuses to decode anything.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from imaging.frames import Kind
from imaging.outcomes import Reason, RejectedFile

HEAD_BYTES = 4096
"""How much of a file :func:`sniff` wants to see."""

ZIP = "zip"

_DICOM_MAGIC_AT = 128
_IMPLICIT_HEAD = struct.Struct("<HHL")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# (magic, offset, reason, what it is). The first match counts.
_RECOGNISED: tuple[tuple[bytes, int, Reason, str], ...] = (
    (b"GIF87a", 0, Reason.IMAGE_FORMAT, "GIF"),
    (b"GIF89a", 0, Reason.IMAGE_FORMAT, "GIF"),
    (b"WEBP", 8, Reason.IMAGE_FORMAT, "WebP"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", 0, Reason.IMAGE_FORMAT, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, Reason.IMAGE_FORMAT, "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", 0, Reason.IMAGE_FORMAT, "JPEG XL"),
    (b"ftypheic", 4, Reason.IMAGE_FORMAT, "HEIC"),
    (b"ftypmif1", 4, Reason.IMAGE_FORMAT, "HEIC"),
    (b"ftypavif", 4, Reason.IMAGE_FORMAT, "AVIF"),
    (b"8BPS", 0, Reason.IMAGE_FORMAT, "Photoshop"),
    (b"SIMPLE  =", 0, Reason.IMAGE_FORMAT, "FITS"),
    (b"n+1\x00", 344, Reason.IMAGE_FORMAT, "NIfTI"),
    (b"ni1\x00", 344, Reason.IMAGE_FORMAT, "NIfTI"),
    (b"NRRD000", 0, Reason.IMAGE_FORMAT, "NRRD"),
    (b"\x00\x00\x01\x00", 0, Reason.IMAGE_FORMAT, "icon"),
    (b"\x1f\x8b", 0, Reason.ARCHIVE_FORMAT, "gzip"),
    (b"7z\xbc\xaf\x27\x1c", 0, Reason.ARCHIVE_FORMAT, "7-Zip"),
    (b"Rar!\x1a\x07", 0, Reason.ARCHIVE_FORMAT, "RAR"),
    (b"BZh", 0, Reason.ARCHIVE_FORMAT, "bzip2"),
    (b"\xfd7zXZ\x00", 0, Reason.ARCHIVE_FORMAT, "xz"),
    (b"\x28\xb5\x2f\xfd", 0, Reason.ARCHIVE_FORMAT, "Zstandard"),
    (b"ustar", 257, Reason.ARCHIVE_FORMAT, "tar"),
    (b"%PDF-", 0, Reason.OTHER_FORMAT, "a PDF document"),
    (b"\x7fELF", 0, Reason.OTHER_FORMAT, "a program"),
    (b"MZ", 0, Reason.OTHER_FORMAT, "a program"),
    (_OLE, 0, Reason.OTHER_FORMAT, "an Office document or a thumbnail collection"),
    (b"SQLite format 3\x00", 0, Reason.OTHER_FORMAT, "a database"),
    (b"\x89HDF\r\n\x1a\n", 0, Reason.OTHER_FORMAT, "an HDF5 file"),
    (b"ftyp", 4, Reason.OTHER_FORMAT, "a video"),
    (b"\x1aE\xdf\xa3", 0, Reason.OTHER_FORMAT, "a video"),
    (b"RIFF", 0, Reason.OTHER_FORMAT, "a sound or video file"),
    (b"ID3", 0, Reason.OTHER_FORMAT, "a sound file"),
    (b"\x93NUMPY", 0, Reason.OTHER_FORMAT, "a NumPy array"),
    (b"\x00\x00\x00\x01Bud1", 0, Reason.SYSTEM_FILE, "macOS folder settings"),
    (b"\x00\x05\x16\x07", 0, Reason.SYSTEM_FILE, "macOS resource fork"),
    (b"\x00\x05\x16\x00", 0, Reason.SYSTEM_FILE, "macOS resource fork"),
)

# What may stand in front of "DICM" and turn the file into something else for another program (dual-use TIFF is legal).
_DISGUISES: tuple[tuple[bytes, str], ...] = (
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"#!", "a script"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "an archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"<", "a web page"),
)

# Names that systems leave behind. A name only ever explains a file that is no readable image by its content.
_SYSTEM_NAMES: dict[str, str] = {
    "thumbs.db": "Windows thumbnails",
    "ehthumbs.db": "Windows thumbnails",
    "desktop.ini": "Windows folder settings",
    "autorun.inf": "Windows disc settings",
    ".ds_store": "macOS folder settings",
    ".localized": "macOS folder settings",
    ".directory": "KDE folder settings",
    ".picasa.ini": "Picasa settings",
}


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What the first bytes of a file say.

    Attributes:
        kind: A readable image format, "zip", or None when it is neither.
        rejection: Why it is neither; None when it is one of them.
    """

    kind: Kind | str | None
    rejection: RejectedFile | None = None


def sniff(head: bytes, name: str = "") -> Sniffed:
    """Tell what a file is.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all when it is shorter.
        name: Its display path; used only to recognise files that systems leave behind.

    Returns:
        The kind, or the reason why the file is of no use.
    """
    found_system = system_file(name)
    if not head:
        empty = (
            RejectedFile(Reason.SYSTEM_FILE, found=found_system) if found_system else RejectedFile(Reason.EMPTY_FILE)
        )
        return Sniffed(None, empty)
    if head[_DICOM_MAGIC_AT : _DICOM_MAGIC_AT + 4] == b"DICM":
        for magic, found in _DISGUISES:
            if head.startswith(magic):
                return Sniffed(None, RejectedFile(Reason.DISGUISED, found=found))
        return Sniffed(Kind.DICOM)
    kind = _image_kind(head)
    if kind is not None:
        return Sniffed(kind)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return Sniffed(ZIP)
    if found_system is not None:
        return Sniffed(None, RejectedFile(Reason.SYSTEM_FILE, found=found_system))
    for magic, offset, reason, found in _RECOGNISED:
        if head[offset : offset + len(magic)] == magic:
            return Sniffed(None, RejectedFile(reason, found=found))
    return Sniffed(None, _not_recognised(head))


def system_file(name: str) -> str | None:
    """Say whether a name is one that computer systems leave in folders and archives.

    Args:
        name: Display path, parts separated by "/".

    Returns:
        Which kind of file it is, in words, or None.
    """
    parts = name.split("/")
    if "__MACOSX" in parts[:-1] or parts[-1].startswith("._"):
        return "macOS resource fork"
    return _SYSTEM_NAMES.get(parts[-1].casefold())


def stated_size(kind: Kind, head: bytes | mmap.mmap) -> tuple[int, int] | None:
    """Read the size that a picture states up front, without decoding it.

    Args:
        kind: The picture's format.
        head: Its first bytes; for JPEG as many as reach the frame header (often all).

    Returns:
        (columns, rows), or None when the format or these bytes do not say.
    """
    if kind is Kind.PNG and len(head) >= 24 and head[12:16] == b"IHDR":
        columns, rows = struct.unpack_from(">II", head, 16)
        return columns, rows
    if kind is Kind.BMP and len(head) >= 26:
        if struct.unpack_from("<I", head, 14)[0] == 12:
            columns, rows = struct.unpack_from("<HH", head, 18)
            return columns, rows
        columns, rows = struct.unpack_from("<ii", head, 18)
        return abs(columns), abs(rows)
    if kind is Kind.JPEG:
        return jpeg_size(head)
    return _tiff_size(head) if kind is Kind.TIFF else None


def _tiff_size(data: bytes | mmap.mmap) -> tuple[int, int] | None:
    """Read ImageWidth and ImageLength (tags 256, 257) from the first directory of a classic TIFF (TIFF 6.0, 2)."""
    order = "<" if data[:2] == b"II" else ">"
    sides: dict[int, int] = {}
    try:
        if struct.unpack_from(order + "H", data, 2)[0] != 42:
            return None
        directory = struct.unpack_from(order + "I", data, 4)[0]
        for number in range(struct.unpack_from(order + "H", data, directory)[0]):
            tag, form = struct.unpack_from(order + "HH", data, directory + 2 + 12 * number)
            if tag in (256, 257) and form in (3, 4):
                layout = order + ("H" if form == 3 else "I")
                sides[tag] = struct.unpack_from(layout, data, directory + 2 + 12 * number + 8)[0]
    except struct.error:
        return None
    return (sides[256], sides[257]) if len(sides) == 2 else None


def jpeg_size(data: bytes | mmap.mmap) -> tuple[int, int] | None:
    """Find the frame header of a JPEG or JPEG-LS stream (ISO/IEC 10918-1 B.2.2) and read its size.

    Args:
        data: The stream from its first byte.

    Returns:
        (columns, rows), or None when no frame header was found.
    """
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", data, position + 5)
            return columns, rows
        if marker in (0xD9, 0xDA):
            return None
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return None


# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC), and JPEG-LS's SOF55.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def _image_kind(head: bytes) -> Kind | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if head.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return Kind.TIFF
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_BYTES:
        return Kind.BMP
    return Kind.DICOM if _bare_dicom(head) else None


def _bare_dicom(head: bytes) -> bool:
    """Recognise DICOM without the 128-byte preamble: a first element of group 2 or 8 with a likely length or VR."""
    if len(head) < 16:
        return False
    group, element, length = _IMPLICIT_HEAD.unpack_from(head)
    big_endian = head[:2] in (b"\x00\x02", b"\x00\x08")
    if big_endian:
        group, element = struct.unpack_from(">HH", head)
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    if head[4:6] in _EARLY_VRS:
        return True
    return not big_endian and length <= 64 and (element != 0 or length == 4)


_EARLY_VRS = frozenset({b"UL", b"OB", b"UI", b"CS", b"SH", b"DA", b"TM", b"LO", b"SQ", b"AE", b"DT", b"PN"})


def _not_recognised(head: bytes) -> RejectedFile:
    body = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in body[:1024]:
        return RejectedFile(Reason.IMAGE_FORMAT, found="SVG")
    if body.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<body")):
        return RejectedFile(Reason.OTHER_FORMAT, found="a web page")
    if body.startswith(b"<?xml"):
        return RejectedFile(Reason.OTHER_FORMAT, found="an XML document")
    if b"\x00" not in head and _is_text(head):
        return RejectedFile(Reason.TEXT)
    return RejectedFile(Reason.UNKNOWN_CONTENT)


def _is_text(head: bytes) -> bool:
    """Judge whether bytes are text: UTF-8 (possibly cut off at the end), or nearly no control characters."""
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if controls:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            high = sum(byte > 126 for byte in head)
            return high * 10 < len(head) * 3
    return True
