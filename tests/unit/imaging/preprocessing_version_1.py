"""The numbers of `Preprocessing.version` 1, written plainly: what every later, faster way of computing must equal.

Weights were trained on these numbers, and artefacts name only the version: a faster `imaging.preprocess.prepare` that
differs in a single bit would change what stored results mean. So this file is not to be made faster, and not to be
changed together with the product; another arithmetic needs another version.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Box, Preprocessing

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


def prepare(frame_pixels: Float32, preprocessing: Preprocessing) -> tuple[Float32, Box, bool]:
    """Image, crop and whether no head was found."""
    pixels = np.ascontiguousarray(frame_pixels, dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    mask = _find_head(pixels, low, high, preprocessing.threshold)
    box = _square(mask, pixels.shape, preprocessing.margin)
    image = _resample(pixels, box, preprocessing.size, low)
    inside = None if mask is None else _resample_mask(mask, pixels.shape, box, preprocessing.size)
    return _normalise(image, inside, low, high, preprocessing), box, mask is None


def _find_head(pixels: Float32, low: float, high: float, threshold: float) -> UInt8 | None:
    """The head as a mask."""
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    height, width = pixels.shape
    scale = 128 / max(height, width)
    small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, small_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    levels = cv2.convertScaleAbs(small - low, alpha=255.0 / (high - low))
    histogram = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel().cumsum()
    dark = int(np.searchsorted(histogram, 0.02 * histogram[-1]))
    bright = int(np.searchsorted(histogram, 0.98 * histogram[-1]))
    if bright <= dark:
        return None
    cut = dark + max(1.0, threshold * (bright - dark))
    binary = (levels > cut).astype(np.uint8)
    # A frame drawn along the picture's edge would join everything into one box: what touches only the edge goes.
    binary[[0, -1], :] = 0
    binary[:, [0, -1]] = 0
    # Opening removes burnt-in letters and ruler marks (strokes of one or two pixels at this size).
    opened = cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.max())
    if largest < 0.01 * binary.size:
        return None
    hull = _hull(parts, np.flatnonzero(areas >= 0.2 * largest) + 1)
    # The scalp often stands apart from the brain, broken by dark bone: its pieces are within reach of the brain's hull,
    # which marks and letters in the picture's corners are not.
    reach = cv2.dilate(hull, np.ones((17, 17), np.uint8))
    within = np.bincount(parts.ravel(), weights=reach.ravel(), minlength=count)[1:]
    return _hull(parts, np.flatnonzero((areas >= 0.002 * largest) & (within >= 0.8 * areas)) + 1)


def _hull(parts: Any, chosen: npt.NDArray[np.int64]) -> UInt8:
    """The filled convex hull of the chosen parts of a labelled picture, uint8 of the same shape."""
    lookup = np.zeros(int(parts.max()) + 1, np.uint8)
    lookup[chosen] = 1
    outlines, _ = cv2.findContours(lookup[parts], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(outlines))
    return np.asarray(cv2.fillConvexPoly(np.zeros(parts.shape, np.uint8), hull, 1), np.uint8)


def _square(mask: UInt8 | None, shape: tuple[int, ...], margin: float) -> Box:
    """The smallest square with a margin around the mask; around the whole picture when there is none."""
    height, width = shape[0], shape[1]
    if mask is None:
        x, y, w, h, margin = 0.0, 0.0, float(width), float(height), 0.0
    else:
        mx, my, mw, mh = cv2.boundingRect(mask)
        sx, sy = width / mask.shape[1], height / mask.shape[0]
        x, y, w, h = mx * sx, my * sy, mw * sx, mh * sy
    side = max(2, round(max(w, h) * (1 + 2 * margin)))
    x0, y0 = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    return Box(x0, y0, x0 + side, y0 + side)


def _resample(pixels: Float32, box: Box, size: int, fill: float) -> Float32:
    """Cut the box out, padding with `fill`, and resize it to (size, size)."""
    height, width = pixels.shape
    top, left = max(0, -box.y0), max(0, -box.x0)
    bottom, right = max(0, box.y1 - height), max(0, box.x1 - width)
    crop: Any = pixels[max(0, box.y0) : min(height, box.y1), max(0, box.x0) : min(width, box.x1)]
    if top or left or bottom or right:
        crop = cv2.copyMakeBorder(crop, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)
    way = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=way), np.float32)


def _resample_mask(mask: UInt8, shape: tuple[int, ...], box: Box, size: int) -> UInt8:
    """The mask in the crop's frame, uint8 (size, size), grown a little so that the skin's edge is kept."""
    sx, sy = mask.shape[1] / shape[1], mask.shape[0] / shape[0]
    scale = (box.x1 - box.x0) / size
    back = np.array(
        [[scale * sx, 0, (box.x0 + 0.5 * scale) * sx - 0.5], [0, scale * sy, (box.y0 + 0.5 * scale) * sy - 0.5]],
        np.float32,
    )
    grown = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    return np.asarray(
        cv2.warpAffine(grown, back, (size, size), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=0),
        np.uint8,
    )


def _normalise(image: Float32, inside: UInt8 | None, low: float, high: float, preprocessing: Preprocessing) -> Float32:
    """Bring the percentiles and the median within the head to fixed levels and flatten the rest."""
    span = high - low
    if span <= 1e-6 * max(1.0, abs(high)):
        return np.zeros_like(image)
    unit = (image - np.float32(low)) * np.float32(1.0 / span)
    # The upper edge of a histogram is exclusive, and rounding can carry the brightest pixel just beyond 1.
    histogram = cv2.calcHist([unit], [0], inside, [1024], [-1e-3, 1.001]).ravel().cumsum()
    if histogram[-1] == 0:
        return np.zeros_like(image)

    def level(percentile: float) -> float:
        index = int(np.searchsorted(histogram, percentile / 100 * histogram[-1]))
        return (min(index, 1024 - 1) + 0.5) / 1024 * 1.002 - 1e-3

    dark, bright = level(preprocessing.low_percentile), level(preprocessing.high_percentile)
    bright = max(bright, dark + 1.0 / 1024)
    scaled: Any = np.clip((unit - np.float32(dark)) * np.float32(1.0 / (bright - dark)), 0, 1)
    if preprocessing.median:
        middle = float(np.clip((level(50) - dark) / (bright - dark), 0.02, 0.98))
        # Bounded, so that a nearly black or nearly white picture is not turned into amplified noise.
        power = float(np.clip(np.log(preprocessing.median) / np.log(middle), 0.4, 2.5))
        scaled = cv2.pow(scaled, power)
    if inside is not None and preprocessing.flatten:
        scaled = cv2.bitwise_and(scaled, scaled, mask=inside)
    return np.asarray(scaled, np.float32)
