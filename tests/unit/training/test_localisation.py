"""Boxes in the crop's frame and the pointing game, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from imaging.preprocess import Box
from tests.unit.training.dataset_files import write_dataset
from training.localisation import TumourBox, box_in_crop, pointing, read_boxes, summarise


def test_a_box_moves_into_the_crop() -> None:
    # A picture of 200 x 100 (width x height); the crop is the left square, one tenth beyond the top.
    box = box_in_crop(TumourBox(0.25, 0.5, 0.1, 0.2), (100, 200), Box(0, -10, 100, 90))

    assert box == pytest.approx((0.4, 0.5, 0.6, 0.7))


def test_peak_and_energy() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 2] = 1.0
    hit, chance, energy, area = pointing(heatmap, (0.5, 0.25, 0.75, 0.5))

    assert hit
    # Columns 1 to 3 (their centres lie at 0.375, 0.625, 0.875) and rows 0 to 2 are within half a cell of the box.
    assert chance == 9 / 16
    assert 0.5 < energy < 0.8
    assert area == pytest.approx(1 / 16, abs=0.005)
    assert not pointing(heatmap, (0.0, 0.75, 0.25, 1.0))[0]


def test_an_empty_heatmap_has_no_energy() -> None:
    assert pointing(np.zeros((4, 4), np.float32), (0.5, 0.5, 1.0, 1.0))[2] == 0.0


def test_means_over_slices() -> None:
    assert summarise([(True, 0.2, 0.5, 0.1), (False, 0.4, 0.1, 0.3)]) == {
        "slices": 2,
        "peak_in_box": 0.5,
        "peak_by_chance": pytest.approx(0.3),
        "energy_in_box": pytest.approx(0.3),
        "box_share_of_crop": pytest.approx(0.2),
    }
    assert summarise([]) == {"slices": 0}


def test_boxes_are_read_where_there_are_any(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "with", patients=2)
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("no_tumor-1,,0.5,0.5,0.2,0.2", "no_tumor-1,,,,,"))
    boxes = read_boxes(root)

    assert boxes["images/glioma/0_0.png"] == TumourBox(0.5, 0.5, 0.2, 0.2)
    assert "images/no_tumor/1_0.png" not in boxes
    assert read_boxes(tmp_path) == {}
