"""Which samples must stay together in a split.

Owns: finding byte-identical files and near-duplicates (copies that were re-compressed, resized or slightly cropped),
and joining them with the patients into groups. Refuses: to split, and to drop anything: what belongs together is kept
together.

Near-duplicates are found in two steps. A perceptual hash (the signs of the low frequencies of the discrete cosine
transform, after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010) proposes pairs;
slices of two people in the same position hash alike, so a pair counts only when small copies of the two pictures also
correlate almost perfectly.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import cv2
import numpy as np
import numpy.typing as npt

from training.datasets import Dataset, Sample, read_each

Int = npt.NDArray[np.int64]

MAX_EXAMPLES: Final = 12
_HASH_SIDE: Final = 8
_THUMB_SIDE: Final = 32


@dataclass(frozen=True, slots=True)
class Pairs:
    """Samples that show the same picture, in pairs.

    Attributes:
        left: int64 (p), number of the first sample of each pair.
        right: int64 (p), of the second.
        identical: bool (p), whether their bytes are the same. Of files with the same bytes each later one is paired
            with the first; near-duplicates are looked for among the first ones alone.
        correlation: float32 (p), of their small copies; 1 for identical files.
    """

    left: Int
    right: Int
    identical: npt.NDArray[np.bool_]
    correlation: npt.NDArray[np.float32]

    @classmethod
    def none(cls) -> Self:
        """No pair."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.float32))


@dataclass(frozen=True)
class LeakReport:
    """What the check found.

    Attributes:
        groups: For each sample the number of its group, 0 to count - 1.
        pairs: The copies.
        samples: What was looked at.
    """

    groups: Int
    pairs: Pairs
    samples: tuple[Sample, ...]

    @property
    def identical_pairs(self) -> int:
        """Pairs of files with the same bytes."""
        return int(self.pairs.identical.sum())

    @property
    def near_pairs(self) -> int:
        """Further pairs of near-duplicates."""
        return int((~self.pairs.identical).sum())

    @property
    def cross_patient_pairs(self) -> int:
        """How many pairs joined two different patients or groups."""
        return int(self._differ("patient").sum())

    @property
    def cross_label_pairs(self) -> int:
        """How many pairs have two different labels: doubtful truth."""
        return int(self._differ("label").sum())

    def torn(self, parts: Sequence[str]) -> dict[str, int]:
        """What stands on more than one side of a split: numbers of patients, groups and pairs of copies."""
        side = np.asarray(parts)
        torn = side[self.pairs.left] != side[self.pairs.right]
        return {
            "patients": len(crossing_patients(self.samples, parts)),
            "groups": len(crossing_groups(self.groups, parts)),
            "identical_pairs": int((torn & self.pairs.identical).sum()),
            "near_pairs": int((torn & ~self.pairs.identical).sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """Counts and some examples; the layout is in docs/run-report.md."""
        kinds = {
            "identical": self.pairs.identical,
            "near": ~self.pairs.identical,
            "cross_patient": self._differ("patient"),
            "cross_label": self._differ("label"),
        }
        return {
            "groups": int(self.groups.max()) + 1 if self.groups.size else 0,
            "identical_pairs": self.identical_pairs,
            "near_pairs": self.near_pairs,
            "cross_patient_pairs": self.cross_patient_pairs,
            "cross_label_pairs": self.cross_label_pairs,
            "examples": {name: self._examples(np.flatnonzero(holds)) for name, holds in kinds.items()},
        }

    def _differ(self, field: str) -> npt.NDArray[np.bool_]:
        """Whether the two of each pair have different values of a field."""
        values = np.array([getattr(sample, field) for sample in self.samples], dtype=str)
        return np.asarray(values[self.pairs.left] != values[self.pairs.right])

    def _examples(self, numbers: Int) -> list[dict[str, Any]]:
        """Up to `MAX_EXAMPLES` of these pairs, from as many groups as there are."""
        turns: Counter[int] = Counter()
        ranked = []
        for number, group in zip(numbers.tolist(), self.groups[self.pairs.left[numbers]].tolist(), strict=True):
            ranked.append((turns[group], number))
            turns[group] += 1
        return [self._example(number) for _, number in sorted(ranked)[:MAX_EXAMPLES]]

    def _example(self, number: int) -> dict[str, Any]:
        first, second = (self.samples[int(side[number])] for side in (self.pairs.left, self.pairs.right))
        return {
            "files": [first.file, second.file],
            "labels": [first.label, second.label],
            "same_patient": first.patient == second.patient,
            "correlation": round(float(self.pairs.correlation[number]), 4),
        }


def find_groups(
    dataset: Dataset, digests: Sequence[str], max_distance: int = 6, min_correlation: float = 0.985
) -> LeakReport:
    """Join samples of one patient, identical files and near-duplicates.

    Args:
        dataset: The data set.
        digests: SHA-256 of each file.
        max_distance: Largest number of differing bits, of 64, for a pair to be looked at.
        min_correlation: Least correlation of the two 32 x 32 copies for a pair to count, 0 to 1.

    Raises:
        DatasetError: Naming every picture that cannot be read.
    """
    samples = dataset.samples
    hashes, thumbs = _describe(dataset)
    firsts, copies = _same_content(digests)
    near = _near(hashes[firsts], thumbs[firsts], max_distance, min_correlation)
    pairs = Pairs(
        np.concatenate([copies[0], firsts[near[0]]]),
        np.concatenate([copies[1], firsts[near[1]]]),
        np.concatenate([np.ones(copies[0].size, bool), np.zeros(near[0].size, bool)]),
        np.concatenate([np.ones(copies[0].size, np.float32), near[2]]),
    )
    return LeakReport(_joined(samples, pairs), pairs, tuple(samples))


def _joined(samples: Sequence[Sample], pairs: Pairs) -> Int:
    """Group of each sample: patients and pairs joined.

    A split depends on how groups are numbered, so the order of joining must stay as it is: patients first, then pairs
    by their left and right sample.
    """
    parent = list(range(len(samples)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        parent[find(index)] = find(first.setdefault(sample.patient, index))
    order = np.lexsort((pairs.right, pairs.left))
    for left, right in zip(pairs.left[order].tolist(), pairs.right[order].tolist(), strict=True):
        parent[find(left)] = find(right)
    _, groups = np.unique([find(index) for index in range(len(samples))], return_inverse=True)
    return groups.astype(np.int64)


def _same_content(digests: Sequence[str]) -> tuple[Int, tuple[Int, Int]]:
    """The first file of each content, and each later one with the first of its kind."""
    seen: dict[str, int] = {}
    first = np.array([seen.setdefault(digest, index) for index, digest in enumerate(digests)], np.int64)
    later = np.flatnonzero(first != np.arange(first.size))
    return np.array(list(seen.values()), np.int64), (first[later], later)


def _near(
    hashes: npt.NDArray[np.uint64], thumbs: npt.NDArray[np.float32], max_distance: int, min_correlation: float
) -> tuple[Int, Int, npt.NDArray[np.float32]]:
    """Near-duplicates: left and right of each pair, and its correlation."""
    lefts, rights, correlations = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for index in range(len(hashes) - 1):
        alike = index + 1 + np.flatnonzero(np.bitwise_count(hashes[index + 1 :] ^ hashes[index]) <= max_distance)
        found = thumbs[alike] @ thumbs[index]
        kept = found >= min_correlation
        lefts.append(np.full(int(kept.sum()), index, np.int64))
        rights.append(alike[kept])
        correlations.append(np.minimum(found[kept], 1.0))
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(correlations)


def crossing_groups(groups: npt.NDArray[np.int64], parts: Sequence[str]) -> list[int]:
    """The groups that stand in more than one part; empty for a clean split."""
    found = Counter(group for group, _ in set(zip(groups.tolist(), parts, strict=True)))
    return sorted(group for group, count in found.items() if count > 1)


def crossing_patients(samples: Sequence[Sample], parts: Sequence[str]) -> list[str]:
    """The patients that stand in more than one part; empty for a clean split."""
    found = Counter(patient for patient, _ in {(s.patient, p) for s, p in zip(samples, parts, strict=True)})
    return sorted(patient for patient, count in found.items() if count > 1)


def _describe(dataset: Dataset) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Hashes uint64 (n) and thumbnails float32 (n, 1024) of mean 0 and length 1."""
    hashes = np.empty(len(dataset.samples), np.uint64)
    thumbs = np.empty((len(dataset.samples), _THUMB_SIDE * _THUMB_SIDE), np.float32)
    for index, picture in enumerate(read_each(dataset, dataset.samples)):
        thumb = cv2.resize(picture, (_THUMB_SIDE, _THUMB_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(thumb)[:_HASH_SIDE, :_HASH_SIDE].ravel()
        bits = low > np.median(low[1:])
        hashes[index] = np.packbits(bits).view(np.uint64)[0]
        centred = thumb.ravel() - thumb.mean()
        thumbs[index] = centred / max(float(np.linalg.norm(centred)), 1e-6)
    return hashes, thumbs
