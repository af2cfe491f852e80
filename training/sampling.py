"""Which training items an epoch draws, and the batches of pictures made of them.

Owns: class balance by quota, patient balance by weight, the picture and the views of an item, and augmentation in
threads ahead of the training step. Refuses: validation and test slices, which are always taken whole and as they are.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from training.augment import Augmentation, augment, mix, view_batch
from training.balance import Items, training_items
from training.datasets import Sample
from training.errors import DatasetError
from training.runs import Part
from training.scenario import Scenario

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Batch = tuple[Float32, Float32]
GoOn = Callable[[], bool]
_T = TypeVar("_T")

VALIDATION_BATCH: Final = 64


class Feed(Protocol):
    """What runs in lockstep are trained on: the same batches for all.

    Attributes:
        steps: Steps of an epoch.
    """

    steps: int

    def batches(self, epoch: int, go_on: GoOn) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0: inputs float32 (batch, ...) and targets float32 (batch, classes).

        A function of seed and epoch alone, so that a resumed run repeats them. Where making them takes long, `go_on` is
        asked every few seconds; they end early when it says no.
        """

    def validation(self, go_on: GoOn) -> Iterator[Float32]:
        """The inputs of the validation slices, in their order; ends early as `batches` does."""


class PictureFeed:
    """Augmented pictures for a network that learns as a whole.

    Args:
        scenario: The configuration.
        train: Training slices at `scenario.cache_size`.
        validation: Validation slices at the exported size.
    """

    def __init__(self, scenario: Scenario, train: Part, validation: Part) -> None:
        self._scenario, self._train, self._validation = scenario, train, validation
        self._items = training_items(scenario, train.samples)
        self._labels = item_labels(scenario, train.samples, self._items)
        self.steps = steps_of(scenario, len(self._items.rows))

    def batches(self, epoch: int, go_on: GoOn) -> Iterator[Batch]:
        """See `Feed`; slices beyond the last full batch are left out, so that the step has one shape."""
        scenario, items = self._scenario, self._items
        order = epoch_order(scenario, self._train.samples, items, epoch)
        size = scenario.size_of(epoch)

        def make(number: int) -> Batch:
            rng = np.random.default_rng([scenario.seed, epoch, number])
            chosen = order[number * scenario.batch : (number + 1) * scenario.batch]
            pictures = np.stack([item_picture(self._train.images, items, i, scenario.augmentation) for i in chosen])
            views = view_batch(pictures, size, scenario.augmentation, rng)
            targets = targets_of(self._labels[chosen], len(scenario.class_names), scenario.label_smoothing)
            return mix(views, targets, scenario.mixup_alpha, scenario.mixup_rate, rng)

        return ahead(make, self.steps)

    def validation(self, go_on: GoOn) -> Iterator[Float32]:
        """See `Feed`."""
        return picture_batches(self._validation.images)


def epoch_order(scenario: Scenario, samples: Sequence[Sample], items: Items, epoch: int) -> npt.NDArray[np.int64]:
    """The items of one epoch in random order, from seed and epoch alone.

    Args:
        scenario: The configuration.
        samples: The training samples.
        items: What an epoch is drawn from; with `sampling: quota`, every sample once.
        epoch: Counted from 0.

    Returns:
        int64 (m): indices into the items.
    """
    rng = np.random.default_rng([scenario.seed, epoch])
    if scenario.sampling == "quota":
        return draw_epoch(samples, scenario.samples_per_epoch, scenario.patient_power, rng)
    return rng.permutation(len(items.rows))


def steps_of(scenario: Scenario, items: int) -> int:
    """Steps of an epoch.

    Raises:
        DatasetError: There are fewer items than one batch takes.
    """
    count = sum(scenario.samples_per_epoch.values()) if scenario.sampling == "quota" else items
    if count < scenario.batch:
        raise DatasetError(
            f"An epoch of scenario {scenario.name!r} has {count} items, fewer than one batch of {scenario.batch}. Use "
            "more data or a smaller batch."
        )
    return count // scenario.batch


def item_labels(scenario: Scenario, samples: Sequence[Sample], items: Items) -> npt.NDArray[np.int64]:
    """The class index of each item: int64 (m)."""
    return np.array([scenario.class_names.index(samples[row].label) for row in items.rows], np.int64)


def item_picture(images: UInt8, items: Items, index: int, settings: Augmentation) -> UInt8:
    """The picture of an item before its random view: the prepared slice, or its fixed augmented copy.

    Args:
        images: uint8 (n, s, s): prepared training slices.
        items: Which slice each item is, and the seed of its copy; -1 is the slice itself.
        index: Of the item.
        settings: Strengths and rates.

    Returns:
        uint8 (s, s).
    """
    picture: UInt8 = images[items.rows[index]]
    seed = int(items.static_seeds[index])
    if seed < 0:
        return picture
    copy = augment(picture, picture.shape[0], settings, np.random.default_rng(seed))
    return np.rint(copy * 255).astype(np.uint8)


def item_view(images: UInt8, items: Items, index: int, view: int, scenario: Scenario) -> Float32:
    """One of the numbered views of an item, from the scenario's seed, the item and the number alone.

    Args:
        images: uint8 (n, s, s): prepared training slices.
        items: The items.
        index: Of the item.
        view: Number of the view, from 0.
        scenario: The configuration; the view has its exported size.

    Returns:
        float32 (size, size, 1), range [0, 1].
    """
    rng = np.random.default_rng([scenario.seed, view, index])
    picture = item_picture(images, items, index, scenario.augmentation)
    return augment(picture, scenario.preprocessing.size, scenario.augmentation, rng)[..., None]


def picture_batches(images: UInt8, batch: int = VALIDATION_BATCH) -> Iterator[Float32]:
    """Prepared slices uint8 (n, s, s) as batches float32 (batch, s, s, 1), range [0, 1]; the last may be smaller."""
    for start in range(0, len(images), batch):
        pictures: Float32 = images[start : start + batch].astype(np.float32) / np.float32(255)
        yield pictures[..., None]


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


def ahead(make: Callable[[int], _T], count: int, waiting_at_most: int = 3) -> Iterator[_T]:
    """What `make` returns for 0 up to `count`, in order, made by one thread ahead of its use."""
    waiting: deque[Future[_T]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for number in range(count):
                waiting.append(pool.submit(make, number))
                if len(waiting) > waiting_at_most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
