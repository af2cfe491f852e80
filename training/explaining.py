"""Feature maps and gradients of a network, for explanations that are compared and not served.

Owns: finding a network's last layer at each grid size, back-propagating the explained class's score to them, and
replacing weights by random ones from the output downwards. Needs TensorFlow. Refuses: to turn maps into heatmaps
(`inference.cam`), to judge them (`training.faithfulness`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.artefact import Artefact
from inference.networks import Network, build

Float32 = npt.NDArray[np.float32]

GRIDS: Final = (1, 2, 4)
"""The grid of the last convolution, and grids twice and four times as fine, where the network has such layers."""
_SEED: Final = 2026


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """A batch of n slices.

    Attributes:
        scores: float32 (n, k).
        maps: Rows of the grid -> float32 (n, h, w, c).
        gradients: Rows of the grid -> float32 (n, h, w, c): of the predicted class's score (of a sigmoid head, of the
            predicted side's).
    """

    scores: Float32
    maps: dict[int, Float32]
    gradients: dict[int, Float32]


class Explainer:
    """A network that shows its maps and gradients.

    Args:
        network: With its weights.
        finest: How many times as fine as the last convolution's the finest grid may be.
    """

    def __init__(self, network: Network, finest: int = GRIDS[-1]) -> None:
        import keras
        import tensorflow as tf

        last = network.backbone.output_shape[1]
        grids = [last * times for times in GRIDS if times <= finest]
        layers: dict[int, Any] = {}
        for layer in network.backbone.layers:
            shape: tuple[Any, ...] = tuple(getattr(layer.output, "shape", ()))
            if len(shape) == 4 and shape[1] in grids:
                layers[shape[1]] = layer.output
        self._rows = tuple(layers)
        model = keras.Model(network.backbone.inputs[0], [*layers.values(), network.head(network.backbone.outputs[0])])

        def run(images: Any) -> Any:
            with tf.GradientTape() as tape:
                *maps, scores = model(images, training=False)
                if scores.shape[1] == 1:
                    explained = tf.reduce_sum(tf.abs(scores))  # slope of |s|: that of s on its own side
                else:
                    explained = tf.reduce_sum(tf.reduce_max(scores, axis=1))
            return maps, tape.gradient(explained, maps), scores

        self._run = tf.function(run, reduce_retracing=True)

    def explain(self, images: Float32) -> Explained:
        """Maps and gradients of prepared slices (n, S, S, 1)."""
        maps, gradients, scores = self._run(images)
        return Explained(
            np.asarray(scores),
            {rows: np.asarray(found) for rows, found in zip(self._rows, maps, strict=True)},
            {rows: np.asarray(found) for rows, found in zip(self._rows, gradients, strict=True)},
        )


def network_of(artefact: Artefact) -> Network:
    """The network of an artefact, with its weights."""
    facts = artefact.manifest.network
    network = build(facts.name, facts.input_size, artefact.manifest.class_names, facts.head)
    network.set_weights(artefact.weights())
    return network


def randomised(artefact: Artefact, prefixes: Sequence[str]) -> Network:
    """The network with the kernels of some layers replaced by random ones of the same spread.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: a heatmap that stays the same when the
    weights are made random does not explain what was learnt.

    Args:
        artefact: The model.
        prefixes: Variable paths that begin with one of these are replaced; an empty one replaces every kernel.
    """
    rng = np.random.default_rng(_SEED)
    network = network_of(artefact)
    weights = network.weights()
    for path in sorted(weights):
        if path.endswith("kernel") and path.startswith(tuple(prefixes)):
            values = weights[path]
            weights[path] = rng.normal(values.mean(), values.std(), values.shape).astype(np.float32)
    network.set_weights(weights)
    return network
