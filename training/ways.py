"""The three ways to train, by how much of the network learns.

Owns: for `learns: all`, `head` or a layer's name, what stays frozen, what the learning model is, and which feed it
gets. Refuses: the loop of epochs (see `lockstep`), and sharing (see `groups`).

Whatever is random about a run is drawn after its own seed was set, so that it does not matter which runs stand beside
it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference.networks import Network, build, build_head, cut, variables_by_path
from training.environment import has_gpu
from training.features import FrozenPart, weights_digest
from training.learner import Learner
from training.scenario import Scenario
from training.start import start

if TYPE_CHECKING:
    import keras

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Frozen:
    """What runs of a group have in common.

    Attributes:
        part: The prefix, as `features` takes it.
        weights: The weights that do not learn in any of the runs, by path.
    """

    part: FrozenPart
    weights: Weights


def seeded_network(scenario: Scenario, folders: Sequence[Path]) -> Network:
    """The scenario's network with the weights that it starts from; the same each time.

    Raises:
        NetworkError: The weights are missing or do not fit.
    """
    import keras

    keras.utils.set_random_seed(scenario.seed)
    network = build(scenario.network, None, scenario.class_names, scenario.head, drop_path=scenario.drop_path)
    start(network, scenario, folders)
    return network


def whole_learner(
    scenario: Scenario, folders: Sequence[Path], steps: int, mixed_precision: bool | None = None
) -> Learner:
    """`learns: all`: pictures in, everything learns.

    Args:
        scenario: The configuration.
        folders: Of weights.
        steps: Steps of an epoch.
        mixed_precision: Compute in float16; None: on a GPU, not on a processor, which is slower at it.
    """
    mixed = has_gpu() if mixed_precision is None else mixed_precision
    with _dtype("mixed_float16" if mixed else "float32"):
        network = seeded_network(scenario, folders)
    return Learner(scenario, network.model, network.variables(), steps, mixed)


def frozen_backbone(scenario: Scenario, folders: Sequence[Path]) -> Frozen:
    """`learns: head`: the backbone with the head's pooling behind it: images -> vectors float32 (n, c)."""
    import keras

    network = seeded_network(scenario, folders)
    pooled = network.head.get_layer("head_pool")(network.backbone.output)
    variables = variables_by_path(network.backbone)
    part = FrozenPart(keras.Model(network.backbone.input, pooled), "head", weights_digest(variables), "float32")
    return Frozen(part, {path: np.asarray(v).copy() for path, v in variables.items()})


def head_learner(scenario: Scenario, folders: Sequence[Path], steps: int, channels: int) -> Learner:
    """`learns: head`: pooled vectors (n, channels) in, the head without its pooling learns."""
    import keras

    if scenario.weights.startswith("sha256:"):
        head = seeded_network(scenario, folders).head  # it may start from a trained head
    else:
        keras.utils.set_random_seed(scenario.seed)
        head = build_head((None, None, channels), len(scenario.class_names), scenario.head)
    pooled = keras.Input((channels,), name="pooled")
    values: Any = pooled
    pool = head.get_layer("head_pool")
    for layer in head.layers[head.layers.index(pool) + 1 :]:
        values = layer(values)
    model = keras.Model(pooled, values)
    return Learner(scenario, model, variables_by_path(model), steps)


def frozen_prefix(scenario: Scenario, folders: Sequence[Path], dtype: str = "float16") -> Frozen:
    """`learns: LAYER`: the backbone before that layer: images -> maps (n, h, w, c).

    Raises:
        NetworkError: There is no such layer, or no clean cut before it.
    """
    network = seeded_network(scenario, folders)
    prefix, _ = cut(network, scenario.learns)
    variables = _of_model(network, prefix)
    part = FrozenPart(prefix, scenario.learns, weights_digest(variables), dtype)
    return Frozen(part, {path: np.asarray(v).copy() for path, v in variables.items()})


def suffix_learner(scenario: Scenario, folders: Sequence[Path], steps: int) -> Learner:
    """`learns: LAYER`: maps in, the layers from there on and the head learn, normalisations in training mode."""
    import keras

    network = seeded_network(scenario, folders)
    _, suffix = cut(network, scenario.learns)
    maps = keras.Input(suffix.input_shape[1:], name="maps")
    model = keras.Model(maps, network.head(suffix(maps)))
    return Learner(scenario, model, _of_model(network, model), steps)


def _of_model(network: Network, model: "keras.Model") -> dict[str, Any]:
    """The variables of a part of a network under the paths that they have in the whole."""
    inside = {id(variable) for variable in model.variables}
    return {path: variable for path, variable in network.variables().items() if id(variable) in inside}


@contextmanager
def _dtype(policy: str) -> Iterator[None]:
    """Layers made inside compute in this type."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
