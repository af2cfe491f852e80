"""Groups and splits: nothing that belongs together is parted."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.training.dataset_files import write_dataset
from training.datasets import Dataset, Sample, file_digests, read_dataset
from training.errors import DatasetError, LeakError
from training.leaks import crossing_groups, crossing_patients, find_groups
from training.splits import PARTS, read_split, split, verify, write_split


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_dataset(write_dataset(tmp_path, patients=20))


def test_slices_of_a_patient_are_one_group(dataset: Dataset) -> None:
    report = find_groups(dataset, file_digests(dataset))

    assert crossing_groups(report.groups, [s.patient for s in dataset.samples]) == []
    assert len(set(report.groups.tolist())) == 40
    assert (report.identical_pairs, report.near_pairs) == (0, 0)


def test_copies_join_two_patients(dataset: Dataset) -> None:
    root, samples = dataset.root, dataset.samples
    original = cv2.imread(str(root / samples[0].file), cv2.IMREAD_GRAYSCALE)
    assert original is not None
    # The same bytes under another patient; and a smaller, darker, re-compressed copy under a third.
    (root / samples[10].file).write_bytes((root / samples[0].file).read_bytes())
    small = cv2.resize(original, (70, 70), interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", (small * 0.8).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 40])
    (root / samples[60].file).write_bytes(code.tobytes())
    report = find_groups(dataset, file_digests(dataset))

    assert report.groups[0] == report.groups[10] == report.groups[11] == report.groups[60]
    assert report.identical_pairs == 1
    assert report.near_pairs == 2
    assert report.cross_patient_pairs == 3
    assert report.cross_label_pairs == 2


def test_a_split_is_clean_stratified_and_repeats(dataset: Dataset) -> None:
    groups = find_groups(dataset, file_digests(dataset)).groups
    parts = split(dataset.samples, groups, seed=1)

    assert crossing_patients(dataset.samples, parts) == []
    assert crossing_groups(groups, parts) == []
    counts = Counter(zip(parts, (s.label for s in dataset.samples), strict=True))
    for label in dataset.class_names:
        assert [counts[part, label] for part in PARTS] == [32, 4, 4]
    assert split(dataset.samples, groups, seed=1) == parts
    assert split(dataset.samples, groups, seed=2) != parts


def test_near_duplicates_never_cross(dataset: Dataset) -> None:
    groups = find_groups(dataset, file_digests(dataset)).groups.copy()
    groups[groups == groups[20]] = groups[0]
    for seed in range(20):
        parts = split(dataset.samples, groups, seed)
        assert parts[0] == parts[20]


def test_a_leaking_split_is_refused(dataset: Dataset) -> None:
    groups = find_groups(dataset, file_digests(dataset)).groups
    parts = list(split(dataset.samples, groups, seed=1))
    train = parts.index("train")
    parts[train] = "test"
    with pytest.raises(LeakError, match="1 groups and 1 patients stand on two sides"):
        verify(dataset.samples, groups, parts)


def test_a_part_without_a_class_is_refused(dataset: Dataset) -> None:
    groups = find_groups(dataset, file_digests(dataset)).groups
    with pytest.raises(LeakError, match=r"The validation part has no sample of \['glioma', 'no_tumor'\]"):
        verify(dataset.samples, groups, ["train"] * len(dataset.samples))


def test_too_few_patients_are_refused() -> None:
    samples = [Sample(f"{i}.png", "a", f"p{i % 9}") for i in range(90)]
    with pytest.raises(DatasetError, match="Class 'a' has 9 patients or groups; a split 80:10:10 needs at least 10"):
        split(samples, np.arange(90, dtype=np.int64) % 9, seed=1)


def test_a_split_file_makes_the_round_trip(dataset: Dataset, tmp_path: Path) -> None:
    groups = find_groups(dataset, file_digests(dataset)).groups
    parts = split(dataset.samples, groups, seed=1)
    path = tmp_path / "model.split.csv"
    write_split(path, dataset.samples, parts)

    assert path.read_text().splitlines()[0] == "file,patient,label,plane,split"
    assert read_split(path, dataset.samples) == parts
    with pytest.raises(DatasetError, match=r"describes 80 files, not the 79"):
        read_split(path, dataset.samples[1:])


def test_a_split_file_of_other_labels_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "model.split.csv"
    write_split(path, dataset.samples, ["train"] * len(dataset.samples))
    path.write_text(path.read_text().replace("glioma-3", "glioma-4"))
    with pytest.raises(DatasetError, match="another patient or label"):
        read_split(path, dataset.samples)
