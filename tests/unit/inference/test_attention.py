"""Where a heatmap lies: worked out by hand on a grid of four cells a side."""

import numpy as np
import pytest

from inference.attention import HeatmapWarning, attention, head_cells


def picture() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A head that fills the left half of the picture."""
    image = np.zeros((64, 64), np.float32)
    image[:, :32] = 0.5
    return image


def heat(*cells: tuple[int, int, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found = np.zeros((4, 4), np.float32)
    for row, column, value in cells:
        found[row, column] = value
    return found


@pytest.mark.parametrize(
    ("heatmap", "share", "warning"),
    [
        (heat((1, 1, 1.0)), 1.0, None),
        (heat((1, 1, 1.0), (1, 2, 0.25)), 0.8, None),
        (heat((1, 2, 1.0)), 0.0, HeatmapWarning.OUTSIDE),
        (heat((1, 1, 0.9), (0, 0, 0.9), (2, 3, 1.0)), 1.8 / 2.8, HeatmapWarning.BORDER),
        (heat(), 0.0, HeatmapWarning.NOTHING),
    ],
)
def test_by_hand(
    heatmap: np.ndarray[tuple[int, ...], np.dtype[np.float32]], share: float, warning: HeatmapWarning | None
) -> None:
    found = attention(heatmap, picture())
    assert found.head_share == pytest.approx(share, abs=0.01)
    assert found.warning == warning


def test_share_of_each_cell() -> None:
    image = picture()
    image[:, 24:] = 0
    assert head_cells(image, (4, 4))[0] == pytest.approx([1, 0.5, 0, 0], abs=0.01)
