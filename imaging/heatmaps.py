"""Heatmaps as pictures: the lossless form that is stored, and the overlays that are shown.

This module owns three things: the stored form of a heatmap (an 8-bit grey PNG at the network's own grid, about a
hundred bytes), placing it into the frame of its slice, and drawing it in colour over the slice. Colour map and opacity
belong to whoever looks, so they are never stored. It refuses rainbow maps: every map here grows evenly in lightness
and can be read by the colour-blind (Smith and van der Walt 2015; Nunez, Anderton and Renslow 2018, doi
10.1371/journal.pone.0199239).

An overlay blends as ``grey x (1 - a) + colour x a`` with ``a = opacity x heatmap``: where the network did not look, the
slice stays as it is. :func:`layer_png` gives the same colours and alphas as a layer of its own, so that a viewer with
an opacity slider shows what :func:`overlay` draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.frames import Pixels

COLOUR_MAPS: Mapping[str, int] = MappingProxyType(
    {
        "inferno": cv2.COLORMAP_INFERNO,
        "magma": cv2.COLORMAP_MAGMA,
        "viridis": cv2.COLORMAP_VIRIDIS,
        "cividis": cv2.COLORMAP_CIVIDIS,
    }
)
DEFAULT_COLOUR_MAP = "inferno"
DEFAULT_OPACITY = 0.6

Box = tuple[float, float, float, float]

_PNG_LEVEL_SMALL = 9
_PNG_LEVEL_FAST = 3
_MAX_GRID = 1024


def encode(heatmap: NDArray[Any]) -> bytes:
    """Turn a heatmap into its stored form.

    Args:
        heatmap: Float, shape (grid height, grid width), values in [0, 1].

    Returns:
        PNG, 8-bit grey, one pixel a grid cell; a cell's value is round(255 x heat), so it is exact to 1/510.

    Raises:
        ValueError: The array is no heatmap.
    """
    return _png(_levels(_checked(heatmap, "heatmap")), _PNG_LEVEL_SMALL)


def decode(png: bytes) -> Pixels:
    """Read a heatmap's stored form.

    Args:
        png: What :func:`encode` gave.

    Returns:
        float32, shape (grid height, grid width), values in [0, 1].

    Raises:
        ValueError: The bytes are not an 8-bit grey PNG of a grid's size.
    """
    ours = png[:8] == b"\x89PNG\r\n\x1a\n" and png[12:16] == b"IHDR" and png[24:26] == b"\x08\x00"
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    if not ours or not (0 < width <= _MAX_GRID and 0 < height <= _MAX_GRID):
        raise ValueError("These bytes are no stored heatmap: expected an 8-bit grey PNG of at most 1024 x 1024 cells.")
    levels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None:
        raise ValueError("The stored heatmap is damaged: its PNG cannot be decoded; compute it again.")
    return np.multiply(levels, np.float32(1 / 255), dtype=np.float32)


def place(heatmap: NDArray[Any], box: Box, shape: tuple[int, int]) -> Pixels:
    """Put a heatmap into the frame of its slice.

    Args:
        heatmap: Float, shape (grid height, grid width), values in [0, 1].
        box: The square the network saw, as (x0, y0, x1, y1) in pixels of the slice: x0 and y0 are the left and upper
            edge of the first pixel inside, x1 and y1 the right and lower edge of the last. It may reach beyond the
            slice.
        shape: (rows, columns) of the slice.

    Returns:
        float32 of that shape in [0, 1], interpolated linearly between the centres of grid cells; 0 outside the box.

    Raises:
        ValueError: The array is no heatmap, or box or shape is empty.
    """
    heat = _checked(heatmap, "heatmap").astype(np.float32, copy=False)
    x0, y0, x1, y1 = (float(edge) for edge in box)
    rows, columns = shape
    if not (x1 > x0 and y1 > y0 and rows > 0 and columns > 0):
        raise ValueError(f"A box must have x0 < x1 and y0 < y1 and a slice some pixels: got box {box}, shape {shape}.")
    grid_rows, grid_columns = heat.shape
    # The centre of slice pixel (x, y) is at (x + 1/2, y + 1/2); that of grid cell (i, j) at (i + 1/2, j + 1/2).
    step_x, step_y = grid_columns / (x1 - x0), grid_rows / (y1 - y0)
    at_x = ((np.arange(columns, dtype=np.float32) + 0.5 - x0) * step_x - 0.5).astype(np.float32)
    at_y = ((np.arange(rows, dtype=np.float32) + 0.5 - y0) * step_y - 0.5).astype(np.float32)
    placed = _linear(_linear(heat, at_y).T, at_x).T
    inside_x = (np.arange(columns) + 0.5 > x0) & (np.arange(columns) + 0.5 < x1)
    inside_y = (np.arange(rows) + 0.5 > y0) & (np.arange(rows) + 0.5 < y1)
    placed[~inside_y] = 0
    placed[:, ~inside_x] = 0
    return np.ascontiguousarray(placed)


def _linear(values: Pixels, at: Pixels) -> Pixels:
    """Interpolate linearly along the first axis at fractional positions, the ends held."""
    clipped = np.clip(at, 0, values.shape[0] - 1)
    below = np.floor(clipped).astype(np.intp)
    above = np.minimum(below + 1, values.shape[0] - 1)
    weight = (clipped - below).astype(np.float32)[:, None]
    return np.asarray(values[below] * (1 - weight) + values[above] * weight, dtype=np.float32)


def overlay(
    pixels: NDArray[Any],
    heatmap: NDArray[Any],
    colour_map: str = DEFAULT_COLOUR_MAP,
    opacity: float = DEFAULT_OPACITY,
) -> bytes:
    """Draw a heatmap over its slice.

    Args:
        pixels: Float, shape (rows, columns), grey in [0, 1].
        heatmap: Float of the same shape, as :func:`place` gives it.
        colour_map: A name of `COLOUR_MAPS`.
        opacity: In [0, 1]; 0 shows the slice alone.

    Returns:
        PNG, 8-bit RGB, same size.

    Raises:
        ValueError: Shapes differ, a value is out of range, or the colour map is unknown.
    """
    grey, heat = _checked(pixels, "slice"), _checked(heatmap, "heatmap")
    if grey.shape != heat.shape:
        raise ValueError(
            f"Slice and heatmap must have one shape: got {grey.shape} and {heat.shape}; use place() on the heatmap."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"Opacity must lie in [0, 1]: got {opacity}.")
    colours = _colours(heat, colour_map).astype(np.float32)
    alpha = (heat.astype(np.float32) * np.float32(opacity))[..., None]
    blended = (grey.astype(np.float32) * 255)[..., None] * (1 - alpha) + colours * alpha
    return _png(np.rint(blended).astype(np.uint8), _PNG_LEVEL_FAST)


def layer_png(heatmap: NDArray[Any], colour_map: str = DEFAULT_COLOUR_MAP) -> bytes:
    """Draw a heatmap as a transparent layer, to be laid over the slice by a viewer with its own opacity.

    Args:
        heatmap: Float, shape (rows, columns), values in [0, 1].
        colour_map: A name of `COLOUR_MAPS`.

    Returns:
        PNG, 8-bit RGBA, same size, alpha = heat.

    Raises:
        ValueError: The array is no heatmap, or the colour map is unknown.
    """
    heat = _checked(heatmap, "heatmap")
    return _png(np.dstack([_colours(heat, colour_map), _levels(heat)]), _PNG_LEVEL_FAST)


def legend_png(colour_map: str = DEFAULT_COLOUR_MAP) -> bytes:
    """Draw the colour map itself, cold on the left.

    Args:
        colour_map: A name of `COLOUR_MAPS`.

    Returns:
        PNG, 8-bit RGB, 256 x 1 pixels.

    Raises:
        ValueError: The colour map is unknown.
    """
    return _png(_colours(np.linspace(0, 1, 256)[None, :], colour_map), _PNG_LEVEL_SMALL)


def slice_png(pixels: NDArray[Any]) -> bytes:
    """Draw a slice in grey.

    Args:
        pixels: Float, shape (rows, columns), grey in [0, 1].

    Returns:
        PNG, 8-bit grey, same size.

    Raises:
        ValueError: The array is no slice.
    """
    return _png(_levels(_checked(pixels, "slice")), _PNG_LEVEL_FAST)


def thumbnail_png(pixels: NDArray[Any], side: int) -> bytes:
    """Draw a slice in grey, made small.

    Args:
        pixels: Float, shape (rows, columns), grey in [0, 1].
        side: Longest side of the result, pixels; a slice that is smaller keeps its size.

    Returns:
        PNG, 8-bit grey.

    Raises:
        ValueError: The array is no slice, or the side is not positive.
    """
    if side < 1:
        raise ValueError(f"A thumbnail's side is at least 1 pixel: got {side}.")
    rows, columns = _checked(pixels, "slice").shape
    scale = side / max(rows, columns)
    if scale < 1:
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        pixels = np.clip(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 0.0, 1.0)
    return slice_png(pixels)


def _checked(values: NDArray[Any], what: str) -> NDArray[Any]:
    if values.ndim != 2 or values.size == 0 or values.dtype.kind != "f":
        raise ValueError(f"A {what} is a two-dimensional float array: got shape {values.shape}, {values.dtype}.")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"A {what} has values in [0, 1]: got {low} to {high}.")
    return values


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(values.astype(np.float32) * np.float32(255)).astype(np.uint8)
    return levels


def _colours(heat: NDArray[Any], colour_map: str) -> NDArray[np.uint8]:
    if colour_map not in COLOUR_MAPS:
        raise ValueError(f"There is no colour map {colour_map!r}: choose one of {', '.join(sorted(COLOUR_MAPS))}.")
    return np.asarray(cv2.applyColorMap(_levels(heat), COLOUR_MAPS[colour_map]), dtype=np.uint8)


def _png(picture: NDArray[np.uint8], level: int) -> bytes:
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture), [cv2.IMWRITE_PNG_COMPRESSION, level])
    if not done:
        raise RuntimeError(f"OpenCV could not write a PNG of shape {picture.shape}.")
    return encoded.tobytes()
