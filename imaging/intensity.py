"""From stored values to displayed grey in [0, 1].

This module owns the arithmetic: stretching, windowing (PS3.3 C.11.2.1.2 and .3), look-up tables, colour to grey. All
of it works on plain arrays. It refuses to read headers; `imaging.dicom_pixels` picks the numbers from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.frames import Intensity, Pixels, Unwindowed

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

WINDOW_FUNCTIONS: Mapping[str, WindowFunction] = {
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
"""The values of VOI LUT Function (0028,1056) that are known."""

SMALLEST_SLOPE, LARGEST = 1e-12, 1e12
"""Bounds of a rescale's slope and of the size of either of its numbers; others are a writer's mistake."""

# No scanner value lies beyond these; float32 keeps its feet within them.
_NARROWEST, _FARTHEST = 1e-6, 1e9

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), the ones that JPEG and DICOM's YBR use."""


def full_range(values: NDArray[np.uint8]) -> Pixels:
    """Scale 8-bit values to [0, 1].

    Args:
        values: uint8, any shape.

    Returns:
        float32 of the same shape, value / 255.
    """
    return np.multiply(values, np.float32(1 / 255), dtype=np.float32)


def stretch(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Pixels:
    """Stretch values so that the darkest becomes 0 and the brightest 1.

    Args:
        values: Numbers, any shape. Those that are not finite become 0.
        valid: True where a value counts for darkest and brightest; None when all count.

    Returns:
        float32 of the same shape in [0, 1]; all 0 when the counted values are all equal.
    """
    counted = values if valid is None else values[valid]
    if counted.dtype.kind == "f":
        finite = np.isfinite(counted)
        if not finite.all():
            counted = counted[finite]
            values = np.nan_to_num(values, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    if counted.size == 0:
        return np.zeros(values.shape, np.float32)
    low, high = float(counted.min()), float(counted.max())
    if not high > low:
        return np.zeros(values.shape, np.float32)
    # Differences of large 64-bit or 32-bit values lose their last digits in float32, so subtract in float64.
    wide = values.dtype.itemsize > 2
    scaled = linear(values, 1 / (high - low), -low / (high - low), np.float64 if wide else np.float32)
    return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False)


def linear(
    values: NDArray[Any], slope: float, intercept: float, dtype: type[np.float32] | type[np.float64]
) -> NDArray[np.floating[Any]]:
    """Give slope x values + intercept.

    Args:
        values: Numbers, any shape.
        slope: Factor.
        intercept: Added afterwards.
        dtype: In which precision to work.

    Returns:
        New array of the same shape.
    """
    result: NDArray[np.floating[Any]] = np.multiply(values, dtype(slope), dtype=dtype)
    result += dtype(intercept)
    return result


def window(values: NDArray[Any], centre: float, width: float, function: WindowFunction = "LINEAR") -> Pixels | None:
    """Apply a window.

    Args:
        values: Numbers after the modality transformation, any shape.
        centre: Window centre, in the same unit.
        width: Window width, in the same unit.
        function: How values between the edges are mapped.

    Returns:
        float32 of the same shape in [0, 1], or None when the window is not usable: not finite, too narrow for its
        function, or so placed that every pixel would come out alike although the values differ.
    """
    narrowest = 1.0 if function == "LINEAR" else _NARROWEST
    if not (math.isfinite(centre) and math.isfinite(width) and narrowest <= width <= _FARTHEST):
        return None
    if abs(centre) > _FARTHEST:
        return None
    shown = values.astype(np.float32)
    if function == "SIGMOID":
        shown -= centre
        shown *= -4 / width
        np.clip(shown, -80, 80, out=shown)
        np.exp(shown, out=shown)
        shown += 1
        np.reciprocal(shown, out=shown)
    elif function == "LINEAR" and width > 1:
        shown -= centre - 0.5
        shown *= 1 / (width - 1)
        shown += 0.5
    elif function == "LINEAR":
        shown = (shown > centre - 0.5).astype(np.float32)
    else:
        shown -= centre
        shown *= 1 / width
        shown += 0.5
    np.clip(shown, 0, 1, out=shown)
    if shown.size and shown.min() == shown.max() and values.min() != values.max():
        return None
    return shown


def look_up(values: NDArray[Any], table: NDArray[Any], first: int) -> NDArray[Any]:
    """Replace each value by its entry in a table.

    Args:
        values: Integers or whole numbers, any shape.
        table: One-dimensional, not empty.
        first: The value that the table's first entry stands for.

    Returns:
        Array of the same shape and the table's dtype; values outside the table get its nearest end.
    """
    index = np.clip(values.astype(np.int64) - first, 0, len(table) - 1)
    return table[index]


def grey_of(colour: NDArray[Any]) -> Pixels:
    """Turn red, green, blue into grey.

    Args:
        colour: Shape (..., 3), any number type.

    Returns:
        float32 of shape (...), in the unit of the input.
    """
    return np.asarray(colour[..., :3], dtype=np.float32) @ np.array(LUMA, dtype=np.float32)


def as_shown(
    stored: NDArray[Any],
    values: NDArray[Any],
    shown: Pixels | None,
    rule: Intensity,
    padded: NDArray[np.bool_] | None,
    *,
    inverted: bool,
) -> tuple[Pixels, Intensity]:
    """The end of the chain: what is shown without a usable VOI, inversion, padding.

    Args:
        stored: Stored values, shape (rows, columns).
        values: The same after the modality transformation; `stored` itself when there was none.
        shown: Grey in [0, 1] after the VOI transformation, or None when there is no usable one.
        rule: How `shown` was made.
        padded: True where a pixel is padding; None when none is.
        inverted: Whether the lowest value is white (MONOCHROME1).

    Returns:
        Grey in [0, 1], float32, and the rule by which it was made.
    """
    if shown is None and stored.dtype == np.uint8 and values is stored:
        # Eight bits without a window were made to be looked at, as in a PNG: keep them as they are.
        shown, rule = full_range(stored), Intensity.FULL_RANGE
    if shown is None:
        shown, rule = stretch(values, None if padded is None else ~padded), Intensity.MIN_MAX
    if inverted:
        shown = np.subtract(1, shown, dtype=np.float32)
    if padded is not None:
        shown[padded] = 0
    return shown, rule


def unwindowed(pixels: Pixels, rule: Intensity) -> Unwindowed:
    """Displayed grey as whole steps, for a picture whose scanner values are not at hand.

    Args:
        pixels: float32, shape (rows, columns), in [0, 1].
        rule: How it was made; 8-bit pictures have 256 levels, all others are taken to have 65,536.
    """
    highest = 255.0 if rule is Intensity.FULL_RANGE else 65535.0
    return Unwindowed(np.rint(pixels * np.float32(highest)), highest / 2, highest)
