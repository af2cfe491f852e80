"""The short way to the pixels of plain DICOM files.

Most slices that come from a scanner are of one kind: one frame, grey, uncompressed, 8 or 16 bits, at most a linear
rescale and a window. This module owns reading exactly that kind straight from the bytes, at a tenth of the cost of
building a data set of all attributes: it walks the elements (PS3.5 7.1), keeps the fifteen that matter, and looks at
the pixels where they lie.

It refuses everything else, and everything odd, by answering None: an attribute in another form than the standard's, a
value out of range, a sequence that has a say in the display, a limit that is passed, a length that does not fit. The
caller then goes the long way, which knows all forms and finds the words for what is wrong; so this module must only
ever give what the long way gives, to the bit. It is pure Python and NumPy: no decoder of a codec sees the bytes.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging import intensity
from imaging.frames import Intensity, Kind, Pixels
from imaging.limits import Limits
from imaging.sniff import HEAD_BYTES, sniff

_EXPLICIT_LITTLE_ENDIAN, _IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_MEDIA_DIRECTORY = b"1.2.840.10008.1.3.10"

_PIXEL_DATA = 0x7FE00010
_PIXEL_GROUP = 0x7FE00000
_MAX_ELEMENTS = 4096
_LONGEST_BYTES = 16 * 1024 * 1024

# The elements of the file meta group, without those that only media of private kinds have.
_META: Mapping[int, bytes] = {
    0x0000: b"UL",
    0x0001: b"OB",
    0x0002: b"UI",
    0x0003: b"UI",
    0x0010: b"UI",
    0x0012: b"UI",
    0x0013: b"SH",
    0x0016: b"AE",
    0x0017: b"AE",
    0x0018: b"AE",
}

# What is read, and the value representation that it must have.
_WANTED: Mapping[int, bytes] = {
    0x00080016: b"UI",  # SOP Class UID
    0x00080060: b"CS",  # Modality
    0x00280002: b"US",  # Samples per Pixel
    0x00280004: b"CS",  # Photometric Interpretation
    0x00280008: b"IS",  # Number of Frames
    0x00280010: b"US",  # Rows
    0x00280011: b"US",  # Columns
    0x00280100: b"US",  # Bits Allocated
    0x00280101: b"US",  # Bits Stored
    0x00280102: b"US",  # High Bit
    0x00280103: b"US",  # Pixel Representation
    0x00281050: b"DS",  # Window Center
    0x00281051: b"DS",  # Window Width
    0x00281052: b"DS",  # Rescale Intercept
    0x00281053: b"DS",  # Rescale Slope
    0x00281056: b"CS",  # VOI LUT Function
}
# Whose presence asks for the long way: padding, look-up tables, functional groups.
_LONG_WAY = frozenset({0x00280120, 0x00280121, 0x00283000, 0x00283010, 0x52009229, 0x52009230})

_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHI"), struct.Struct("<I")
_SHORT = struct.Struct("<H")
_UID = re.compile(rb"[0-9]+(\.[0-9]+)*\x00?")
_NUMBER = re.compile(rb" *[+-]?[0-9]{1,12}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,2})? *")
_TYPES = {(8, 0): "u1", (8, 1): "i1", (16, 0): "<u2", (16, 1): "<i2"}


class _NotPlain(Exception):
    """The file is not of the plain kind."""


def read_plain(path: Path, limits: Limits) -> Pixels | None:
    """Read the pixels of a file when it is a plain DICOM file.

    Args:
        path: A local file.
        limits: Bounds.

    Returns:
        As :func:`plain_pixels`; None also when the file cannot be opened or is long.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            head = file.read(HEAD_BYTES)
            if size_bytes > min(limits.max_file_bytes, _LONGEST_BYTES) or sniff(head).kind is not Kind.DICOM:
                return None
            if _syntax(head)[0] not in (_EXPLICIT_LITTLE_ENDIAN, _IMPLICIT_LITTLE_ENDIAN):
                return None
            file.seek(0)
            return plain_pixels(file.read(size_bytes), limits)
    except (OSError, _NotPlain, struct.error, ValueError):
        return None


def plain_pixels(data: bytes, limits: Limits) -> Pixels | None:
    """Read the pixels of a plain DICOM file.

    Args:
        data: The whole file, recognised as DICOM.
        limits: Bounds.

    Returns:
        float32, shape (rows, columns), displayed grey in [0, 1], as `imaging.dicom_pixels.iter_dicom` gives it; None
        when the file is not of the plain kind.
    """
    try:
        syntax, end = _syntax(data)
        if syntax == _EXPLICIT_LITTLE_ENDIAN:
            found, start, length = _explicit(data, end)
        elif syntax == _IMPLICIT_LITTLE_ENDIAN:
            found, start, length = _implicit(data, end)
        else:
            return None
        _check_kind(found, limits)
        stored = _stored(found, data, start, length, limits)
        return _displayed(found, stored)
    except (_NotPlain, struct.error, ValueError):
        return None


def _syntax(data: bytes) -> tuple[str, int]:
    """Walk the file meta group (PS3.10 7.1); gives the transfer syntax and where the data set begins."""
    if data[128:132] != b"DICM":
        raise _NotPlain
    syntax, position, last = "", 132, -1
    while True:
        group, element, vr, length = _EXPLICIT.unpack_from(data, position)
        if group != 2:
            return syntax, position
        if element <= last or vr != _META.get(element):
            raise _NotPlain
        start = position + 8
        if vr == b"OB":
            start, length = position + 12, _LENGTH.unpack_from(data, position + 8)[0]
        if element == 0x0010:
            syntax = data[start : start + length].rstrip(b"\x00").decode("ascii")
        elif element == 0x0002 and data.startswith(_MEDIA_DIRECTORY, start):
            raise _NotPlain
        position, last = start + length, element


def _explicit(data: bytes, position: int) -> tuple[dict[int, bytes], int, int]:
    """Walk elements with explicit VR; gives the wanted values and where the pixels lie (position, length)."""
    found: dict[int, bytes] = {}
    unpack, last, end = _EXPLICIT.unpack_from, 0, len(data)
    for _ in range(_MAX_ELEMENTS):
        group, element, vr, length = unpack(data, position)
        tag = group << 16 | element
        if tag <= last or group < 8:
            raise _NotPlain
        if vr in _SHORT_VRS:
            start = position + 8
        elif vr in _LONG_VRS and length == 0:
            start = position + 12
            length = _LENGTH.unpack_from(data, position + 8)[0]
        else:
            raise _NotPlain
        if tag >= _PIXEL_GROUP:
            if tag != _PIXEL_DATA or vr not in (b"OW", b"OB"):
                raise _NotPlain
            return found, start, length
        if tag in _WANTED:
            if vr != _WANTED[tag]:
                raise _NotPlain
            found[tag] = data[start : start + length]
        elif tag in _LONG_WAY:
            raise _NotPlain
        position, last = start + length, tag
        if position > end:  # an undefined length ends here too
            raise _NotPlain
    raise _NotPlain


def _implicit(data: bytes, position: int) -> tuple[dict[int, bytes], int, int]:
    """Walk elements with implicit VR; as `_explicit`."""
    found: dict[int, bytes] = {}
    unpack, last, end = _IMPLICIT.unpack_from, 0, len(data)
    for _ in range(_MAX_ELEMENTS):
        group, element, length = unpack(data, position)
        tag = group << 16 | element
        start = position + 8
        if tag <= last or group < 8 or (last == 0 and data[position + 4 : position + 6].isalpha()):
            raise _NotPlain
        if tag >= _PIXEL_GROUP:
            # An odd length is no length: a pixel element that states its VR although its syntax has none.
            if tag != _PIXEL_DATA or length & 1:
                raise _NotPlain
            return found, start, length
        if tag in _WANTED:
            found[tag] = data[start : start + length]
        elif tag in _LONG_WAY:
            raise _NotPlain
        position, last = start + length, tag
        if position > end:
            raise _NotPlain
    raise _NotPlain


def _check_kind(found: dict[int, bytes], limits: Limits) -> None:
    """Let pass what `imaging.dicom_facts.check_analysed` lets pass by its modality alone."""
    sop_class = found.get(0x00080016, b"1")
    if not _UID.fullmatch(sop_class) or len(sop_class) > 64:
        raise _NotPlain
    if found.get(0x00080060, b"").rstrip(b" ").decode("ascii") not in limits.modalities:
        raise _NotPlain
    if found.get(0x00280008, b"1").strip(b" ") != b"1":
        raise _NotPlain


def _stored(found: dict[int, bytes], data: bytes, start: int, length: int, limits: Limits) -> NDArray[Any]:
    """A view of the stored values, unused bits cleared, after the checks of `imaging.dicom_layout`."""
    rows, columns = _short(found, 0x00280010), _short(found, 0x00280011)
    allocated = _short(found, 0x00280100)
    stored_bits = _short(found, 0x00280101, allocated)
    signed = _short(found, 0x00280103, 0)
    kind = _TYPES.get((allocated, signed))
    plain = (
        kind is not None
        and _short(found, 0x00280002, 1) == 1
        and 1 <= stored_bits <= allocated
        and _short(found, 0x00280102, stored_bits - 1) == stored_bits - 1
        and 0 < rows <= limits.max_side
        and 0 < columns <= limits.max_side
        and rows * columns <= limits.max_pixels
        and rows * columns * 4 <= limits.max_decoded_bytes
        and length != 0xFFFFFFFF
        and rows * columns * allocated // 8 <= min(length, len(data) - start)
    )
    if not plain:
        raise _NotPlain
    values: NDArray[Any] = np.frombuffer(data, kind, rows * columns, start).reshape(rows, columns)
    unused = allocated - stored_bits
    if unused:
        values = np.left_shift(values, unused)
        np.right_shift(values, unused, out=values)
    return values


def _displayed(found: dict[int, bytes], stored: NDArray[Any]) -> Pixels:
    """Rescale and window; what has no usable window is shown by its range."""
    photometric = found.get(0x00280004, b"").rstrip(b" ")
    if photometric not in (b"MONOCHROME1", b"MONOCHROME2"):
        raise _NotPlain
    slope, intercept = _number(found, 0x00281053), _number(found, 0x00281052)
    values = stored
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not intensity.SMALLEST_SLOPE <= abs(slope) <= intensity.LARGEST or abs(intercept) > intensity.LARGEST:
        raise _NotPlain
    if slope != 1 or intercept != 0:
        values = intensity.linear(stored, slope, intercept, np.float32)
    centre, width = _number(found, 0x00281050), _number(found, 0x00281051)
    function = intensity.WINDOW_FUNCTIONS.get(found.get(0x00281056, b"LINEAR").rstrip(b" ").decode("ascii"))
    if function is None:
        raise _NotPlain
    shown = None if centre is None or width is None else intensity.window(values, centre, width, function)
    return intensity.as_shown(stored, values, shown, Intensity.WINDOW, None, inverted=photometric == b"MONOCHROME1")[0]


def _short(found: dict[int, bytes], tag: int, default: int | None = None) -> int:
    """A value of VR US, exactly one."""
    value = found.get(tag)
    if value is None and default is not None:
        return default
    if value is None or len(value) != 2:
        raise _NotPlain
    return int(_SHORT.unpack(value)[0])


def _number(found: dict[int, bytes], tag: int) -> float | None:
    """The first value of VR DS; None when there is none."""
    value = found.get(tag)
    if not value:
        return None
    parts = value.split(b"\\")
    if not all(map(_NUMBER.fullmatch, parts)):
        raise _NotPlain
    return float(parts[0])
