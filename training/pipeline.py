"""The way from a folder of slices to material for training.

Owns: the order of the steps (read, group, split) and the file of the split. Refuses: to train (see `groups`), and to
look at test pictures: they are neither prepared nor scored here (see `training.shipping`).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from training.datasets import Dataset, Sample, file_digests, fingerprint, read_dataset
from training.leaks import LeakReport, find_groups
from training.scenario import Scenario
from training.selection import select
from training.splits import read_split, split, verify, write_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """A data set, grouped and split.

    Attributes:
        dataset: The slices.
        leaks: What the check for duplicates found.
        parts: train, validation or test of each sample.
        fingerprint: Of data and split.
    """

    dataset: Dataset
    leaks: LeakReport
    parts: tuple[str, ...]
    fingerprint: str

    def of(self, part: str) -> tuple[Sample, ...]:
        """The samples of one part."""
        return tuple(s for s, p in zip(self.dataset.samples, self.parts, strict=True) if p == part)


def gather(scenario: Scenario, data: Path, split_path: Path) -> Material:
    """Read and split a data set; an existing split file is taken when it is clean and describes these very slices.

    Args:
        scenario: The configuration.
        data: Folder of the data set.
        split_path: CSV of the split; written when it does not exist.

    Raises:
        DatasetError: The data or the split file do not fit, or pictures cannot be read.
        LeakError: The split in the file is not clean.
    """
    dataset = select(scenario, read_dataset(data))
    digests = file_digests(dataset)
    leaks = find_groups(dataset, digests)
    if split_path.is_file():
        parts = read_split(split_path, dataset.samples)
        verify(dataset.samples, leaks.groups, parts, scenario.split_rule)
    else:
        parts = split(dataset.samples, leaks.groups, scenario.seed, scenario.split_rule)
        write_split(split_path, dataset.samples, parts)
    log.info(
        "%d slices in %d groups; %d identical and %d nearly identical pairs, %d across patients",
        len(dataset.samples),
        int(leaks.groups.max()) + 1,
        leaks.identical_pairs,
        leaks.near_pairs,
        leaks.cross_patient_pairs,
    )
    return Material(dataset, leaks, parts, fingerprint(dataset, digests, parts))
