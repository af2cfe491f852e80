"""Labelled slices on disk.

Owns: reading a data set's description (a `manifest.csv`, or one folder a class), loading and preparing its pictures,
and its fingerprint. Refuses: to split, to augment, and to hand a tumour's position (`box_*` columns) to anyone: the
classifier must never see it.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Preprocessing, prepare
from training.errors import DatasetError

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
PLANES: Final = frozenset({"axial", "coronal", "sagittal", ""})

_BLOCK: Final = 32
"""Pictures that are held in memory at a time."""

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

    Labels are brought to the form of class names: lower case, with underscores for everything but letters and digits.

    Args:
        root: Folder with `manifest.csv` (columns `file`, `label`, `patient`, and optionally `plane`, `source`; others
            are ignored) or with one sub-folder of images a class. Without a manifest every image is its own patient,
            which only the near-duplicate check then protects from leaking.

    Raises:
        DatasetError: No such folder, no images, a missing column or value, missing files (all of them named), an
            unknown plane, a file named twice or outside the folder.
    """
    manifest = root / "manifest.csv"
    if not root.is_dir():
        raise DatasetError(
            f"There is no folder {root}; name the folder that holds manifest.csv or one folder a class.", "no_folder"
        )
    samples = _from_manifest(manifest) if manifest.is_file() else _from_folders(root)
    if not samples:
        raise DatasetError(
            f"{root} holds no labelled images; expected manifest.csv or one folder of images a class.", "no_images"
        )
    seen: set[str] = set()
    for sample in samples:
        if sample.file in seen:
            raise DatasetError(
                f"{sample.file} stands twice in the data set; name each file once.", "duplicate_file", [sample.file]
            )
        seen.add(sample.file)
        path = PurePosixPath(sample.file)
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(f"{sample.file} leads out of the data set's folder.", "outside_folder", [sample.file])
        if sample.plane not in PLANES:
            raise DatasetError(
                f"{sample.file} has plane {sample.plane!r}; expected one of {sorted(PLANES)}.",
                "unknown_plane",
                [sample.file],
            )
    if missing := [sample.file for sample in samples if not (root / sample.file).is_file()]:
        raise DatasetError(
            f"Named in {manifest.name} but not in {root}: {_listed(missing)}. Put the files there or take out "
            "the rows.",
            "missing_file",
            missing,
        )
    return Dataset(root, tuple(samples))


def _from_manifest(manifest: Path) -> list[Sample]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"file", "label", "patient"} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"{manifest} lacks the columns {sorted(missing)}; it has {reader.fieldnames}.", "missing_column"
                )
            return [_sample(row, reader.line_num) for row in reader]
    except UnicodeDecodeError:
        raise DatasetError(f"{manifest} is not UTF-8 text; save it as CSV in UTF-8.", "not_text") from None


def _sample(row: dict[str, str | None], line: int) -> Sample:
    file, label, patient = row["file"], row["label"], row["patient"]
    if not (file and label and patient):
        raise DatasetError(
            f"manifest.csv, line {line}: file, label and patient must not be empty; received {file!r}, {label!r}, "
            f"{patient!r}.",
            "missing_value",
        )
    return Sample(file, class_name(label), patient, row.get("plane") or "", row.get("source") or "")


def _from_folders(root: Path) -> list[Sample]:
    samples = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                file = path.relative_to(root).as_posix()
                samples.append(Sample(file, class_name(folder.name), patient=file))
    return samples


def class_name(label: str) -> str:
    """A label in the form of a class name: `No Tumor` becomes `no_tumor`."""
    return re.sub(r"[^a-z0-9]+", "_", label.strip().lower()).strip("_") or "unnamed"


def read_grey(path: Path) -> UInt8:
    """Read a picture as grey levels.

    Returns:
        uint8 (h, w).

    Raises:
        DatasetError: The file is not a readable picture, or is cut off.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DatasetError(
            f"{path.name} cannot be read as a picture; mend or remove it.", "unreadable", [path.as_posix()]
        )
    return np.asarray(picture, np.uint8)


def read_each(dataset: Dataset, samples: Sequence[Sample], threads: int = 2) -> Iterator[UInt8]:
    """Read pictures in threads ahead of their use.

    Yields:
        uint8 (h, w) of each sample, in order.

    Raises:
        DatasetError: At the end, naming every picture that cannot be read; a black one stood in its place.
    """
    broken: list[str] = []

    def one(sample: Sample) -> UInt8:
        try:
            return read_grey(dataset.root / sample.file)
        except DatasetError:
            broken.append(sample.file)
            return np.zeros((8, 8), np.uint8)

    with ThreadPoolExecutor(threads) as pool:
        # In blocks: all at once would hold every picture in memory.
        for start in range(0, len(samples), _BLOCK):
            yield from pool.map(one, samples[start : start + _BLOCK])
    if broken:
        broken.sort()
        raise DatasetError(
            f"Pictures that cannot be read: {_listed(broken)}. Each is damaged, cut off, or of another kind; mend or "
            "remove it.",
            "unreadable",
            broken,
        )


def _listed(files: Sequence[str], shown: int = 20) -> str:
    rest = len(files) - shown
    return ", ".join(files[:shown]) + (f" and {rest} more" if rest > 0 else "")


def prepare_all(dataset: Dataset, samples: Sequence[Sample], preprocessing: Preprocessing, threads: int = 2) -> UInt8:
    """Prepare pictures once, for training and evaluation.

    Args:
        dataset: Where the files lie.
        samples: Which of them.
        preprocessing: As in inference; `size` is that of the result.
        threads: How many pictures are read at a time.

    Raises:
        DatasetError: Naming every picture that cannot be read.

    Returns:
        uint8 (n, size, size): the prepared [0, 1] image times 255, rounded. Pictures of eight bits lose nothing that
        matters, and a whole data set fits in memory.
    """

    result = np.empty((len(samples), preprocessing.size, preprocessing.size), np.uint8)

    def one(index: int, picture: UInt8) -> None:
        image = prepare(picture.astype(np.float32) / 255, preprocessing).image
        result[index] = np.rint(image * 255).astype(np.uint8)

    with ThreadPoolExecutor(threads) as pool:
        pictures = read_each(dataset, samples, threads)
        for start in range(0, len(samples), _BLOCK):
            block = list(islice(pictures, _BLOCK))
            list(pool.map(one, range(start, start + len(block)), block))
        next(pictures, None)  # to its end, where it tells of broken pictures
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
