"""A trained network's scores and heatmaps of slices that are prepared exactly as in use.

Owns: the forward pass over files of a data set, in bounded memory. Refuses: metrics, and to see labels.

Runs of one sweep often share a frozen backbone and a split, and the forward pass of the backbone is nearly all the
work. The pooled features of the last few parts are therefore kept in the process, under a digest of the backbone's
weights, the preprocessing and the files' names and sizes.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Prepared, Preprocessing, prepare
from inference.networks import Network, build
from training.datasets import Dataset, Sample, read_each
from training.scenario import Scenario

Float32 = npt.NDArray[np.float32]

_BATCH: Final = 32
_KEPT: Final = 6
_features: OrderedDict[str, Float32] = OrderedDict()


class Scorer:
    """A network with the weights of a run.

    Args:
        scenario: The run's configuration.
        weights: Variables by Keras path, as `Network.weights` gives them.

    Raises:
        NetworkError: The weights do not fit the scenario's network.
    """

    def __init__(self, scenario: Scenario, weights: dict[str, npt.NDArray[Any]]) -> None:
        self._preprocessing = scenario.preprocessing
        self.network: Network = build(
            scenario.network, scenario.preprocessing.size, scenario.class_names, scenario.head
        )
        self.network.set_weights(weights)
        head = {variable.path for variable in self.network.head.variables}
        digest = hashlib.sha256(json.dumps([scenario.network, self._preprocessing.to_json()], sort_keys=True).encode())
        digest.update(weights_digest({path: value for path, value in weights.items() if path not in head}).encode())
        self._backbone = digest.hexdigest()

    def scores(self, dataset: Dataset, samples: Sequence[Sample]) -> Float32:
        """Scores before softmax or sigmoid.

        Args:
            dataset: Where the files lie.
            samples: At least one.

        Returns:
            float32 (n, k); k = 1 for a sigmoid head.

        Raises:
            DatasetError: Pictures cannot be read.
        """
        import keras

        pooled = self._pooled(dataset, samples)
        rest = keras.Model(self.network.head.get_layer("head_pool").output, self.network.head.output)
        return np.asarray(rest(pooled, training=False), np.float32)

    def heatmaps(self, dataset: Dataset, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Prepared, Float32]]:
        """Each slice as the network sees it, and the heatmap of its prediction.

        Yields:
            The sample; its prepared picture and crop; the heatmap float32 (gh, gw) in [0, 1].
        """
        import tensorflow as tf

        from inference.gradcam import explained_model

        model = explained_model(self.network)
        run = tf.function(lambda images: model(images, training=False)["heatmaps"])
        for block, prepared in prepared_blocks(self._preprocessing, dataset, samples):
            found = np.asarray(run(np.stack([p.image for p in prepared])[..., None]))
            yield from zip(block, prepared, found, strict=True)

    def _pooled(self, dataset: Dataset, samples: Sequence[Sample]) -> Float32:
        """Means of the feature maps, float32 (n, c)."""
        import tensorflow as tf

        files = [(s.file, (dataset.root / s.file).stat().st_size) for s in samples]
        key = hashlib.sha256(json.dumps([self._backbone, str(dataset.root.resolve()), files]).encode()).hexdigest()
        if key not in _features:
            run = tf.function(
                lambda images: tf.reduce_mean(self.network.backbone(images, training=False), axis=(1, 2)),
                input_signature=[tf.TensorSpec((None, *self.network.backbone.input_shape[1:]), tf.float32)],
            )
            _features[key] = np.concatenate(
                [
                    np.asarray(run(np.stack([p.image for p in prepared])[..., None]))
                    for _, prepared in prepared_blocks(self._preprocessing, dataset, samples)
                ]
            )
            while len(_features) > _KEPT:
                _features.popitem(last=False)
        _features.move_to_end(key)
        return _features[key]


def prepared_blocks(
    preprocessing: Preprocessing, dataset: Dataset, samples: Sequence[Sample]
) -> Iterator[tuple[Sequence[Sample], list[Prepared]]]:
    """Pictures prepared as in use, in blocks of a batch.

    Yields:
        The samples of a block, and each one's prepared picture and crop.

    Raises:
        DatasetError: At the end, naming every picture that cannot be read.
    """
    pictures = read_each(dataset, samples)
    for start in range(0, len(samples), _BATCH):
        block = samples[start : start + _BATCH]
        yield block, [prepare(next(pictures).astype(np.float32) / 255, preprocessing) for _ in block]
    next(pictures, None)  # to its end, where it tells of broken pictures


def smooth_pictures(size: int, count: int = 8) -> Float32:
    """Smooth random pictures float32 (n, size, size, 1) in [0, 1], on which engines are compared without any data."""
    coarse = np.random.default_rng(0).random((count, 6, 6)).astype(np.float32)
    return np.stack([cv2.resize(found, (size, size), interpolation=cv2.INTER_LINEAR) for found in coarse])[..., None]


def weights_digest(weights: dict[str, npt.NDArray[Any]]) -> str:
    """SHA-256 over names and values (float32) of weights, lower-case hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + np.ascontiguousarray(weights[name], np.float32).tobytes())
    return digest.hexdigest()
