"""Reading PNG, JPEG, TIFF and BMP within limits.

This module owns the way from the bytes of such a file to grey frames. The size that the header states is checked
before anything is decoded, files that end too early are refused rather than half read, and only the decoder of the
format that the content shows is ever asked. It refuses to touch other formats, file names and metadata besides the
EXIF orientation.

Intensity: 8-bit pictures keep value / 255. Deeper ones are stretched from their darkest to their brightest value,
because they hold scanner values of unknown range. Colour becomes grey by ITU-R BT.601; what is transparent is black.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImagePalette, TiffImagePlugin

from imaging import intensity
from imaging.frames import Frame, FrameGeometry, ImageInfo, Intensity, Kind
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.quiet import silence_decoders
from imaging.sniff import stated_size

Data: TypeAlias = bytes | mmap.mmap

_FORMATS = {Kind.PNG: "PNG", Kind.JPEG: "JPEG", Kind.TIFF: "TIFF", Kind.BMP: "BMP"}
_ORIENTATION = 0x0112
# Pillow refuses by itself what has more than 178,956,970 pixels; counted here as four bytes each.
_PILLOW_BOUND = "> 715827880"
_TURNED = frozenset({5, 6, 7, 8})
_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
_GREY = frozenset({"1", "L", "LA", "La"}) | _DEEP_GREY

# What Pillow raises for broken files; anything else is our own fault and must be seen.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    cv2.error,
)


def inspect_raster(kind: Kind, data: Data, limits: Limits) -> ImageInfo:
    """Describe a picture without decoding it, and check that it is whole as far as its structure shows.

    Args:
        kind: Format, told by content.
        data: The whole file, or a map of it.
        limits: Bounds.

    Returns:
        Its description, the size as displayed.

    Raises:
        RejectedFile: It is broken, cut off, over a limit, or of an unsupported form.
    """
    with _opened(kind, data, limits) as picture:
        try:
            return _described(kind, data, picture, limits)
        except _BROKEN as error:
            raise _broken(kind, error) from error


def _described(kind: Kind, data: Data, picture: Image.Image, limits: Limits) -> ImageInfo:
    _check_whole(kind, data, picture)
    columns, rows = picture.size
    frames = _page_count(picture, limits)
    _check_total(rows * columns * frames, limits)
    if kind is not Kind.TIFF and _orientation(picture) in _TURNED:  # a TIFF's size is given as displayed
        columns, rows = rows, columns
    return ImageInfo(
        kind=kind,
        rows=rows,
        columns=columns,
        frames=frames,
        size_bytes=len(data),
        bits=_bits(kind, data, picture),
        colour=_is_colour(picture),
        geometry=(FrameGeometry(),) * frames,
    )


def iter_raster(kind: Kind, data: Data, limits: Limits, indices: Iterable[int] | None = None) -> Iterator[Frame]:
    """Decode a picture's pages one by one.

    Args:
        kind: Format, told by content.
        data: The whole file, or a map of it.
        limits: Bounds.
        indices: Pages wanted, counted from 0; None for all.

    Yields:
        Grey frames.

    Raises:
        RejectedFile: As for :func:`inspect_raster`, or a page was asked for that is not there.
    """
    with _opened(kind, data, limits) as picture:
        frames = _page_count(picture, limits) if kind is Kind.TIFF or kind is Kind.PNG else 1
        columns, rows = picture.size
        _check_total(rows * columns * frames, limits)
        for index in range(frames) if indices is None else indices:
            if not 0 <= index < frames:
                raise RejectedFile(Reason.FRAME_MISSING, frame=index, frames=frames)
            yield _decode_page(kind, data, picture, index, limits)


def _opened(kind: Kind, data: Data, limits: Limits) -> Image.Image:
    silence_decoders()
    size = stated_size(kind, data)
    if size is not None:
        _check_size(*size, limits)
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        picture = Image.open(cast("IO[bytes]", file), formats=[_FORMATS[kind]])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own bound is the wider one; it is met only by sizes that the header hides from stated_size.
        raise RejectedFile(Reason.DECODED_BYTES, found=_PILLOW_BOUND, limit=limits.max_decoded_bytes) from error
    except _BROKEN as error:
        raise _broken(kind, error) from error
    _check_size(*picture.size, limits)
    return picture


def _check_size(columns: int, rows: int, limits: Limits) -> None:
    if not (0 < columns <= limits.max_side and 0 < rows <= limits.max_side and columns * rows <= limits.max_pixels):
        raise RejectedFile(
            Reason.PICTURE_SIZE,
            columns=columns,
            rows=rows,
            max_side=limits.max_side,
            max_pixels=limits.max_pixels,
        )


def _check_total(pixels: int, limits: Limits) -> None:
    if pixels * 4 > limits.max_decoded_bytes:
        raise RejectedFile(Reason.DECODED_BYTES, found=pixels * 4, limit=limits.max_decoded_bytes)


def _page_count(picture: Image.Image, limits: Limits) -> int:
    """Count pages without trusting a chain of headers to end; leaves the picture at its first page."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        frames = int(getattr(picture, "n_frames", 1))
        if frames > 1 and picture.format == "PNG":
            raise RejectedFile(Reason.ANIMATED, frames=frames)
        return 1
    frames = 1
    pixels = picture.size[0] * picture.size[1]
    try:
        while True:
            try:
                picture.seek(frames)
            except EOFError:
                break
            _check_size(*picture.size, limits)
            pixels += picture.size[0] * picture.size[1]
            _check_total(pixels, limits)
            frames += 1
            if frames > limits.max_frames:
                raise RejectedFile(Reason.FRAMES, found=f"> {limits.max_frames}", limit=limits.max_frames)
        picture.seek(0)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectedFile(Reason.DECODED_BYTES, found=_PILLOW_BOUND, limit=limits.max_decoded_bytes) from error
    except _BROKEN as error:
        raise _broken(Kind.TIFF, error) from error
    return frames


def _decode_page(kind: Kind, data: Data, picture: Image.Image, index: int, limits: Limits) -> Frame:
    try:
        if index != picture.tell():
            picture.seek(index)
        _check_size(*picture.size, limits)
        deep_colour = _bits(kind, data, picture) == 16 and picture.mode not in _DEEP_GREY
        orientation = 1 if kind is Kind.TIFF else _orientation(picture)
        picture.load()
        if deep_colour:
            # Pillow keeps the upper eight bits of deep colour; having proved the file whole, let OpenCV read all 16.
            if kind is Kind.TIFF:
                orientation = int(getattr(picture, "tag_v2", {}).get(_ORIENTATION, 1))
            pixels = _deep_colour(data, index)
            rule = Intensity.MIN_MAX
        elif picture.mode in _DEEP_GREY:
            pixels = intensity.stretch(np.asarray(picture))
            rule = Intensity.MIN_MAX
        else:
            pixels = _shallow(picture)
            rule = Intensity.FULL_RANGE
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectedFile(Reason.DECODED_BYTES, found=_PILLOW_BOUND, limit=limits.max_decoded_bytes) from error
    except MemoryError as error:
        raise RejectedFile(Reason.MEMORY) from error
    except _BROKEN as error:
        raise _broken(kind, error) from error
    return Frame(pixels=np.ascontiguousarray(_turned(pixels, orientation)), index=index, intensity=rule)


def _shallow(picture: Image.Image) -> NDArray[np.float32]:
    if picture.mode == "L" and "transparency" not in picture.info:
        return intensity.full_range(np.asarray(picture))
    if picture.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        grey = intensity.full_range(np.asarray(layered.convert("RGB").convert("L")))
        grey *= intensity.full_range(np.asarray(layered.getchannel("A")))
        return grey
    if picture.mode in ("1", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB"):
        # Grey saved as colour must come out as the same grey: Pillow's integer weights add up to exactly one.
        colour = picture if picture.mode in ("1", "RGB") else picture.convert("RGB")
        return intensity.full_range(np.asarray(colour.convert("L")))
    raise RejectedFile(Reason.PIXEL_FORMAT, found=picture.mode)


def _deep_colour(data: Data, index: int) -> NDArray[np.float32]:
    decoded, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, None, (index, index + 1))
    if not decoded or not pages:
        raise ValueError("the 16-bit decoder returned no page")
    values: NDArray[Any] = pages[0]
    if values.ndim == 2:
        return intensity.stretch(values)
    grey = intensity.grey_of(values[..., 2::-1])
    if values.shape[-1] == 4:
        grey *= values[..., 3].astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return intensity.stretch(grey)


def orientation_of(kind: Kind, data: Data, limits: Limits) -> int:
    """The EXIF orientation by which a picture is turned when it is read, 1 to 8; 1 when it says none.

    Raises:
        RejectedFile: It cannot be opened.
    """
    with _opened(kind, data, limits) as picture:
        return _orientation(picture)


def _orientation(picture: Image.Image) -> int:
    if "exif" not in picture.info:
        return 1
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1  # a broken EXIF block is no reason to refuse a whole picture
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(pixels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Undo an EXIF orientation (Exif 2.32, tag 0x0112): 1 is upright, 2 to 8 are its flips and turns."""
    if orientation in _TURNED:
        pixels = pixels.T
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _bits(kind: Kind, data: Data, picture: Image.Image) -> int:
    if kind is Kind.PNG:
        return {1: 1, 16: 16}.get(data[24], 8)
    if kind is Kind.TIFF:
        stated = getattr(picture, "tag_v2", {}).get(258, (1,))
        depth = max(stated) if isinstance(stated, tuple) else int(stated)
        return 1 if depth == 1 else 8 if depth <= 8 else 16 if depth <= 16 else 32
    return 1 if picture.mode == "1" else 8


def _is_colour(picture: Image.Image) -> bool:
    if picture.mode in ("P", "PA"):
        return _has_colour(picture.palette)
    return picture.mode not in _GREY


def _has_colour(palette: ImagePalette.ImagePalette | None) -> bool:
    """Say whether a palette holds other shades than grey; asks the header alone, unlike Pillow's getpalette()."""
    if palette is None:
        return False
    values = np.frombuffer(bytes(palette.palette), np.uint8)
    wide = 4 if palette.rawmode in ("BGRX", "RGBX", "RGBA") else 3
    values = values[: values.size // wide * wide]
    shades = values.reshape(3, -1).T if palette.rawmode == "RGB;L" else values.reshape(-1, wide)[:, :3]
    return bool((shades != shades[:, :1]).any())


def _check_whole(kind: Kind, data: Data, picture: Image.Image) -> None:
    """Find files that end too early by their structure alone; decoding finds the rest.

    Raises:
        RejectedFile: The file ends before its picture does.
    """
    whole = True
    if kind is Kind.PNG:
        whole = _png_ends(data)
    elif kind is Kind.JPEG:
        start = data.find(b"\xff\xda", 0)  # a map would search from where it was read last
        whole = start >= 0 and data.find(b"\xff\xd9", start) >= 0
    elif kind is Kind.TIFF:
        tags = getattr(picture, "tag_v2", {})
        for offsets, counts in ((273, 279), (324, 325)):
            for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
                whole = whole and offset + count <= len(data)
    elif kind is Kind.BMP:
        offset, header, compression = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0], 0
        at, bits_at = (18, 24) if header == 12 else (18, 28)
        bits = struct.unpack_from("<H", data, bits_at)[0] if len(data) >= bits_at + 2 else 0
        if header != 12 and len(data) >= 34:
            compression = struct.unpack_from("<I", data, at + 12)[0]
        columns, rows = picture.size
        if compression in (0, 3):
            whole = offset + (columns * bits + 31) // 32 * 4 * rows <= len(data)
    if not whole:
        raise RejectedFile(Reason.TRUNCATED, found=_FORMATS[kind])


def _png_ends(data: Data) -> bool:
    position = 8
    while position + 12 <= len(data):
        length = int(struct.unpack_from(">I", data, position)[0])
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + length
    return False


def _broken(kind: Kind, error: Exception) -> RejectedFile:
    """Tell the ways apart in which a decoder gives up; its own words may quote the file and are not passed on."""
    words = str(error).casefold()
    name = _FORMATS[kind]
    if "decompressed data too large" in words or "too much memory" in words or "max_text" in words:
        return RejectedFile(Reason.METADATA_BYTES, found=name)
    if "truncated" in words or isinstance(error, EOFError):
        return RejectedFile(Reason.TRUNCATED, found=name)
    return RejectedFile(Reason.DAMAGED, found=name)
