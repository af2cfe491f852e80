"""Whether letters seem to be written into a picture: a coarse look for people who are about to pass it on.

This module owns one simple rule: letters are bright thin strokes of one height that stand in a row. It refuses to read
what is written, and to prove that there is nothing: it misses large, dark, slanted and very faint writing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.frames import Pixels

LETTERS = 5
"""So many in a row make a word; fewer are too often chance."""

_STROKE = 9
_CONTRAST = 90
_LOWEST, _HIGHEST = 6, 40
_LONGEST_SIDE = 2048


def text_seen(pixels: Pixels) -> bool:
    """Look for a row of letters.

    Args:
        pixels: float32, shape (rows, columns), in [0, 1].
    """
    grey = np.rint(pixels * 255).astype(np.uint8)
    if max(grey.shape) > _LONGEST_SIDE:
        scale = _LONGEST_SIDE / max(grey.shape)
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    # What is brighter than everything within a few pixels on both sides: strokes, not areas.
    strokes = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((_STROKE, _STROKE), np.uint8))
    _, found = cv2.threshold(strokes, _CONTRAST, 255, cv2.THRESH_BINARY)
    count, _, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    return count > LETTERS and _row_of_letters(stats[1:].astype(np.int32))


def _row_of_letters(stats: NDArray[np.int32]) -> bool:
    left, top, width, height, area = (stats[:, column] for column in range(5))
    fill = area / (width * height)
    letters = (height >= _LOWEST) & (height <= _HIGHEST) & (width <= 1.6 * height) & (fill > 0.15) & (fill < 0.95)
    boxes = sorted(zip(left[letters], top[letters], width[letters], height[letters], strict=True))
    for place, start in enumerate(boxes):
        row, end = 1, start
        for box in boxes[place + 1 :]:
            if box[0] - (end[0] + end[2]) > 1.5 * start[3]:
                break
            level = abs((box[1] + box[3]) - (start[1] + start[3])) <= max(1, 0.12 * start[3])
            if level and abs(box[3] - start[3]) <= max(1, 0.25 * start[3]) and box[0] >= end[0] + end[2] - 1:
                row, end = row + 1, box
        if row >= LETTERS:
            return True
    return False
