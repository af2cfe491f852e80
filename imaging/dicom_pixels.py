"""Decoding DICOM pixels into displayed grey.

This module owns the chain that a viewer applies (PS3.3 C.11, PS3.4 N.2): stored values, modality look-up table or
rescale, VOI look-up table or window, then MONOCHROME1 inversion, then padding shown as black. The first VOI of several
counts; a frame of an enhanced object has its own. Without a usable one, 8-bit values without a rescale are shown as
they are (value / 255, as in a PNG) and all others are stretched from the darkest to the brightest value of the frame,
padding left out. Secondary captures in colour become grey. It refuses to decode anything that
`imaging.dicom_layout` has not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options

from imaging import intensity
from imaging.dicom import MALFORMED, Header
from imaging.dicom_facts import attribute, functional_group, geometry_of, item_of, number, text
from imaging.dicom_layout import Layout
from imaging.frames import Frame, Intensity, Pixels, Unwindowed
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile


def iter_dicom(header: Header, layout: Layout, limits: Limits, indices: Iterable[int] | None = None) -> Iterator[Frame]:
    """Decode frames one by one.

    Args:
        header: The opened file.
        layout: Its checked layout.
        limits: Bounds.
        indices: Frames wanted, counted from 0; None for all. Each is asked for when its frame is.

    Yields:
        Grey frames with their geometry.

    Raises:
        RejectedFile: The pixels are damaged, or a frame was asked for that is not there.
    """
    for index in range(layout.frames) if indices is None else indices:
        if not 0 <= index < layout.frames:
            raise RejectedFile(Reason.FRAME_MISSING, frame=index, frames=layout.frames)
        yield _frame(header, layout, index, limits)


def unwindowed_dicom(header: Header, layout: Layout, limits: Limits, index: int) -> Unwindowed:
    """Decode a frame without applying its window.

    Args:
        header: The opened file.
        layout: Its checked layout.
        limits: Bounds.
        index: Frame number, counted from 0.

    Raises:
        RejectedFile: As for :func:`iter_dicom`.
    """
    if not 0 <= index < layout.frames:
        raise RejectedFile(Reason.FRAME_MISSING, frame=index, frames=layout.frames)
    with _damage():
        stored = _decoded(header, layout, index)
        pixels, rule = _displayed(header, layout, stored, index, limits)
        grey = stored.ndim == 2 and layout.photometric != "PALETTE COLOR"
        if not grey or rule not in (Intensity.WINDOW, Intensity.MIN_MAX):
            return intensity.unwindowed(pixels, rule)
        values = np.asarray(_modality(header, stored, index), np.float32)
        padded = _padding(header.dataset, stored, layout)
        valid = values if padded is None else values[~padded]
        low, high = float(valid.min()), float(valid.max())
        centre, width = (low + high) / 2, max(high - low, 1.0)
        inverted = layout.photometric == "MONOCHROME1"
        window = _window(header, index, limits) if rule is Intensity.WINDOW else None
        if window is not None:
            centre, width, function = window
            if function == "LINEAR":
                centre, width = centre - 0.5, max(width - 1, 1e-3)
        if padded is not None:
            black = max(high, centre + width / 2) if inverted else min(low, centre - width / 2)
            values = np.where(padded, np.float32(black), values)
        return Unwindowed(np.ascontiguousarray(values), centre, width, inverted)


def _frame(header: Header, layout: Layout, index: int, limits: Limits) -> Frame:
    with _damage():
        pixels, rule = _displayed(header, layout, _decoded(header, layout, index), index, limits)
        where = geometry_of(header.dataset, index, layout.frames)
        return Frame(
            pixels=np.ascontiguousarray(pixels),
            index=index,
            plane=where.plane,
            position_mm=where.position_mm,
            spacing_mm=where.spacing_mm,
            intensity=rule,
        )


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what decoders raise over damaged pixels into a refusal."""
    try:
        yield
    except MemoryError as error:
        raise RejectedFile(Reason.MEMORY) from error
    except MALFORMED as error:
        raise RejectedFile(Reason.DAMAGED, found="DICOM") from error
    except BaseException as error:
        # The RLE decoder is written in Rust; its panics on damaged data come as a BaseException of this module.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise RejectedFile(Reason.DAMAGED, found="DICOM") from None


def _decoded(header: Header, layout: Layout, index: int) -> NDArray[Any]:
    """Let pydicom's decoders make an array of shape (rows, columns) or (rows, columns, 3)."""
    options = as_pixel_options(header.dataset)
    # An extended offset table may point anywhere in the file, past the streams that were checked; do without it.
    options.pop("extended_offsets", None)
    options.update(
        transfer_syntax_uid=header.transfer_syntax,
        pixel_vr=layout.pixel_vr,
        pixel_keyword="PixelData",
        number_of_frames=layout.frames,
        bits_stored=layout.bits_stored,
        samples_per_pixel=layout.samples,
        photometric_interpretation=layout.photometric,
        pixel_representation=int(layout.signed),
    )
    header.stream.seek(layout.value_at)
    decoder = get_decoder(header.transfer_syntax)
    ((stored, _),) = decoder.iter_array(header.stream, indices=[index], raw=False, **options)
    if stored.shape[:2] != (layout.rows, layout.columns):
        found = "x".join(str(side) for side in stored.shape)
        raise RejectedFile(Reason.FRAME_MISMATCH, announced=f"{layout.columns} x {layout.rows}", found=found)
    return stored


def _displayed(
    header: Header, layout: Layout, stored: NDArray[Any], index: int, limits: Limits
) -> tuple[Pixels, Intensity]:
    if layout.photometric == "PALETTE COLOR":
        return _colour(apply_color_lut(stored, header.dataset))
    if stored.ndim == 3:
        return _colour(stored)
    dataset = header.dataset
    padded = _padding(dataset, stored, layout)
    values = _modality(header, stored, index)
    shown, rule = _voi(header, values, index, limits)
    return intensity.as_shown(stored, values, shown, rule, padded, inverted=layout.photometric == "MONOCHROME1")


def _colour(values: NDArray[Any]) -> tuple[Pixels, Intensity]:
    grey = intensity.grey_of(values)
    if values.dtype == np.uint8:
        return np.clip(grey * np.float32(1 / 255), 0, 1), Intensity.FULL_RANGE
    return intensity.stretch(grey), Intensity.MIN_MAX


def _padding(dataset: Dataset, stored: NDArray[Any], layout: Layout) -> NDArray[np.bool_] | None:
    first = attribute(dataset, "PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = attribute(dataset, "PixelPaddingRangeLimit")
    low, high = (_as_stored(value, layout) for value in (first, last if isinstance(last, int) else first))
    low, high = min(low, high), max(low, high)
    padded = (stored >= low) & (stored <= high)
    # A "padding" that covers all is a mistake of the writer: a black picture would hide it.
    return padded if padded.any() and not padded.all() else None


def _as_stored(value: int, layout: Layout) -> int:
    """Read a value of a signed image that was written as unsigned as the number it stands for."""
    half = 1 << (layout.bits_allocated - 1)
    return value - 2 * half if layout.signed and value >= half else value


def _modality(header: Header, stored: NDArray[Any], index: int) -> NDArray[Any]:
    """Apply the modality look-up table or rescale.

    Raises:
        RejectedFile: Slope or intercept is no number, or absurd (a slope of zero would make every pixel alike).
    """
    dataset = header.dataset
    table = _table(header, item_of(dataset, "ModalityLUTSequence"))
    if table is not None:
        return intensity.look_up(stored, table[0], table[1])
    group = functional_group(dataset, index, "PixelValueTransformationSequence")
    source = group if group is not None else dataset
    slope, intercept = 1.0, 0.0
    if attribute(source, "RescaleSlope") is not None:
        found = number(source, "RescaleSlope")
        if found is None or not intensity.SMALLEST_SLOPE <= abs(found) <= intensity.LARGEST:
            raise RejectedFile(Reason.DICOM_VALUE, attribute="RescaleSlope")
        slope = found
    if attribute(source, "RescaleIntercept") is not None:
        offset = number(source, "RescaleIntercept")
        if offset is None or abs(offset) > intensity.LARGEST:
            raise RejectedFile(Reason.DICOM_VALUE, attribute="RescaleIntercept")
        intercept = offset
    if slope == 1 and intercept == 0:
        return stored
    return intensity.linear(stored, slope, intercept, np.float64 if stored.dtype.itemsize > 2 else np.float32)


def _voi(header: Header, values: NDArray[Any], index: int, limits: Limits) -> tuple[Pixels | None, Intensity]:
    dataset = header.dataset
    group = functional_group(dataset, index, "FrameVOILUTSequence")
    source = group if group is not None else dataset
    table = _table(header, item_of(source, "VOILUTSequence"))
    if table is not None:
        entries, first, bits = table
        highest = max(float(entries.max()), float((1 << bits) - 1))
        shown = intensity.look_up(values, entries, first).astype(np.float32)
        if highest > 0 and not (shown.min() == shown.max() and values.min() != values.max()):
            return shown / np.float32(highest), Intensity.VOI_LUT
    window = _window(header, index, limits)
    if window is None:
        return None, Intensity.MIN_MAX
    return intensity.window(values, *window), Intensity.WINDOW


def _window(header: Header, index: int, limits: Limits) -> tuple[float, float, intensity.WindowFunction] | None:
    """Read the first window: centre, width and function; None when the header has none."""
    group = functional_group(header.dataset, index, "FrameVOILUTSequence")
    source = group if group is not None else header.dataset
    centre, width = number(source, "WindowCenter"), number(source, "WindowWidth")
    if centre is None or width is None:
        return None
    function = intensity.WINDOW_FUNCTIONS.get((text(source, "VOILUTFunction", limits) or "LINEAR").upper(), "LINEAR")
    return centre, width, function


def _table(header: Header, item: Dataset | None) -> tuple[NDArray[Any], int, int] | None:
    """Read a look-up table item (PS3.3 C.11.1.1): entries, the value of the first, and bits an entry.

    Returns:
        None when there is no item, or it is not usable.
    """
    if item is None:
        return None
    descriptor, data = attribute(item, "LUTDescriptor"), attribute(item, "LUTData")
    try:
        count, first, bits = (int(part) for part in cast("Iterable[Any]", descriptor))
        if isinstance(data, bytes):
            order = "<u2" if header.little_endian else ">u2"
            entries: NDArray[Any] = np.frombuffer(data, order if len(data) >= 2 * (count or 65536) else np.uint8)
        else:
            entries = np.asarray(data)
        entries = np.atleast_1d(entries)[: count or 65536]
    except MALFORMED:
        return None
    usable = entries.ndim == 1 and entries.size > 0 and entries.dtype.kind in "iu" and 1 <= bits <= 16
    return (entries, first, bits) if usable else None
