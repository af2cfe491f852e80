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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from training.datasets import Dataset, Sample, read_each

MAX_EXAMPLES: Final = 12
_HASH_SIDE: Final = 8
_THUMB_SIDE: Final = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples that show the same picture.

    Attributes:
        left: Number of the first sample.
        right: Number of the second; larger.
        identical: Whether their bytes are the same.
        correlation: Of their small copies, up to 1.
    """

    left: int
    right: int
    identical: bool
    correlation: float


@dataclass(frozen=True)
class LeakReport:
    """What the check found.

    Attributes:
        groups: For each sample the number of its group, 0 to count - 1.
        pairs: The copies, identical ones first.
        samples: What was looked at.
    """

    groups: npt.NDArray[np.int64]
    pairs: tuple[Pair, ...]
    samples: tuple[Sample, ...]

    @property
    def identical_pairs(self) -> int:
        """Pairs of files with the same bytes."""
        return sum(pair.identical for pair in self.pairs)

    @property
    def near_pairs(self) -> int:
        """Further pairs of near-duplicates."""
        return sum(not pair.identical for pair in self.pairs)

    @property
    def cross_patient_pairs(self) -> int:
        """How many pairs joined two different patients or groups."""
        return sum(not self._same(pair, "patient") for pair in self.pairs)

    @property
    def cross_label_pairs(self) -> int:
        """How many pairs have two different labels: doubtful truth."""
        return sum(not self._same(pair, "label") for pair in self.pairs)

    def torn(self, parts: Sequence[str]) -> dict[str, int]:
        """What stands on more than one side of a split: numbers of patients, groups and pairs of copies."""
        torn = [pair for pair in self.pairs if parts[pair.left] != parts[pair.right]]
        return {
            "patients": len(crossing_patients(self.samples, parts)),
            "groups": len(crossing_groups(self.groups, parts)),
            "identical_pairs": sum(pair.identical for pair in torn),
            "near_pairs": sum(not pair.identical for pair in torn),
        }

    def to_json(self) -> dict[str, Any]:
        """Counts and some examples; the layout is in docs/run-report.md."""
        kinds: dict[str, Callable[[Pair], bool]] = {
            "identical": lambda pair: pair.identical,
            "near": lambda pair: not pair.identical,
            "cross_patient": lambda pair: not self._same(pair, "patient"),
            "cross_label": lambda pair: not self._same(pair, "label"),
        }
        return {
            "groups": int(self.groups.max()) + 1 if self.groups.size else 0,
            "identical_pairs": self.identical_pairs,
            "near_pairs": self.near_pairs,
            "cross_patient_pairs": self.cross_patient_pairs,
            "cross_label_pairs": self.cross_label_pairs,
            "examples": {name: self._examples(list(filter(holds, self.pairs))) for name, holds in kinds.items()},
        }

    def _same(self, pair: Pair, field: str) -> bool:
        return bool(getattr(self.samples[pair.left], field) == getattr(self.samples[pair.right], field))

    def _examples(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """Up to `MAX_EXAMPLES` pairs, from as many groups as there are."""
        turns: Counter[int] = Counter()
        ranked = []
        for order, pair in enumerate(pairs):
            group = int(self.groups[pair.left])
            ranked.append((turns[group], order, pair))
            turns[group] += 1
        return [
            {
                "files": [self.samples[pair.left].file, self.samples[pair.right].file],
                "labels": [self.samples[pair.left].label, self.samples[pair.right].label],
                "same_patient": self._same(pair, "patient"),
                "correlation": round(pair.correlation, 4),
            }
            for _, _, pair in sorted(ranked, key=lambda item: item[:2])[:MAX_EXAMPLES]
        ]


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
    left, right = _candidates(hashes, max_distance)
    correlations = np.minimum(np.einsum("ij,ij->i", thumbs[left], thumbs[right]), 1.0)
    _, content = np.unique(np.asarray(digests, dtype=str), return_inverse=True)
    same = content[left] == content[right]
    kept = same | (correlations >= min_correlation)
    found = (left[kept].tolist(), right[kept].tolist(), same[kept].tolist(), correlations[kept].tolist())
    pairs = [Pair(a, b, identical, 1.0 if identical else c) for a, b, identical, c in zip(*found, strict=True)]

    parent = list(range(len(samples)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        parent[find(index)] = find(first.setdefault(sample.patient, index))
    for pair in pairs:
        parent[find(pair.left)] = find(pair.right)
    _, groups = np.unique([find(index) for index in range(len(samples))], return_inverse=True)
    pairs.sort(key=lambda pair: not pair.identical)
    return LeakReport(groups.astype(np.int64), tuple(pairs), tuple(samples))


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


def _candidates(
    hashes: npt.NDArray[np.uint64], max_distance: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Index pairs (left < right) whose hashes differ in at most `max_distance` bits."""
    lefts, rights = [], []
    for index in range(len(hashes) - 1):
        near = np.flatnonzero(np.bitwise_count(hashes[index + 1 :] ^ hashes[index]) <= max_distance)
        lefts.append(np.full(near.size, index, np.int64))
        rights.append(near.astype(np.int64) + index + 1)
    if not lefts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(lefts), np.concatenate(rights)
