"""The probes notice what gives a class away, and nothing where there is nothing."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn")

from imaging.preprocess import Preprocessing
from tests.unit.training.dataset_files import picture, write_dataset
from training.datasets import read_dataset
from training.shortcuts import border_features, histogram_features, probe, probe_sources


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asserted here is coarse: forests of a few trees see it too, in a fifth of the time."""
    monkeypatch.setattr("training.shortcuts._TREES", 40)


def test_a_border_that_differs_by_class_is_noticed_and_removed_by_the_preprocessing(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    for number, sample in enumerate(dataset.samples):
        content = picture("no_tumor", number)  # the same kind of head in both classes: only the border differs
        if sample.label == "no_tumor":
            content[:3] = 200
            content = np.pad(content, ((0, 0), (0, 30)))
        cv2.imwrite(str(tmp_path / sample.file), content)
    groups = [int(s.patient.split("-")[1]) + 100 * (s.label == "glioma") for s in dataset.samples]
    found = probe_sources(dataset, range(len(dataset.samples)), groups, Preprocessing(size=64))

    assert found["before"]["file"] > 0.99
    assert found["before"]["border"] > 0.99
    assert found["after"]["border"] < 0.8
    assert set(found["after"]) == {"border", "histogram", "sharpness"}
    assert "after_axial" not in found  # every slice is axial or of no known plane


def test_noise_tells_nothing() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(200) % 2 == 0

    assert 0.3 < probe(rng.random((200, 5)), positive, list(range(200)), seed=1) < 0.7


def test_groups_are_not_learnt_by_heart() -> None:
    """Features that name the group but not the class: only a probe that sees a group on both sides could use them."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 5)
    positive = (rng.random(40) < 0.5)[groups]

    assert probe(rng.random((40, 3))[groups], positive, groups.tolist(), seed=1) < 0.75


def test_features_do_not_see_the_middle() -> None:
    empty = np.zeros((64, 64), np.float32)
    middle = empty.copy()
    middle[10:50, 10:50] = 1

    assert np.array_equal(border_features(empty), border_features(middle))
    assert histogram_features(middle).sum() == pytest.approx(1)
