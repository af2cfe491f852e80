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

import cv2
import numpy as np
import numpy.typing as npt

from training.datasets import Dataset, Sample, read_grey

_HASH_SIDE = 8
_THUMB_SIDE = 32


@dataclass(frozen=True)
class LeakReport:
    """What the check found.

    Attributes:
        groups: For each sample the number of its group, 0 to count - 1.
        identical_pairs: Pairs of files with the same bytes.
        near_pairs: Further pairs of near-duplicates.
        cross_patient_pairs: How many of both kinds joined two different patients or groups.
        cross_label_pairs: How many of both kinds have two different labels: doubtful truth.
    """

    groups: npt.NDArray[np.int64]
    identical_pairs: int
    near_pairs: int
    cross_patient_pairs: int
    cross_label_pairs: int


def find_groups(
    dataset: Dataset, digests: Sequence[str], max_distance: int = 6, min_correlation: float = 0.985
) -> LeakReport:
    """Join samples of one patient, identical files and near-duplicates.

    Args:
        dataset: The data set.
        digests: SHA-256 of each file.
        max_distance: Largest number of differing bits, of 64, for a pair to be looked at.
        min_correlation: Least correlation of the two 32 x 32 copies for a pair to count, 0 to 1.
    """
    samples = dataset.samples
    hashes, thumbs = _describe(dataset)
    left, right = _candidates(hashes, max_distance)
    near = np.einsum("ij,ij->i", thumbs[left], thumbs[right]) >= min_correlation
    same = np.array([digests[a] == digests[b] for a, b in zip(left, right, strict=True)], bool)
    joined = [(int(a), int(b)) for a, b in zip(left[near | same], right[near | same], strict=True)]

    parent = list(range(len(samples)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        parent[find(index)] = find(first.setdefault(sample.patient, index))
    for a, b in joined:
        parent[find(a)] = find(b)
    _, groups = np.unique([find(index) for index in range(len(samples))], return_inverse=True)
    return LeakReport(
        groups.astype(np.int64),
        int(same.sum()),
        int((near & ~same).sum()),
        sum(samples[a].patient != samples[b].patient for a, b in joined),
        sum(samples[a].label != samples[b].label for a, b in joined),
    )


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
    for index, sample in enumerate(dataset.samples):
        thumb = cv2.resize(
            read_grey(dataset.root / sample.file), (_THUMB_SIDE, _THUMB_SIDE), interpolation=cv2.INTER_AREA
        ).astype(np.float32)
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
