"""Which training slices an epoch draws, and the batches made of them.

Owns: class balance by quota, patient balance by weight, and augmentation in threads ahead of the training step.
Refuses: validation and test slices, which are always taken whole and as they are.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from training.augment import mix, view_batch
from training.datasets import Sample
from training.scenario import Scenario

Float32 = npt.NDArray[np.float32]


def draw_epoch(
    samples: Sequence[Sample], quotas: Mapping[str, int], patient_power: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw the slices of one epoch in random order.

    Within a class a slice is drawn with the weight (slices of its patient) ** -power, without repetition until all
    of the class were drawn once.

    Args:
        samples: The training samples.
        quotas: Number of slices of each class.
        patient_power: 0 treats slices alike, 1 patients.
        rng: The source of chance.

    Returns:
        int64 (sum of quotas): indices into `samples`.
    """
    of_patient = Counter(sample.patient for sample in samples)
    chosen = []
    for label in sorted(quotas):
        members = np.array([i for i, sample in enumerate(samples) if sample.label == label], np.int64)
        weight = np.array([of_patient[samples[i].patient] ** -patient_power for i in members])
        left = quotas[label]
        while left > 0:
            # Exponential races: sorting -log(u)/w draws without replacement with probability proportional to w.
            order = np.argsort(rng.exponential(size=members.size) / weight)[:left]
            chosen.append(members[order])
            left -= order.size
    return rng.permutation(np.concatenate(chosen))


def targets_of(labels: npt.NDArray[np.int64], classes: int, smoothing: float) -> Float32:
    """One-hot targets with label smoothing: float32 (n, classes), rows adding up to 1."""
    targets = np.full((labels.size, classes), smoothing / classes, np.float32)
    targets[np.arange(labels.size), labels] += 1 - smoothing
    return targets


def batches(
    images: npt.NDArray[np.uint8],
    samples: Sequence[Sample],
    scenario: Scenario,
    epoch: int,
    threads: int = 1,
) -> Iterator[tuple[Float32, Float32]]:
    """The augmented batches of one epoch: a function of seed and epoch alone, so that a resumed run repeats them.

    Args:
        images: uint8 (n, s, s): prepared training slices.
        samples: Their descriptions.
        scenario: The configuration.
        epoch: Counted from 0.
        threads: Batches that are made at a time, ahead of use.

    Yields:
        Images float32 (batch, size, size, 1) and targets float32 (batch, classes). Slices beyond the last full batch
        are left out, so that the step has one shape.
    """
    order = draw_epoch(
        samples, scenario.samples_per_epoch, scenario.patient_power, np.random.default_rng([scenario.seed, epoch])
    )
    labels = np.array([scenario.class_names.index(sample.label) for sample in samples], np.int64)
    size = scenario.size_of(epoch)

    def make(number: int) -> tuple[Float32, Float32]:
        rng = np.random.default_rng([scenario.seed, epoch, number])
        rows = order[number * scenario.batch : (number + 1) * scenario.batch]
        views = view_batch(images[rows], size, scenario.augmentation, rng)
        targets = targets_of(labels[rows], len(scenario.class_names), scenario.label_smoothing)
        return mix(views, targets, scenario.mixup_alpha, scenario.mixup_rate, rng)

    waiting: deque[Future[tuple[Float32, Float32]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number in range(len(order) // scenario.batch):
            waiting.append(pool.submit(make, number))
            if len(waiting) > threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
