"""`training.datasets`: what is read, what is refused, what the fingerprint notices."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.preprocess import Preprocessing
from tests.unit.training.dataset_files import write_dataset
from training.datasets import Dataset, file_digests, fingerprint, prepare_all, read_dataset
from training.errors import DatasetError
from training.leaks import find_groups


def test_a_manifest_is_read_without_the_tumour_boxes(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))

    assert dataset.class_names == ("glioma", "no_tumor")
    assert len(dataset.samples) == 48
    first = dataset.samples[0]
    assert (first.label, first.patient, first.plane, first.source) == ("glioma", "glioma-0", "axial", "here")
    assert not any("box" in name for name in first.__dataclass_fields__)


def test_folders_are_classes_and_every_image_its_own_patient(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.png"), np.zeros((8, 8), np.uint8))
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    dataset = read_dataset(tmp_path)

    assert [(s.file, s.label, s.patient) for s in dataset.samples] == [
        ("a/1.png", "a", "a/1.png"),
        ("b/1.png", "b", "b/1.png"),
    ]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("file,label\n1.png,a\n", r"lacks the columns \['patient'\]"),
        ("file,label,patient\n1.png,a,p\n", r"Named in manifest.csv but not in .*: 1\.png\."),
        ("file,label,patient\n1.png,a,p\n2.png,a,p\n", r"Named in manifest.csv but not in .*: 1\.png, 2\.png\."),
        ("file,label,patient\nthere.png,a\n", "line 2: file, label and patient must not be empty"),
        ("file,label,patient\n../there.png,a,p\n", "leads out of the data set's folder"),
        ("file,label,patient\nthere.png,a,p\nthere.png,b,p\n", "there.png stands twice"),
        ("file,label,patient,plane\nthere.png,a,p,oblique\n", "has plane 'oblique'"),
        ("file,label,patient\n", "holds no labelled images"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, manifest: str, message: str) -> None:
    (tmp_path / "there.png").write_bytes(b"")
    (tmp_path / "manifest.csv").write_text(manifest)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no folder"):
        read_dataset(tmp_path / "nowhere")


def test_labels_take_the_form_of_class_names(tmp_path: Path) -> None:
    (tmp_path / "No Tumor").mkdir()
    cv2.imwrite(str(tmp_path / "No Tumor" / "1.png"), np.zeros((8, 8), np.uint8))

    assert read_dataset(tmp_path).class_names == ("no_tumor",)


def test_every_unreadable_picture_is_named(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    (tmp_path / dataset.samples[3].file).write_bytes(b"no picture")
    whole = (tmp_path / dataset.samples[20].file).read_bytes()
    (tmp_path / dataset.samples[20].file).write_bytes(whole[: len(whole) // 2])
    broken = [dataset.samples[3].file, dataset.samples[20].file]
    for look in (
        lambda: prepare_all(dataset, dataset.samples, Preprocessing(size=32)),
        lambda: find_groups(dataset, file_digests(dataset)),
    ):
        with pytest.raises(DatasetError, match=r"Pictures that cannot be read: .*10_0.png, .*1_1.png\. Each") as caught:
            look()
        assert sorted(caught.value.files) == sorted(broken)
        assert caught.value.code == "unreadable"


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"file,label,patient\n\xff.png,a,p\n")
    with pytest.raises(DatasetError, match="is not UTF-8 text"):
        read_dataset(tmp_path)


def test_prepared_pictures_keep_the_order(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    images = prepare_all(dataset, dataset.samples, Preprocessing(size=32))
    backwards = prepare_all(dataset, dataset.samples[::-1], Preprocessing(size=32))

    assert images.shape == (48, 32, 32)
    assert images.dtype == np.uint8
    assert np.array_equal(images, backwards[::-1])


def test_the_fingerprint_notices_every_change_but_the_order(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path))
    digests, parts = file_digests(dataset), ["train"] * 47 + ["test"]
    ours = fingerprint(dataset, digests, parts)

    assert fingerprint(Dataset(dataset.root, dataset.samples[::-1]), digests[::-1], parts[::-1]) == ours
    assert fingerprint(dataset, digests, ["train"] * 48) != ours
    assert fingerprint(dataset, ["0" * 64, *digests[1:]], parts) != ours
