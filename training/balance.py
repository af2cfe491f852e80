"""Which items of the training part a run learns from.

Owns: random under-sampling to the smallest class (imbalanced-learn's, on the training part alone) and the list of
static copies that fill each class up. Refuses: validation and test slices, and to change a picture: a static copy is a
slice with a seed, of which the sampling makes the same augmented picture every time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.datasets import Sample
from training.scenario import Scenario

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """What an epoch is drawn from.

    Attributes:
        rows: int64 (m), indices into the training samples.
        static_seeds: int64 (m), >= 0: the item is the augmented copy of this seed; -1: the picture itself.
    """

    rows: Int
    static_seeds: Int


def training_items(scenario: Scenario, train: Sequence[Sample]) -> Items:
    """The items of a run: a function of scenario and samples alone.

    Args:
        scenario: Its sampling, `static_per_class` and seed.
        train: The training samples.

    Returns:
        Pictures first, then static copies. Without under-sampling each slice stands once.
    """
    if scenario.sampling != "under_sample":
        return Items(np.arange(len(train), dtype=np.int64), np.full(len(train), -1, np.int64))
    labels = np.array([scenario.class_names.index(sample.label) for sample in train], np.int64)
    kept = _under_sampled(labels, scenario.seed)
    rng = np.random.default_rng([scenario.seed, len(train)])
    rows, seeds = [kept], [np.full(kept.size, -1, np.int64)]
    for index in range(len(scenario.class_names)):
        members = kept[labels[kept] == index]
        missing = max(0, scenario.static_per_class - members.size)
        # In turns over all pictures, so that none has two copies more than another.
        rows.append(np.resize(rng.permutation(members), missing))
        seeds.append(rng.integers(0, 2**31, missing))
    return Items(np.concatenate(rows), np.concatenate(seeds))


def _under_sampled(labels: Int, seed: int) -> Int:
    """Indices, ascending, of as many items of each class as the smallest one has."""
    from imblearn.under_sampling import RandomUnderSampler

    sampler = RandomUnderSampler(random_state=seed)
    sampler.fit_resample(np.arange(labels.size).reshape(-1, 1), labels)
    return np.sort(np.asarray(sampler.sample_indices_, np.int64))


def count_items(scenario: Scenario, train: Sequence[Sample], items: Items) -> Mapping[str, Mapping[str, int]]:
    """Pictures and static copies by class: `{label: {"pictures": n, "static": m}}`."""
    labels = np.array([train[row].label for row in items.rows.tolist()])
    static = items.static_seeds >= 0
    return {
        name: {
            "pictures": int(((labels == name) & ~static).sum()),
            "static": int(((labels == name) & static).sum()),
        }
        for name in scenario.class_names
    }
