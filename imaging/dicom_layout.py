"""How the pixels of a DICOM file are laid out, held against the limits and against the bytes that are there.

This module owns the checks between header and decoder: attribute types and ranges, announced size against limits,
announced length against what the file holds, and, for compressed pixels, the size that each JPEG, JPEG-LS or
JPEG 2000 stream states for itself, because the decoders believe the stream and not the header. It decodes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import RLELossless

from imaging.dicom import MALFORMED, UNDEFINED_LENGTH, Header
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.sniff import jpeg_size

_PIXEL_DATA = (0x7FE0, 0x0010)
_FLOAT_PIXEL_DATA = ((0x7FE0, 0x0008), (0x7FE0, 0x0009))
_ITEM = (0xFFFE, 0xE000)
_SEQUENCE_END = (0xFFFE, 0xE0DD)
_LONG_PIXEL_VRS = (b"OB", b"OW", b"UN")

PHOTOMETRIC: dict[int, frozenset[str]] = {
    1: frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}),
    3: frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}),
}

# An RLE segment of literals grows by one byte in 128, its header is 64 bytes; twice the size is beyond any encoder.
_MAX_RLE_GROWTH = 2
_STREAM_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Checked description of the pixel data.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        frames: Number of frames.
        samples: Samples a pixel: 1 or 3.
        bits_allocated: Bits a stored sample: 1, 8, 16 or 32.
        bits_stored: Bits in use of them.
        signed: Whether samples are two's complement.
        photometric: PhotometricInterpretation.
        value_at: Position of the first byte of the pixel data's value.
        pixel_vr: Value representation of the pixel data.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    value_at: int
    pixel_vr: str


def has_pixels(header: Header) -> bool:
    """Say whether a pixel data element of any kind follows the header.

    Args:
        header: The opened file.
    """
    return _tag_at(header, header.pixels_at) in (_PIXEL_DATA, *_FLOAT_PIXEL_DATA)


def layout_of(header: Header, limits: Limits) -> Layout:
    """Check the announced layout; decode nothing.

    Args:
        header: The opened file, which has pixel data.
        limits: Bounds.

    Returns:
        The layout.

    Raises:
        RejectedFile: The header is impossible, announces more than the limits allow or more than the file holds, or is
            of a form that is not read.
    """
    if _tag_at(header, header.pixels_at) != _PIXEL_DATA:
        raise RejectedFile(Reason.PIXEL_FORMAT, found="floating point")
    rows, columns = _short(header, "Rows"), _short(header, "Columns")
    if rows < 1 or columns < 1:
        raise RejectedFile(Reason.DICOM_VALUE, attribute="Rows" if rows < 1 else "Columns")
    if max(rows, columns) > limits.max_side or rows * columns > limits.max_pixels:
        raise RejectedFile(
            Reason.PICTURE_SIZE, columns=columns, rows=rows, max_side=limits.max_side, max_pixels=limits.max_pixels
        )
    frames = _frames(header)
    if frames > limits.max_frames:
        raise RejectedFile(Reason.FRAMES, found=frames, limit=limits.max_frames)
    samples = _short(header, "SamplesPerPixel", 1)
    allocated = _short(header, "BitsAllocated")
    stored = _short(header, "BitsStored", allocated)
    high_bit = _short(header, "HighBit", stored - 1)
    photometric = str(_value(header, "PhotometricInterpretation") or "").strip().upper()
    if photometric not in PHOTOMETRIC.get(samples, frozenset()):
        known = {name for names in PHOTOMETRIC.values() for name in names}
        found = photometric if photometric in known else "unknown colour model"
        raise RejectedFile(Reason.PIXEL_FORMAT, found=f"{found}, {samples} samples a pixel")
    if allocated not in ((1, 8, 16, 32) if samples == 1 else (8, 16)):
        raise RejectedFile(Reason.PIXEL_FORMAT, found=f"{allocated} bits allocated")
    if not 1 <= stored <= allocated:
        raise RejectedFile(Reason.DICOM_VALUE, attribute="BitsStored")
    if not stored - 1 <= high_bit < allocated:
        raise RejectedFile(Reason.DICOM_VALUE, attribute="HighBit")
    decoded = rows * columns * frames * max(4, samples * allocated // 8)
    if decoded > limits.max_decoded_bytes:
        raise RejectedFile(Reason.DECODED_BYTES, found=decoded, limit=limits.max_decoded_bytes)
    value_at, vr, length = _pixel_element(header)
    layout = Layout(
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=_short(header, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        value_at=value_at,
        pixel_vr=vr,
    )
    if header.transfer_syntax.is_encapsulated:
        if length != UNDEFINED_LENGTH:
            raise RejectedFile(Reason.DICOM_MALFORMED)
        _check_fragments(header, layout)
    else:
        _check_native(header, layout, length)
    return layout


def _value(header: Header, keyword: str) -> object:
    try:
        return header.dataset.get(keyword)
    except MALFORMED:
        raise RejectedFile(Reason.DICOM_VALUE, attribute=keyword) from None


def _short(header: Header, keyword: str, default: int | None = None) -> int:
    """Read an attribute that must be one unsigned 16-bit number, and must say so (VR US)."""
    value = _value(header, keyword)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or header.dataset[keyword].VR != "US":
        raise RejectedFile(Reason.DICOM_VALUE, attribute=keyword)
    return value


def _frames(header: Header) -> int:
    value = _value(header, "NumberOfFrames")
    if value is None or value == "":
        return 1
    try:
        frames = int(str(value))
    except ValueError:
        frames = 0
    if frames < 1:
        raise RejectedFile(Reason.DICOM_VALUE, attribute="NumberOfFrames")
    return frames


def _read(header: Header, position: int, count: int) -> bytes:
    header.stream.seek(position)
    return header.stream.read(count)


def _tag_at(header: Header, position: int) -> tuple[int, int] | None:
    data = _read(header, position, 4)
    if len(data) < 4:
        return None
    group, element = struct.unpack("<HH" if header.little_endian else ">HH", data)
    return group, element


def _pixel_element(header: Header) -> tuple[int, str, int]:
    """Give position of the value, VR and length of the pixel data element."""
    order = "<" if header.little_endian else ">"
    data = _read(header, header.pixels_at, 12)
    if len(data) < 8:
        raise RejectedFile(Reason.DICOM_MALFORMED)
    # Ask the bytes, not the transfer syntax: some files carry no VR although theirs demands one. As a length, these
    # letters would be an odd number of bytes, which pixel data never has.
    vr = data[4:6]
    if vr in _LONG_PIXEL_VRS and data[6:8] == b"\x00\x00" and len(data) == 12:
        length = int(struct.unpack_from(order + "I", data, 8)[0])
        return header.pixels_at + 12, "OW" if vr == b"UN" else vr.decode("ascii"), length
    encapsulated = header.transfer_syntax.is_encapsulated
    return header.pixels_at + 8, "OB" if encapsulated else "OW", int(struct.unpack_from(order + "I", data, 4)[0])


def _check_native(header: Header, layout: Layout, length: int) -> None:
    samples = layout.rows * layout.columns * layout.frames * layout.samples
    announced = (samples * layout.bits_allocated + 7) // 8
    if layout.photometric == "YBR_FULL_422":
        announced = announced // 3 * 2
    found = max(0, header.stream_bytes - layout.value_at)
    if length != UNDEFINED_LENGTH:
        found = min(found, length)
    if found < announced:
        raise RejectedFile(Reason.PIXEL_DATA_SHORT, announced=announced, found=found)
    if length == UNDEFINED_LENGTH:
        raise RejectedFile(Reason.DICOM_MALFORMED)


def _check_fragments(header: Header, layout: Layout) -> None:
    frame_bytes = layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8
    fragments = 0
    whole = False
    for number, (position, length, complete) in enumerate(_items(header, layout.value_at)):
        if not complete:
            raise RejectedFile(Reason.TRUNCATED, found="DICOM")
        if number == 0:
            continue  # the basic offset table
        fragments += 1
        if header.transfer_syntax == RLELossless:
            if length > frame_bytes * _MAX_RLE_GROWTH + 128:
                raise RejectedFile(Reason.FRAME_MISMATCH, announced=_size(layout), found="more")
        else:
            whole = _check_stream(header, layout, position, length) or whole
    if fragments < layout.frames or (header.transfer_syntax != RLELossless and not whole):
        raise RejectedFile(Reason.TRUNCATED, found="DICOM")


def _items(header: Header, position: int) -> Iterator[tuple[int, int, bool]]:
    """Walk the items of encapsulated pixel data: (position of the value, its length, whether it is all there)."""
    while True:
        head = _read(header, position, 8)
        if len(head) < 8:
            return
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _SEQUENCE_END:
            return
        if (group, element) != _ITEM or length == UNDEFINED_LENGTH:
            raise RejectedFile(Reason.DICOM_MALFORMED)
        yield position + 8, length, position + 8 + length <= header.stream_bytes
        position += 8 + length


def _check_stream(header: Header, layout: Layout, position: int, length: int) -> bool:
    """Compare the size a compressed stream states with the header's; True when this fragment starts a stream.

    Raises:
        RejectedFile: They differ, or the stream does not say within this fragment.
    """
    head = _read(header, position, min(length, _STREAM_HEAD_BYTES))
    if head.startswith(b"\xff\xd8"):
        size = jpeg_size(head)
        if size is None and length > len(head):
            size = jpeg_size(_read(header, position, length))
    elif head.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")):
        size = _jpeg2000_size(head[head.find(b"\xff\x4f\xff\x51") :], layout.samples)
    else:
        return False
    if size is None:
        raise RejectedFile(Reason.DICOM_MALFORMED)
    if size != (layout.columns, layout.rows):
        raise RejectedFile(Reason.FRAME_MISMATCH, announced=_size(layout), found=f"{size[0]} x {size[1]}")
    return True


def _size(layout: Layout) -> str:
    return f"{layout.columns} x {layout.rows}"


def _jpeg2000_size(codestream: bytes, samples: int) -> tuple[int, int] | None:
    """Read the SIZ segment (ISO/IEC 15444-1 A.5.1); None when it is missing or has another number of components."""
    if len(codestream) < 42 or not codestream.startswith(b"\xff\x4f\xff\x51"):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", codestream, 8)
    components = struct.unpack_from(">H", codestream, 40)[0]
    return (right - left, bottom - top) if components == samples else None
