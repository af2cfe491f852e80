"""Choosing slices by class and plane, and the words when there are none."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.training.tiny_run import SCENARIO
from training.datasets import Dataset, Sample
from training.errors import DatasetError
from training.selection import select

DATASET = Dataset(
    Path("somewhere"),
    (
        Sample("1", "glioma", "p", "axial"),
        Sample("2", "glioma", "p", "coronal"),
        Sample("3", "no_tumor", "q", ""),
        Sample("4", "no_tumor", "q", "axial"),
        Sample("5", "meningioma", "r", "sagittal"),
    ),
)
BOTH = replace(SCENARIO, class_names=("glioma", "no_tumor"))


def test_classes_and_planes_are_chosen_in_order() -> None:
    assert [s.file for s in select(BOTH, DATASET).samples] == ["1", "2", "3", "4"]
    assert [s.file for s in select(replace(BOTH, planes=("axial",)), DATASET).samples] == ["1", "4"]


def test_a_misspelt_class_says_what_there_is() -> None:
    wrong = replace(SCENARIO, class_names=("glioma", "meningeoma"), samples_per_epoch={"glioma": 8, "meningeoma": 8})
    with pytest.raises(
        DatasetError, match=r"no class 'meningeoma'.*has glioma \(2\), meningioma \(1\), .*Did you mean meningioma\?"
    ) as caught:
        select(wrong, DATASET)
    assert caught.value.code == "unknown_class"


def test_one_class_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"one class, glioma \(2 slices\); a classifier needs two") as caught:
        select(BOTH, Dataset(DATASET.root, DATASET.samples[:2]))
    assert caught.value.code == "one_class"


def test_a_class_without_slices_of_the_planes_says_which_it_has() -> None:
    wrong = replace(
        SCENARIO,
        class_names=("glioma", "meningioma"),
        samples_per_epoch={"glioma": 8, "meningioma": 8},
        planes=("axial",),
    )
    with pytest.raises(DatasetError, match=r"No slice of 'meningioma' is axial.*its slices are sagittal \(1\)"):
        select(wrong, DATASET)
