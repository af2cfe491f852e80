"""The split into training, validation and test.

Owns: a seeded, stratified 80:10:10 split in which no group (patient, near-duplicates) crosses a border, its proof, and
its CSV form. Refuses: to be drawn twice for a better number: the seed belongs to the scenario.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from training.datasets import Sample
from training.errors import DatasetError, LeakError
from training.leaks import crossing_groups, crossing_patients

PARTS: Final = ("train", "validation", "test")
_COLUMNS: Final = ("file", "patient", "label", "plane", "split")


def split(samples: Sequence[Sample], groups: npt.NDArray[np.int64], seed: int) -> tuple[str, ...]:
    """Split samples 80:10:10 by group, stratified by label and plane.

    Args:
        samples: The samples.
        groups: int64 (n), the group of each.
        seed: Of the shuffle.

    Returns:
        The part of each sample.

    Raises:
        DatasetError: A class has fewer than ten groups, so that it cannot stand in every part.
        LeakError: The result is not clean (cannot happen; checked all the same).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    for label in sorted({sample.label for sample in samples}):
        count = len({group for group, sample in zip(groups.tolist(), samples, strict=True) if sample.label == label})
        if count < 10:
            raise DatasetError(f"Class {label!r} has {count} patients or groups; a split 80:10:10 needs at least 10.")
    strata = np.array([f"{sample.label}/{sample.plane}" for sample in samples])
    folds = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=seed).split(strata, strata, groups)
    parts = np.full(len(samples), "train", dtype=object)
    for part, (_, held_back) in zip(("test", "validation"), folds, strict=False):
        parts[held_back] = part
    result = tuple(str(part) for part in parts)
    verify(samples, groups, result)
    return result


def verify(samples: Sequence[Sample], groups: npt.NDArray[np.int64], parts: Sequence[str]) -> None:
    """Prove that a split is clean and complete.

    Raises:
        LeakError: A patient or a group crosses a border, a part is unknown, or a class is missing from a part.
    """
    unknown = set(parts) - set(PARTS)
    crossing = crossing_groups(groups, parts)
    patients = crossing_patients(samples, parts)
    if unknown or crossing or patients:
        raise LeakError(
            f"The split is not clean: unknown parts {sorted(unknown)}, {len(crossing)} groups and {len(patients)} "
            "patients stand on two sides. Draw it with training.splits.split."
        )
    labels = {sample.label for sample in samples}
    for part in PARTS:
        missing = labels - {sample.label for sample, p in zip(samples, parts, strict=True) if p == part}
        if missing:
            raise LeakError(f"The {part} part has no sample of {sorted(missing)}; use more data or another seed.")


def write_split(path: Path, samples: Sequence[Sample], parts: Sequence[str]) -> None:
    """Write the split as CSV: file, patient, label, plane, split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for sample, part in zip(samples, parts, strict=True):
            writer.writerow((sample.file, sample.patient, sample.label, sample.plane, part))


def read_split(path: Path, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Read the parts of exactly these samples back from CSV.

    Raises:
        DatasetError: The file has other columns, or does not describe these samples.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise DatasetError(f"{path} has the columns {reader.fieldnames}; expected {list(_COLUMNS)}.")
        rows = {row["file"]: row for row in reader}
    if set(rows) != {sample.file for sample in samples}:
        raise DatasetError(f"{path} describes {len(rows)} files, not the {len(samples)} of this data set.")
    for sample in samples:
        row = rows[sample.file]
        if (row["patient"], row["label"]) != (sample.patient, sample.label):
            raise DatasetError(f"{path} has another patient or label for {sample.file} than the data set.")
    return tuple(rows[sample.file]["split"] for sample in samples)
