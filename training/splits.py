"""The split into training, validation and test.

Owns: a seeded, stratified 80:10:10 split in which no group (patient, near-duplicates) crosses a border, its proof, and
its CSV form; and, because the thesis did so, the plain split of images, which leaks. Refuses: to be drawn twice for a
better number: the seed belongs to the scenario.
"""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from training.datasets import Sample
from training.errors import DatasetError, LeakError
from training.leaks import crossing_groups, crossing_patients

SplitRule = Literal["patient", "image"]

PARTS: Final = ("train", "validation", "test")
_COLUMNS: Final = ("file", "patient", "label", "plane", "split")


def split(
    samples: Sequence[Sample], groups: npt.NDArray[np.int64], seed: int, rule: SplitRule = "patient"
) -> tuple[str, ...]:
    """Split samples 80:10:10, stratified by label and plane.

    Args:
        samples: The samples.
        groups: int64 (n), the group of each.
        seed: Of the shuffle.
        rule: `patient`: groups stay together; `image`: each image by itself, whatever that tears apart.

    Returns:
        The part of each sample.

    Raises:
        DatasetError: A class has fewer than ten groups (or images), so that it cannot stand in every part.
        LeakError: The result is not clean (cannot happen; checked all the same), or lacks a class in a part.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check_enough(samples, groups, rule)
    if rule == "image":
        strata = _strata(samples, 10)
        folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=seed).split(strata, strata)
    else:
        strata = np.array([f"{sample.label}/{sample.plane}" for sample in samples])
        folds = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=seed).split(strata, strata, groups)
    parts = np.full(len(samples), "train", dtype=object)
    for part, (_, held_back) in zip(("test", "validation"), folds, strict=False):
        parts[held_back] = part
    result = tuple(str(part) for part in parts)
    verify(samples, groups, result, rule)
    return result


def _check_enough(samples: Sequence[Sample], groups: npt.NDArray[np.int64], rule: SplitRule) -> None:
    """Refuse classes that cannot stand in all three parts."""
    found: dict[str, set[int]] = {}
    for number, (sample, group) in enumerate(zip(samples, groups.tolist(), strict=True)):
        found.setdefault(sample.label, set()).add(number if rule == "image" else group)
    few = {label: len(members) for label, members in sorted(found.items()) if len(members) < 10}
    if few:
        kind = "images" if rule == "image" else "patients or groups"
        counts = ", ".join(f"{label} has {count}" for label, count in few.items())
        more = "" if rule == "image" else " (slices of one patient and copies count once)"
        raise DatasetError(
            f"Too few {kind}{more}: {counts}; a split 80:10:10 needs at least 10 of each class, so that each can stand "
            "in every part. Add some, or leave the class out of class_names.",
            "too_few",
        )


def _strata(samples: Sequence[Sample], least: int) -> npt.NDArray[np.str_]:
    """Label and plane of each sample; those of a rare plane of a label together."""
    full = [f"{sample.label}/{sample.plane}" for sample in samples]
    counts = Counter(full)
    merged = [f"{s.label}/other" if counts[f] < least else f for s, f in zip(samples, full, strict=True)]
    counts = Counter(merged)
    # What is still rare goes with the label's largest stratum.
    largest = {
        s.label: max((m for t, m in zip(samples, merged, strict=True) if t.label == s.label), key=lambda m: counts[m])
        for s in {sample.label: sample for sample in samples}.values()
    }
    return np.array([largest[s.label] if counts[m] < least else m for s, m in zip(samples, merged, strict=True)])


def verify(
    samples: Sequence[Sample], groups: npt.NDArray[np.int64], parts: Sequence[str], rule: SplitRule = "patient"
) -> None:
    """Prove that a split is complete and, by the rule `patient`, clean.

    Raises:
        LeakError: A patient or a group crosses a border, a part is unknown, or a class is missing from a part.
    """
    unknown = set(parts) - set(PARTS)
    crossing = crossing_groups(groups, parts) if rule == "patient" else []
    patients = crossing_patients(samples, parts) if rule == "patient" else []
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
    """Write the split as CSV: file, patient, label, plane, split. A kill at any moment leaves all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for sample, part in zip(samples, parts, strict=True):
            writer.writerow((sample.file, sample.patient, sample.label, sample.plane, part))
    temporary.replace(path)


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
