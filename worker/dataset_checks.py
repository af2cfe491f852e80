"""Whether a folder is a data set that can be trained on, with everything that is wrong with it at once.

Owns the checks around `training.datasets.read_dataset`: every picture is decoded in the decoder processes, links must
not lead out, labels that look like a known class misspelt are asked about, and there must be two classes of ten
slices. What reading and the check for copies raise becomes an entry with a code, for a sentence in the reader's
language. Refuses to change a file or a label.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from config.dataset_folders import MANIFEST
from config.settings import ROOT
from imaging.decoders import Decoders
from imaging.outcomes import Reason, RejectedFile
from training.datasets import Dataset, Sample, fingerprint, read_dataset
from training.errors import DatasetError
from training.leaks import LeakReport, find_groups
from worker.dataset_sources import Refused, listed, problem, rejections

LEAST_OF_A_CLASS: Final = 10
"""A split 80:10:10 cannot put fewer into every part."""
PASSES: Final = 3
"""How often every picture is met: decoded, compared, stored."""
_THREADS: Final = 4
_ALIKE: Final = 0.8
_BOX: Final = ("box_x", "box_y", "box_w", "box_h")


@dataclass(frozen=True)
class Checked:
    """A data set that can be used.

    Attributes:
        dataset: Its samples.
        digests: SHA-256 of each file.
        leaks: What the check for copies found.
        boxes: file -> tumour box (centre x, centre y, width, height) as fractions.
        fingerprint: Over file, bytes, label, patient and plane of every sample.
        remarks: What to keep in mind, entries {code, detail}.
    """

    dataset: Dataset
    digests: list[str]
    leaks: LeakReport
    boxes: dict[str, list[float]]
    fingerprint: str
    remarks: list[dict[str, Any]]


def read(root: Path) -> Dataset:
    """Reads the description of a data set.

    Raises:
        Refused: It cannot be read.
    """
    try:
        return read_dataset(root)
    except DatasetError as error:
        raise Refused([_described(error, root)]) from None
    except OSError:
        raise Refused([problem("dataset_no_folder", folder=root.name)]) from None


def check(
    dataset: Dataset, decoders: Decoders, step: Callable[[], None], *, labels_as_they_are: bool = False
) -> Checked:
    """Looks at every picture.

    Args:
        dataset: As `read` gives it.
        decoders: Where pictures are decoded.
        step: Called for each picture; raises when the work must stop.
        labels_as_they_are: Whether labels that look misspelt are meant so.

    Raises:
        Refused: With everything that is wrong.
        DecodersUnavailable: There is no process to read a file in.
    """
    problems = _labels(dataset, labels_as_they_are)
    digests, refused = _decode(dataset, decoders, step)
    problems += rejections(refused)
    if problems:
        raise Refused(problems)
    try:
        leaks = find_groups(dataset, digests)
    except DatasetError as error:
        raise Refused([_described(error, dataset.root)]) from None
    except OSError:
        raise Refused([problem("dataset_changed")]) from None
    mark = fingerprint(dataset, digests, [""] * len(digests))
    return Checked(dataset, digests, leaks, boxes(dataset.root), mark, _remarks(dataset, leaks))


def boxes(root: Path) -> dict[str, list[float]]:
    """file -> box of the manifest's rows that have a whole one within the picture; empty without a manifest."""
    found: dict[str, list[float]] = {}
    try:
        with (root / MANIFEST).open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                try:
                    box = [float(row[name]) for name in _BOX]
                except (KeyError, TypeError, ValueError):
                    continue
                if all(0.0 <= value <= 1.0 for value in box):
                    found[row["file"]] = box
    except FileNotFoundError:
        return {}
    return found


def counts(dataset: Dataset) -> dict[str, Any]:
    """`TrainingDataset.counts` of a data set."""
    known = any(sample.patient != sample.file for sample in dataset.samples)

    def patients(samples: Sequence[Sample]) -> int:
        return len({sample.patient for sample in samples})

    return {
        "slices": len(dataset.samples),
        "patients": patients(dataset.samples),
        "patients_known": known,
        "classes": {
            label: {"slices": len(some), "patients": patients(some)}
            for label in dataset.class_names
            for some in [[sample for sample in dataset.samples if sample.label == label]]
        },
        "planes": dict(sorted(Counter(sample.plane or "unknown" for sample in dataset.samples).items())),
        "sources": dict(sorted(Counter(sample.source or "unknown" for sample in dataset.samples).items())),
    }


@lru_cache(maxsize=1)
def known_classes(folder: Path = ROOT / "config" / "scenarios") -> frozenset[str]:
    """The classes that the scenario files name; a file with mistakes is passed over."""
    from training.errors import ScenarioError
    from training.scenario_files import load_scenarios

    names: set[str] = set()
    for path in sorted(folder.glob("*.yaml")):
        try:
            for scenario in load_scenarios(path).scenarios:
                names.update(scenario.class_names)
        except (ScenarioError, OSError):
            continue
    return frozenset(names)


def _labels(dataset: Dataset, as_they_are: bool) -> list[dict[str, Any]]:
    """What is wrong with the classes: one alone, too few slices, names that look misspelt."""
    found = Counter(sample.label for sample in dataset.samples)
    problems = []
    if not as_they_are:
        for label, count in sorted(found.items()):
            near = [] if label in known_classes() else get_close_matches(label, known_classes(), 1, _ALIKE)
            if near:
                problems.append(problem("dataset_label_misspelt", label=label, count=count, near=near[0]))
    if len(found) == 1:
        problems.append(problem("dataset_one_class", label=next(iter(found)), count=found.total()))
    elif sum(count >= LEAST_OF_A_CLASS for count in found.values()) < 2:
        there = ", ".join(f"{label} ({count})" for label, count in sorted(found.items()))
        problems.append(problem("dataset_too_few", classes=there, least=LEAST_OF_A_CLASS))
    return problems


def _decode(
    dataset: Dataset, decoders: Decoders, step: Callable[[], None]
) -> tuple[list[str], list[tuple[str, RejectedFile]]]:
    """Digest of every file, and which files are no pictures or lead out of the folder."""
    root = dataset.root.resolve()

    def look(sample: Sample) -> str | RejectedFile:
        step()
        path = dataset.root / sample.file
        try:
            if not path.resolve(strict=True).is_relative_to(root):
                return RejectedFile(Reason.LINK)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return RejectedFile(Reason.FILE_MISSING)
        except (OSError, RuntimeError):
            return RejectedFile(Reason.FILE_ACCESS, found=sample.file)
        try:
            decoders.read_frame(path, 0)
        except RejectedFile as rejection:
            return rejection
        return digest

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="look") as pool:
        seen = list(pool.map(look, dataset.samples))
    refused = [
        (sample.file, found)
        for sample, found in zip(dataset.samples, seen, strict=True)
        if isinstance(found, RejectedFile)
    ]
    return [found for found in seen if isinstance(found, str)], refused


def _remarks(dataset: Dataset, leaks: LeakReport) -> list[dict[str, Any]]:
    """What does not hinder, but matters for whoever trains on it."""
    remarks = []
    found = Counter(sample.label for sample in dataset.samples)
    groups = Counter(
        label for label, _ in {(s.label, int(g)) for s, g in zip(dataset.samples, leaks.groups, strict=True)}
    )
    for label, count in sorted(found.items()):
        if groups[label] < LEAST_OF_A_CLASS:
            remarks.append(
                problem("dataset_class_small", label=label, count=count, groups=groups[label], least=LEAST_OF_A_CLASS)
            )
    if all(sample.patient == sample.file for sample in dataset.samples):
        remarks.append(problem("dataset_no_patients"))
    if leaks.cross_label_pairs:
        remarks.append(problem("dataset_doubtful_labels", count=leaks.cross_label_pairs))
    return remarks


def _described(error: DatasetError, root: Path) -> dict[str, Any]:
    """What reading raised, as an entry: its code, the files, and what the manifest says where that helps."""
    facts: dict[str, Any] = {**listed(error.files), "message": str(error).replace(str(root), root.name)}
    if error.code in ("missing_column", "missing_value"):
        facts.update(_manifest_facts(root / MANIFEST))
    return problem(f"dataset_{error.code}", **facts)


def _manifest_facts(manifest: Path) -> dict[str, Any]:
    """The columns there are and lack, and the first lines with an empty value where one is needed."""
    needed = ("file", "label", "patient")
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        found = list(reader.fieldnames or ())
        missing = [name for name in needed if name not in found]
        empty = [] if missing else [reader.line_num for row in reader if not all(row[name] for name in needed)]
    lines = ", ".join(map(str, empty[:20])) + (", …" if len(empty) > 20 else "")
    return {"missing": ", ".join(missing), "found": ", ".join(found) or "–", "lines": lines}
