"""Labelled slices on disk.

Owns: reading a data set's description (a `manifest.csv`, or one folder a class), loading and preparing its pictures,
and its fingerprint. Refuses: to split, to augment, and to hand a tumour's position (`box_*` columns) to anyone: the
classifier must never see it.
"""

import csv
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Preprocessing, prepare
from training.errors import DatasetError

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
PLANES: Final = frozenset({"axial", "coronal", "sagittal", ""})

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled slice.

    Attributes:
        file: Path relative to the data set's folder, with forward slashes.
        label: Class name (truth).
        patient: Identifier of the patient or, where none is known, of a group of near-duplicates.
        plane: axial, coronal, sagittal or empty when unknown.
        source: Collection the picture comes from; may be empty.
    """

    file: str
    label: str
    patient: str
    plane: str = ""
    source: str = ""


@dataclass(frozen=True)
class Dataset:
    """A folder of labelled slices.

    Attributes:
        root: The folder.
        samples: In the order of the description.
    """

    root: Path
    samples: tuple[Sample, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({sample.label for sample in self.samples}))


def read_dataset(root: Path) -> Dataset:
    """Read a data set's description.

    Args:
        root: Folder with `manifest.csv` (columns `file`, `label`, `patient`, and optionally `plane`, `source`; others
            are ignored) or with one sub-folder of images a class. Without a manifest every image is its own patient,
            which only the near-duplicate check then protects from leaking.

    Raises:
        DatasetError: No such folder, no images, a missing column or file, an unknown plane, a file named twice.
    """
    manifest = root / "manifest.csv"
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}; name the folder that holds manifest.csv or one folder a class.")
    samples = _from_manifest(manifest) if manifest.is_file() else _from_folders(root)
    if not samples:
        raise DatasetError(f"{root} holds no labelled images; expected manifest.csv or one folder of images a class.")
    seen: set[str] = set()
    for sample in samples:
        if sample.file in seen:
            raise DatasetError(f"{sample.file} stands twice in the data set; name each file once.")
        seen.add(sample.file)
        if not (root / sample.file).is_file():
            raise DatasetError(f"{sample.file} is named in {manifest.name} but is not in {root}.")
        if sample.plane not in PLANES:
            raise DatasetError(f"{sample.file} has plane {sample.plane!r}; expected one of {sorted(PLANES)}.")
    return Dataset(root, tuple(samples))


def _from_manifest(manifest: Path) -> list[Sample]:
    with manifest.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"file", "label", "patient"} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{manifest} lacks the columns {sorted(missing)}; it has {reader.fieldnames}.")
        return [
            Sample(row["file"], row["label"], row["patient"], row.get("plane") or "", row.get("source") or "")
            for row in reader
        ]


def _from_folders(root: Path) -> list[Sample]:
    samples = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                file = path.relative_to(root).as_posix()
                samples.append(Sample(file, folder.name, patient=file))
    return samples


def read_grey(path: Path) -> UInt8:
    """Read a picture as grey levels.

    Returns:
        uint8 (h, w).

    Raises:
        DatasetError: The file is not a readable picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DatasetError(f"{path} cannot be read as a picture; mend or remove it.")
    return np.asarray(picture, np.uint8)


def prepare_all(dataset: Dataset, samples: Sequence[Sample], preprocessing: Preprocessing, threads: int = 2) -> UInt8:
    """Prepare pictures once, for training and evaluation.

    Args:
        dataset: Where the files lie.
        samples: Which of them.
        preprocessing: As in inference; `size` is that of the result.
        threads: How many pictures are read at a time.

    Returns:
        uint8 (n, size, size): the prepared [0, 1] image times 255, rounded. Pictures of eight bits lose nothing that
        matters, and a whole data set fits in memory.
    """

    def one(sample: Sample) -> UInt8:
        pixels = read_grey(dataset.root / sample.file).astype(np.float32) / 255
        return np.rint(prepare(pixels, preprocessing).image * 255).astype(np.uint8)

    result = np.empty((len(samples), preprocessing.size, preprocessing.size), np.uint8)
    with ThreadPoolExecutor(threads) as pool:
        for index, image in enumerate(pool.map(one, samples)):
            result[index] = image
    return result


def file_digests(dataset: Dataset) -> list[str]:
    """SHA-256 of each sample's bytes, lower-case hexadecimal, in the order of the samples."""
    return [hashlib.sha256((dataset.root / sample.file).read_bytes()).hexdigest() for sample in dataset.samples]


def fingerprint(dataset: Dataset, digests: Sequence[str], parts: Sequence[str]) -> str:
    """Identify a data set and its split: SHA-256 over name, bytes, label, patient, plane and part of every sample.

    Args:
        dataset: The data set.
        digests: As `file_digests` gives them.
        parts: train, validation or test for each sample.

    Returns:
        Lower-case hexadecimal; independent of the order of the samples.
    """
    lines = sorted(
        "\t".join((sample.file, digest, sample.label, sample.patient, sample.plane, part))
        for sample, digest, part in zip(dataset.samples, digests, parts, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
