"""The heatmap methods on two cells and two channels: small enough for paper and pencil."""

import numpy as np
import pytest

from inference.cam import METHODS

# One slice, 1 x 2 cells, two channels.
MAPS = np.array([[[[1, 2], [3, 0]]]], np.float32)
GRADIENTS = np.array([[[[1, -2], [3, 1]]]], np.float32)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # alpha = (2, -1/2): 2*1 - 2/2, 2*3 - 0
        ("Grad-CAM", [1, 6]),
        # 1*1 - 2*2 < 0, 3*3 + 1*0
        ("HiResCAM", [0, 9]),
        # 1*1 + 0*2, 3*3 + 1*0
        ("Layer-CAM", [1, 9]),
        # sums of the maps (4, 2); shares 1/(2+4*1), 1/(2+4*3); -, 1/(2+2*1); w = (1/6 + 3/14, 1/4)
        ("Grad-CAM++", [(1 / 6 + 3 / 14) + 2 / 4, 3 * (1 / 6 + 3 / 14)]),
    ],
)
def test_by_hand(method: str, expected: list[float]) -> None:
    found = METHODS[method](MAPS, GRADIENTS)
    assert found.shape == (1, 1, 2)
    assert found[0, 0] == pytest.approx(expected)


def test_behind_pooling_hirescam_is_gradcam() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 3, 4), np.float32)
    everywhere = np.broadcast_to(rng.normal(size=(2, 1, 1, 4)).astype(np.float32), maps.shape)
    assert METHODS["HiResCAM"](maps, everywhere) == pytest.approx(METHODS["Grad-CAM"](maps, everywhere), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_without_gradient_nothing_is_hot(method: str) -> None:
    assert not METHODS[method](MAPS, np.zeros_like(GRADIENTS)).any()
