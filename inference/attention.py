"""Whether a heatmap lies where it may mean something.

Owns: how much of a heatmap lies on the head, and the warning when it does not. Refuses: to say whether it lies on a
tumour: nobody knows that of a new slice (docs/faithfulness.md has what was measured on slices with known tumours).

Preparation blanks what lies around the head, burnt-in letters too, so whatever a network still sees there is its own
invention; a heatmap on it explains nothing about the patient.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

LEAST_HEAD_SHARE: Final = 0.5
"""Below it more of the heatmap lies outside the head than on it."""
LEAST_PEAK_SHARE: Final = 0.2
"""Of the hottest cell's area, at least so much must be head."""


class HeatmapWarning(StrEnum):
    """What is wrong with a heatmap."""

    NOTHING = "nothing_speaks_for_it"
    OUTSIDE = "outside_the_head"
    BORDER = "on_the_border"


@dataclass(frozen=True, slots=True)
class Attention:
    """Where a heatmap lies.

    Attributes:
        head_share: Share of the heatmap's sum that lies on the head, 0 to 1; 0 for a heatmap that is zero everywhere.
        warning: What is wrong with it; None when nothing is.
    """

    head_share: float
    warning: HeatmapWarning | None


def attention(heatmap: Float32, image: Float32) -> Attention:
    """Checks one heatmap.

    Args:
        heatmap: float32 (gh, gw), range [0, 1].
        image: The network's input float32 (S, S), range [0, 1], zero outside the head.
    """
    total = float(heatmap.sum())
    if total <= 0:
        return Attention(0.0, HeatmapWarning.NOTHING)
    head = head_cells(image, heatmap.shape)
    share = min(float((heatmap * head).sum()) / total, 1.0)
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    if share < LEAST_HEAD_SHARE:
        return Attention(share, HeatmapWarning.OUTSIDE)
    rows, columns = heatmap.shape
    outermost = row in (0, rows - 1) or column in (0, columns - 1)
    if outermost and head[row, column] < LEAST_PEAK_SHARE:
        return Attention(share, HeatmapWarning.BORDER)
    return Attention(share, None)


def head_cells(image: Float32, grid: tuple[int, ...]) -> Float32:
    """Share of each cell's area that is head, float32 (gh, gw), of an image (S, S) that is zero outside the head."""
    rows, columns = grid
    inside = (image > 0).view(np.uint8) * np.uint8(255)
    return np.asarray(cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)
