"""Groups and splits: nothing that belongs together is parted."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.training.dataset_files import write_dataset
from training.datasets import Dataset, Sample, file_digests, read_dataset
from training.errors import DatasetError, LeakError
from training.leaks import LeakReport, Pairs, crossing_groups, crossing_patients, find_groups
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
    assert report.near_pairs == 1
    assert report.cross_patient_pairs == 2
    assert report.cross_label_pairs == 1
    record = report.to_json()
    assert record["examples"]["identical"] == [
        {
            "files": [samples[0].file, samples[10].file],
            "labels": ["glioma", "glioma"],
            "same_patient": False,
            "correlation": 1.0,
        }
    ]
    assert [pair["files"] for pair in record["examples"]["cross_label"]] == [[samples[0].file, samples[60].file]]
    parts = ["train"] * len(samples)
    parts[10] = "test"
    assert report.torn(parts) == {"patients": 1, "groups": 1, "identical_pairs": 1, "near_pairs": 0}


def test_examples_come_from_many_groups() -> None:
    samples = tuple(Sample(f"{i}", "a", f"p{i}") for i in range(60))
    groups = np.array([0] * 40 + [i // 2 for i in range(2, 22)], np.int64)
    left = np.array([0] * 39 + list(range(40, 60, 2)), np.int64)
    right = np.array(list(range(1, 40)) + list(range(41, 61, 2)), np.int64)
    pairs = Pairs(left, right, np.zeros(49, bool), np.full(49, 0.99, np.float32))
    shown = LeakReport(groups, pairs, samples).to_json()["examples"]["near"]

    assert len(shown) == 12
    assert sum(pair["files"][0] == "0" for pair in shown) == 2


def test_many_copies_are_counted_once_each(dataset: Dataset) -> None:
    content = (dataset.root / dataset.samples[0].file).read_bytes()
    for sample in dataset.samples[:12]:
        (dataset.root / sample.file).write_bytes(content)
    report = find_groups(dataset, file_digests(dataset))

    assert (report.identical_pairs, report.near_pairs) == (11, 0)
    assert len(set(report.groups[:12].tolist())) == 1


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
    with pytest.raises(
        DatasetError, match=r"Too few patients or groups .*: a has 9; a split 80:10:10 needs at least 10"
    ):
        split(samples, np.arange(90, dtype=np.int64) % 9, seed=1)


def test_three_images_are_refused_by_either_rule() -> None:
    samples = [Sample("1.png", "a", "p"), Sample("2.png", "a", "q"), Sample("3.png", "b", "r")]
    groups = np.arange(3, dtype=np.int64)
    with pytest.raises(DatasetError, match=r"a has 2, b has 1; .*Add some, or leave the class out") as caught:
        split(samples, groups, seed=1)
    assert caught.value.code == "too_few"
    with pytest.raises(DatasetError, match="Too few images: a has 2, b has 1"):
        split(samples, groups, seed=1, rule="image")


def test_the_plain_split_of_images_tears_patients_apart_and_says_so(dataset: Dataset) -> None:
    report = find_groups(dataset, file_digests(dataset))
    plain = split(dataset.samples, report.groups, seed=1, rule="image")
    clean = split(dataset.samples, report.groups, seed=1)

    assert Counter(plain) == {"train": 64, "validation": 8, "test": 8}
    assert report.torn(plain)["patients"] == len(crossing_patients(dataset.samples, plain)) > 0
    assert report.torn(clean) == {"patients": 0, "groups": 0, "identical_pairs": 0, "near_pairs": 0}
    with pytest.raises(LeakError, match="not clean"):
        verify(dataset.samples, report.groups, plain)
    verify(dataset.samples, report.groups, plain, "image")


def test_rare_planes_do_not_disturb_the_plain_split() -> None:
    samples = [Sample(f"{i}", "ab"[i % 2], f"p{i}", "sagittal" if i < 3 else "axial") for i in range(60)]
    parts = split(samples, np.arange(60, dtype=np.int64), seed=1, rule="image")

    assert Counter(parts) == {"train": 48, "validation": 6, "test": 6}


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
