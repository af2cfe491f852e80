"""Letters in pictures: found where a name is written, not found in heads."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.frames import Pixels
from imaging.limits import Limits
from imaging.reading import read_frame
from imaging.text_seen import text_seen

EXAMPLES = Path(__file__).parents[3] / "examples"
HEADS = sorted([*EXAMPLES.glob("*/pictures/*.*"), *EXAMPLES.glob("[!m]*/dicom/axial/*.dcm")])


def head(path: Path) -> Pixels:
    return read_frame(path, 0, Limits()).pixels


def test_heads_hold_no_letters() -> None:
    assert len(HEADS) > 40
    assert [path.name for path in HEADS if text_seen(head(path))] == []


@pytest.mark.parametrize("size", [0.5, 0.8, 1.0])
def test_a_name_in_a_corner_is_seen(size: float) -> None:
    missed = 0
    for path in HEADS[::6]:
        shown = np.rint(head(path) * 255).astype(np.uint8)
        cv2.putText(shown, "SMITH JOHN 1970", (6, 34), cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1, cv2.LINE_AA)
        missed += not text_seen(shown.astype(np.float32) / np.float32(255))
    assert missed <= 1


def test_odd_pictures_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (3, 4000), (64, 64)):
        assert not text_seen(np.zeros(shape, np.float32))
        assert not text_seen(np.ones(shape, np.float32))
        text_seen(rng.random(shape, dtype=np.float32))
