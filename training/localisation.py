"""Whether heatmaps point at the tumour.

Owns: comparing heatmaps with the tumour boxes of a data set's manifest (`box_x, box_y, box_w, box_h`, fractions of
the picture: centre and size). Refuses: to give a box to training: boxes are read here, after training, for this
measurement alone.

Two measures for slices whose prediction is right. Pointing game (Zhang et al., "Top-down Neural Attention by
Excitation Backprop", ECCV 2016): does the heatmap's peak lie in the box, widened by half a cell of the network's grid,
which is all the precision there is? Energy: which share of the heatmap's sum lies in the box. Each is given beside
what chance would give: the share of the grid's cells whose centre would hit, and the share of the crop that the box
covers.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Box

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TumourBox:
    """A tumour's box as fractions of the picture: centre and size."""

    x: float
    y: float
    width: float
    height: float


def read_boxes(root: Path) -> dict[str, TumourBox]:
    """Boxes by file name; empty when the manifest has none.

    Args:
        root: Folder of the data set.
    """
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        return {}
    with manifest.open(newline="", encoding="utf-8") as file:
        return {
            row["file"]: TumourBox(*(float(row[key]) for key in ("box_x", "box_y", "box_w", "box_h")))
            for row in csv.DictReader(file)
            if all(row.get(key) for key in ("box_x", "box_y", "box_w", "box_h"))
        }


def box_in_crop(tumour: TumourBox, shape: tuple[int, int], crop: Box) -> tuple[float, float, float, float]:
    """The tumour's box in the crop's frame: x0, y0, x1, y1 as fractions of the crop.

    Args:
        tumour: In fractions of the picture.
        shape: Height and width of the picture, pixels.
        crop: In pixels of the picture.
    """
    side_x, side_y = crop.x1 - crop.x0, crop.y1 - crop.y0
    left, right = ((tumour.x + sign * tumour.width / 2) * shape[1] for sign in (-1, 1))
    top, bottom = ((tumour.y + sign * tumour.height / 2) * shape[0] for sign in (-1, 1))
    return (left - crop.x0) / side_x, (top - crop.y0) / side_y, (right - crop.x0) / side_x, (bottom - crop.y0) / side_y


def pointing(heatmap: Float32, box: tuple[float, float, float, float]) -> tuple[bool, float, float, float]:
    """One slice's measures.

    Args:
        heatmap: float32 (gh, gw), range [0, 1].
        box: x0, y0, x1, y1 as fractions of the crop.

    Returns:
        Whether the peak lies in the widened box; the share of the grid's cells of which that is true; the share of
        the heatmap's energy in the box; the share of the crop that the box covers.
    """
    rows, columns = heatmap.shape
    peak_y, peak_x = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    centres_x, centres_y = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    slack_x, slack_y = 0.5 / columns, 0.5 / rows
    x0, y0, x1, y1 = box
    in_x = (centres_x >= x0 - slack_x) & (centres_x <= x1 + slack_x)
    in_y = (centres_y >= y0 - slack_y) & (centres_y <= y1 + slack_y)
    hit = bool(in_x[peak_x] and in_y[peak_y])
    chance = float(in_x.mean() * in_y.mean())
    side = 224
    fine = np.maximum(cv2.resize(heatmap, (side, side), interpolation=cv2.INTER_LINEAR), 0)
    corners = np.clip(np.rint(np.array(box) * side), 0, side).astype(int)
    inside = float(fine[corners[1] : corners[3], corners[0] : corners[2]].sum())
    area = float((corners[2] - corners[0]) * (corners[3] - corners[1])) / side**2
    total = float(fine.sum())
    return hit, chance, inside / total if total > 0 else 0.0, area


def summarise(found: Sequence[tuple[bool, float, float, float]]) -> dict[str, Any]:
    """Means over slices: `peak_in_box` beside `peak_by_chance`, `energy_in_box` beside `box_share_of_crop`; a count."""
    if not found:
        return {"slices": 0}
    hits, chances, energies, areas = (np.array(column, float) for column in zip(*found, strict=True))
    return {
        "slices": len(found),
        "peak_in_box": float(hits.mean()),
        "peak_by_chance": float(chances.mean()),
        "energy_in_box": float(energies.mean()),
        "box_share_of_crop": float(areas.mean()),
    }
