"""The output of the part of a network that stays frozen.

Owns: making it once for each (item, view) and for each validation slice, keeping it in the cache under the digest of
everything that decides it, and feeding runs from there. Refuses: to train, and to know which of the later parts learns.

The frozen part always runs in inference mode: its normalisations use their stored statistics.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil, prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from training.balance import training_items
from training.cache import ArrayCache
from training.datasets import Sample
from training.errors import RunError
from training.runs import Part
from training.sampling import (
    VALIDATION_BATCH,
    Batch,
    Float32,
    GoOn,
    ahead,
    epoch_order,
    item_labels,
    item_view,
    steps_of,
    targets_of,
)
from training.scenario import Scenario

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Raise it when the same key would hold other numbers: after a change of augmentation, views or forward pass."""

_CHUNK: Final = 256
"""Items in one file: what a killed process loses at most, and what is dropped at once."""
_FORWARD_BATCH: Final = 32

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FrozenPart:
    """The prefix of a network.

    Attributes:
        model: Images float32 (n, S, S, 1) in [0, 1] -> what the learning part takes.
        name: What it ends with: the layer before which it was cut, or `head`.
        digest: SHA-256 of its weights, see `weights_digest`.
        dtype: In which its output is kept: float16 for maps, which are large; float32 for vectors.
    """

    model: "keras.Model"
    name: str
    digest: str
    dtype: str


@dataclass(frozen=True)
class Sources:
    """Where the pictures come from; they are read only when a feature is missing.

    Attributes:
        train: Makes the training slices at `scenario.cache_size`.
        validation: Makes the validation slices at the exported size.
        train_samples: Descriptions of the training slices.
        validation_samples: Descriptions of the validation slices.
        fingerprint: Of data and split.
    """

    train: Callable[[], Part]
    validation: Callable[[], Part]
    train_samples: Sequence[Sample]
    validation_samples: Sequence[Sample]
    fingerprint: str


class FeatureFeed:
    """Features of a frozen part for the runs that share it.

    Args:
        scenario: Any of the scenarios that share the work; they differ in nothing that is used here.
        frozen: The frozen part.
        sources: The pictures.
        cache: Where the features are kept.

    Raises:
        RunError: They would not fit into the cache.
        DatasetError: There are fewer items than one batch takes.
    """

    def __init__(self, scenario: Scenario, frozen: FrozenPart, sources: Sources, cache: ArrayCache) -> None:
        import tensorflow as tf

        model = frozen.model
        self._scenario, self._frozen, self._sources, self._cache = scenario, frozen, sources, cache
        self._items = training_items(scenario, sources.train_samples)
        self._labels = item_labels(scenario, sources.train_samples, self._items)
        self.steps = steps_of(scenario, len(self._items.rows))
        size = scenario.preprocessing.size
        self._shape = tuple(int(n) for n in model.compute_output_shape((1, size, size, 1))[1:])
        self._tensorflow = tf.__version__
        self._forward = tf.function(lambda images: model(images, training=False))
        arrays = scenario.views * len(self._items.rows) + len(sources.validation_samples)
        cache.require_room(arrays * prod(self._shape) * np.dtype(frozen.dtype).itemsize)

    @cached_property
    def _train_images(self) -> npt.NDArray[np.uint8]:
        return self._sources.train().images

    @cached_property
    def _validation_images(self) -> npt.NDArray[np.uint8]:
        return self._sources.validation().images

    def batches(self, epoch: int, go_on: GoOn) -> Iterator[Batch]:
        """See `sampling.Feed`."""
        scenario = self._scenario
        order = epoch_order(scenario, self._sources.train_samples, self._items, epoch)
        chunks = self._view(epoch % scenario.views, go_on)
        if chunks is None:
            return
        for number in range(self.steps):
            chosen = order[number * scenario.batch : (number + 1) * scenario.batch]
            inputs = np.stack([chunks[i // _CHUNK][i % _CHUNK] for i in chosen]).astype(np.float32)
            yield inputs, targets_of(self._labels[chosen], len(scenario.class_names), scenario.label_smoothing)

    def validation(self, go_on: GoOn) -> Iterator[Float32]:
        """See `sampling.Feed`."""

        def make(index: int) -> Float32:
            view: Float32 = self._validation_images[index].astype(np.float32) / np.float32(255)
            return view[..., None]

        chunks = self._chunks("validation", {}, len(self._sources.validation_samples), make, go_on)
        for chunk in chunks or ():
            for start in range(0, len(chunk), VALIDATION_BATCH):
                yield chunk[start : start + VALIDATION_BATCH].astype(np.float32)

    def _view(self, view: int, go_on: GoOn) -> list[Array] | None:
        """The features of one view of every item, in chunks; None when stopped."""

        def make(index: int) -> Float32:
            return item_view(self._train_images, self._items, index, view, self._scenario)

        facts = {
            "view": view,
            "augmentation": asdict(self._scenario.augmentation),
            "cache_size": self._scenario.cache_size,
            "rows": hashlib.sha256(self._items.rows.tobytes()).hexdigest(),
            "static_seeds": hashlib.sha256(self._items.static_seeds.tobytes()).hexdigest(),
            "seed": self._scenario.seed,
        }
        return self._chunks("train", facts, len(self._items.rows), make, go_on)

    def _chunks(
        self, part: str, facts: Mapping[str, Any], count: int, make: Callable[[int], Float32], go_on: GoOn
    ) -> list[Array] | None:
        """Features of `count` pictures, taken from the cache or made."""
        chunks = []
        for number in range(ceil(count / _CHUNK)):
            first, last = number * _CHUNK, min(count, (number + 1) * _CHUNK)
            key = self._key(part, {**facts, "first": first, "last": last})
            shape = (last - first, *self._shape)
            found = self._cache.get(key, shape, self._frozen.dtype)
            if found is None:
                log.info("features of %s: %d to %d of %d", part, first, last, count)
                if not self._cache.put(
                    key,
                    shape,
                    self._frozen.dtype,
                    lambda array, a=first: self._fill(array, a, make, go_on),  # type: ignore[misc]
                ):
                    return None
                found = self._cache.get(key, shape, self._frozen.dtype)
                if found is None:
                    raise RunError("The cache lost what was just written: another process empties its folder.")
            chunks.append(found)
        return chunks

    def _fill(self, array: Array, first: int, make: Callable[[int], Float32], go_on: GoOn) -> bool:
        """Compute the features of consecutive pictures in place; False when stopped."""

        def images(number: int) -> Float32:
            start = first + number * _FORWARD_BATCH
            return np.stack([make(i) for i in range(start, min(first + len(array), start + _FORWARD_BATCH))])

        for number, batch in enumerate(ahead(images, ceil(len(array) / _FORWARD_BATCH))):
            if not go_on():
                return False
            # The last batch is filled up, so that one compiled graph serves all.
            padded = np.concatenate([batch, np.zeros((_FORWARD_BATCH - len(batch), *batch.shape[1:]), np.float32)])
            values = np.asarray(self._forward(padded))[: len(batch)]
            with np.errstate(over="ignore"):
                array[number * _FORWARD_BATCH :][: len(batch)] = values
        if not np.isfinite(array).all():
            raise RunError(
                f"The output of the frozen part of {self._scenario.network!r} is not finite or beyond {array.dtype}. "
                "Choose another layer in `learns`."
            )
        return True

    def _key(self, part: str, facts: Mapping[str, Any]) -> str:
        """SHA-256 over everything that decides the numbers, lower-case hexadecimal."""
        record = {
            "version": VERSION,
            "tensorflow": self._tensorflow,
            "network": self._scenario.network,
            "weights": self._frozen.digest,
            "layer": self._frozen.name,
            "dtype": self._frozen.dtype,
            "preprocessing": asdict(self._scenario.preprocessing),
            "data": self._sources.fingerprint,
            "part": part,
            **facts,
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def weights_digest(variables: Mapping[str, Any]) -> str:
    """SHA-256 over names and float32 values of variables, lower-case hexadecimal; the order does not matter."""
    digest = hashlib.sha256()
    for path in sorted(variables):
        digest.update(path.encode() + np.ascontiguousarray(variables[path], np.float32).tobytes())
    return digest.hexdigest()
