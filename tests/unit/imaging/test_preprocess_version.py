"""`imaging.preprocess.prepare` gives the numbers of its version to the bit, however it is made faster."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from config.settings import ROOT
from imaging.limits import Limits
from imaging.preprocess import Preprocessing, prepare
from imaging.reading import read_frame
from tests.unit.imaging import preprocessing_version_1

Float32 = npt.NDArray[np.float32]

EXAMPLES = sorted(
    path
    for patient in ("one", "two", "three", "four")
    for path in (ROOT / "examples" / patient).rglob("*.*")
    if path.suffix in (".dcm", ".png", ".jpg")
)
PARAMETERS = [
    Preprocessing(),
    Preprocessing(size=160, threshold=0.25, margin=0.1),
    Preprocessing(flatten=False),
    Preprocessing(median=0),
    Preprocessing(low_percentile=0, high_percentile=100, median=0.7),
]


def _same(pixels: Float32, parameters: Preprocessing) -> None:
    image, box, blank = preprocessing_version_1.prepare(pixels, parameters)
    ours = prepare(pixels, parameters)

    assert (ours.box, ours.blank) == (box, blank)
    assert ours.image.tobytes() == image.tobytes()


def test_every_example_slice() -> None:
    assert len(EXAMPLES) > 100
    for path in EXAMPLES:
        _same(read_frame(path, 0, Limits()).pixels, PARAMETERS[0])


@pytest.mark.parametrize("parameters", PARAMETERS[1:])
def test_other_parameters(parameters: Preprocessing) -> None:
    for path in EXAMPLES[::12]:
        _same(read_frame(path, 0, Limits()).pixels, parameters)


@pytest.mark.parametrize("seed", range(40))
def test_pictures_of_many_parts_sizes_and_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 600, 2)
    picture = rng.normal(0.05, 0.02, (height, width)).astype(np.float32)
    for _ in range(rng.integers(0, 9)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radii = (int(rng.integers(1, width // 2)), int(rng.integers(1, height // 2)))
        cv2.ellipse(picture, centre, radii, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.1, 1)), -1)
    for row, column in rng.integers(0, 20, (12, 2)):  # small marks in a corner, as letters are
        cv2.line(picture, (int(column), int(row)), (int(column) + 5, int(row) + 3), 1.0, 1)
    picture = picture * np.float32(rng.uniform(0.1, 3000)) + np.float32(rng.uniform(-100, 100))
    _same(picture, PARAMETERS[seed % len(PARAMETERS)])


@pytest.mark.parametrize("level", [0.0, 0.3, -5.0])
def test_blank_pictures(level: float) -> None:
    _same(np.full((70, 90), level, np.float32), PARAMETERS[0])
