"""From a slice's grey pixels to the network's input.

Owns: finding the head, the square crop around it, resizing, and the intensity normalisation. The same function runs
in training and in every engine, and its parameters (`Preprocessing`) travel in the model artefact, so that a slice
always meets the network it was prepared for.

Refuses: to know classes, files or DICOM (see `imaging.frames`), to learn anything from the data set, and to keep what
lies outside the head. Size, border, burnt-in text, background noise and overall brightness tell from which scanner or
collection a picture came, not what is wrong with the patient; a network takes such a shortcut when it is offered.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SEARCH_SIDE = 128  # the head is searched at this size: accurate to half a percent of the side, and cheap
_HISTOGRAM_BINS = 1024  # percentiles are read off a histogram: 1/1024 of the range is finer than any 8-bit source


class PreprocessingError(ValueError):
    """The pixels or the parameters cannot be used. The message says what was received and what is expected."""


@dataclass(frozen=True)
class Preprocessing:
    """Parameters of `prepare`; a plain record that makes the round trip through JSON.

    Attributes:
        version: Number of the algorithm; an artefact with a number unknown here is refused.
        size: Side of the square output, pixels.
        threshold: Head threshold as a fraction of the way from the darkest to the (nearly) brightest level.
        margin: Margin on each side of the head's box, as a fraction of the square's side.
        low_percentile: Percentile of the intensities within the head that becomes 0.
        high_percentile: Percentile of the intensities within the head that becomes 1.
        median: Level to which the median within the head is brought by a power law; 0 switches this off.
        flatten: Whether everything outside the head is set to zero.
    """

    version: int = 1
    size: int = 224
    threshold: float = 0.10
    margin: float = 0.02
    low_percentile: float = 1.0
    high_percentile: float = 99.5
    median: float = 0.35
    flatten: bool = True

    def __post_init__(self) -> None:
        """Check every range once.

        Raises:
            PreprocessingError: A value is out of its range.
        """
        checks = (
            ("version", self.version == 1, "1"),
            ("size", 16 <= self.size <= 4096, "16 to 4096 pixels"),
            ("threshold", 0 < self.threshold < 1, "between 0 and 1"),
            ("margin", 0 <= self.margin <= 0.5, "0 to 0.5"),
            ("low_percentile", 0 <= self.low_percentile < self.high_percentile, "0 up to below high_percentile"),
            ("high_percentile", self.high_percentile <= 100, "at most 100"),
            ("median", 0 <= self.median < 1, "0 (off) up to below 1"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise PreprocessingError(
                    f"Preprocessing.{name} is {getattr(self, name)!r}; expected {expected}. "
                    "Use the values of an artefact made by this version of the software."
                )

    def to_json(self) -> dict[str, Any]:
        """The parameters as a dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            PreprocessingError: A key is unknown or missing, or a value is out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(record) != names:
            raise PreprocessingError(
                f"Preprocessing needs exactly the keys {sorted(names)}; received {sorted(record)}. "
                "The artefact was probably written by another version of the software."
            )
        return cls(**record)


class Box(NamedTuple):
    """A square in source pixels, half open; it may reach beyond the picture, where the input was padded with zeros."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Prepared:
    """One network input.

    Attributes:
        image: float32 (size, size), range [0, 1].
        box: The crop in pixels of the source slice.
        blank: Whether no head was found (an empty or constant picture); the whole picture was then taken.
    """

    image: Float32
    box: Box
    blank: bool


def prepare(frame_pixels: npt.NDArray[np.floating[Any]], preprocessing: Preprocessing) -> Prepared:
    """Crop a slice to the head, resize it and normalise its intensities.

    Args:
        frame_pixels: Grey slice (h, w), finite, any linear range (`Frame.pixels` has [0, 1]).
        preprocessing: The parameters.

    Returns:
        The input, the crop and whether the slice was blank.

    Raises:
        PreprocessingError: The array is not two-dimensional, is empty, or holds no finite contrast description
            because of NaN or infinity.
    """
    if frame_pixels.ndim != 2 or frame_pixels.size == 0:
        raise PreprocessingError(
            f"A slice must be a non-empty array (height, width); received shape {frame_pixels.shape}. "
            "Split colour channels and frames first (imaging.reading does)."
        )
    pixels = np.ascontiguousarray(frame_pixels, dtype=np.float32)
    low, high, _, _ = cv2.minMaxLoc(pixels)
    if not (np.isfinite(low) and np.isfinite(high)) or not np.isfinite(cv2.mean(pixels)[0]):
        raise PreprocessingError(
            "A slice must hold finite numbers only; received NaN or infinity. "
            "Check rescale slope and window of the source."
        )
    mask = _find_head(pixels, float(low), float(high), preprocessing.threshold)
    box = _square(mask, pixels.shape, preprocessing.margin)
    image = _resample(pixels, box, preprocessing.size, float(low))
    inside = None if mask is None else _resample_mask(mask, pixels.shape, box, preprocessing.size)
    return Prepared(_normalise(image, inside, float(low), float(high), preprocessing), box, mask is None)


def _find_head(pixels: Float32, low: float, high: float, threshold: float) -> UInt8 | None:
    """The head as a mask.

    Args:
        pixels: float32 (h, w).
        low: Smallest value.
        high: Largest value.
        threshold: See `Preprocessing.threshold`.

    Returns:
        uint8 (sh, sw) at search size, 1 in the head's convex hull; None when there is no head to be found.
    """
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    height, width = pixels.shape
    scale = _SEARCH_SIDE / max(height, width)
    small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, small_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    levels = cv2.convertScaleAbs(small - low, alpha=255.0 / (high - low))
    histogram = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel().cumsum()
    dark = int(np.searchsorted(histogram, 0.02 * histogram[-1]))
    bright = int(np.searchsorted(histogram, 0.98 * histogram[-1]))
    if bright <= dark:
        return None
    cut = dark + max(1.0, threshold * (bright - dark))
    binary = cv2.threshold(levels, int(cut), 1, cv2.THRESH_BINARY)[1]  # whole levels: above `cut` is above its floor
    # A frame drawn along the picture's edge would join everything into one box: what touches only the edge goes.
    binary[[0, -1], :] = 0
    binary[:, [0, -1]] = 0
    # Opening removes burnt-in letters and ruler marks (strokes of one or two pixels at this size).
    opened = np.asarray(cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    count, labels = cv2.connectedComponents(opened, connectivity=8, ltype=cv2.CV_16U)
    if count < 2:
        return None
    parts = np.asarray(labels, np.uint16)
    areas = np.bincount(parts.ravel(), minlength=count)[1:]
    largest = int(areas.max())
    if largest < 0.01 * binary.size:
        return None
    if count == 2:
        return _hull(opened)  # nothing else to be joined
    hull = _hull(_chosen(parts, areas >= 0.2 * largest))
    # The scalp often stands apart from the brain, broken by dark bone: its pieces are within reach of the brain's hull,
    # which marks and letters in the picture's corners are not.
    reach = cv2.dilate(hull, np.ones((17, 17), np.uint8))
    within = np.bincount(parts[reach.view(np.bool_)], minlength=count)[1:]
    return _hull(_chosen(parts, (areas >= 0.002 * largest) & (within >= 0.8 * areas)))


def _chosen(parts: npt.NDArray[np.uint16], which: npt.NDArray[np.bool_]) -> UInt8:
    """Those parts of a labelled picture (uint16, 0 is none of them) for which `which` says so; uint8, 1 inside."""
    return np.take(np.concatenate(([False], which)).view(np.uint8), parts)


def _hull(binary: UInt8) -> UInt8:
    """The filled convex hull of everything that is not zero, uint8 of the same shape, 1 inside."""
    outlines, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(outlines))
    return np.asarray(cv2.fillConvexPoly(np.zeros(binary.shape, np.uint8), hull, 1), np.uint8)


def _square(mask: UInt8 | None, shape: tuple[int, ...], margin: float) -> Box:
    """The smallest square with a margin around the mask; around the whole picture when there is none.

    Args:
        mask: uint8 (sh, sw) at search size, or None.
        shape: Height and width of the source.
        margin: See `Preprocessing.margin`.
    """
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
    crop: npt.NDArray[Any] = pixels[max(0, box.y0) : min(height, box.y1), max(0, box.x0) : min(width, box.x1)]
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
    """Bring the percentiles and the median within the head to fixed levels and flatten the rest.

    Args:
        image: float32 (size, size) in source units; it is overwritten.
        inside: uint8 (size, size) head mask, or None for the whole picture.
        low: Smallest source value.
        high: Largest source value.
        preprocessing: The parameters.

    Returns:
        float32 (size, size), range [0, 1]; all zeros for a picture without contrast.
    """
    span = high - low
    if span <= 1e-6 * max(1.0, abs(high)):
        return np.zeros_like(image)
    unit = np.subtract(image, np.float32(low), out=image)
    unit *= np.float32(1.0 / span)
    # The upper edge of a histogram is exclusive, and rounding can carry the brightest pixel just beyond 1.
    histogram = cv2.calcHist([unit], [0], inside, [_HISTOGRAM_BINS], [-1e-3, 1.001]).ravel().cumsum()
    if histogram[-1] == 0:
        return np.zeros_like(image)

    def level(percentile: float) -> float:
        index = int(np.searchsorted(histogram, percentile / 100 * histogram[-1]))
        return (min(index, _HISTOGRAM_BINS - 1) + 0.5) / _HISTOGRAM_BINS * 1.002 - 1e-3

    dark, bright = level(preprocessing.low_percentile), level(preprocessing.high_percentile)
    bright = max(bright, dark + 1.0 / _HISTOGRAM_BINS)
    scaled = unit
    scaled -= np.float32(dark)
    scaled *= np.float32(1.0 / (bright - dark))
    np.clip(scaled, 0, 1, out=scaled)
    outside = None if inside is None or not preprocessing.flatten else inside ^ 1
    if preprocessing.median:
        middle = min(max((level(50) - dark) / (bright - dark), 0.02), 0.98)
        # Bounded, so that a nearly black or nearly white picture is not turned into amplified noise.
        power = min(max(float(np.log(preprocessing.median) / np.log(middle)), 0.4), 2.5)
        if outside is not None:
            # It is cleared below; until then it must not be zero, whose powers cost three times as much as others.
            scaled += outside
        scaled = cv2.pow(scaled, power, dst=scaled)
    if outside is not None:
        scaled *= inside
    return np.asarray(scaled, np.float32)
