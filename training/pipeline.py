"""The way from a folder of slices to a trained network.

Owns: the order of the steps (read, group, split, prepare, train) and the files they leave. Refuses: to look at test
pictures: they are neither prepared nor scored here (see `training.shipping`).
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from training.datasets import Dataset, Sample, file_digests, fingerprint, prepare_all, read_dataset
from training.leaks import LeakReport, find_groups
from training.recorder import Recorder
from training.runs import Part, RunResult, run
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


def fit(
    scenario: Scenario,
    material: Material,
    state_path: Path,
    recorder: Recorder,
    weights_dir: Path | None,
    threads: int = 2,
) -> RunResult:
    """Train on the training part and choose on the validation part.

    Args:
        scenario: The configuration.
        material: Data and split.
        state_path: Where the run keeps its state; an unfinished run goes on from it, a finished one is read.
        recorder: Is told of progress.
        weights_dir: Folder of ImageNet weights, when the scenario starts from them.
        threads: Threads of the numeric library.
    """
    train, validation = material.of("train"), material.of("validation")
    larger = replace(scenario.preprocessing, size=scenario.cache_size)
    return run(
        scenario,
        Part(prepare_all(material.dataset, train, larger), train),
        Part(prepare_all(material.dataset, validation, scenario.preprocessing), validation),
        material.fingerprint,
        state_path,
        recorder,
        weights_dir,
        threads,
    )
