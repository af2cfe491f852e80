"""Names, input scalings and construction of networks.

Owns: which backbones exist, how the grey input in [0, 1] is scaled for each, and how a backbone and a head are put
together. Refuses: loading weights (see `pretrained`), anything about data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from inference.networks.paths import variables_by_path

if TYPE_CHECKING:
    import keras


class NetworkError(ValueError):
    """A network cannot be built as asked. The message says what was received and what is possible."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The head: GlobalAveragePooling2D, BatchNormalization, Dense(units, relu), Dropout, Dense.

    Attributes:
        units: Width of the hidden layer, >= 1.
        dropout: Rate during training, 0 <= rate < 1.
        activation: `softmax` has one score a class; `sigmoid` has one score, that of the second of two classes.
    """

    units: int = 256
    dropout: float = 0.3
    activation: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            NetworkError: A value is out of range.
        """
        if self.units < 1 or not 0 <= self.dropout < 1 or self.activation not in ("softmax", "sigmoid"):
            raise NetworkError(
                f"A head needs units >= 1, 0 <= dropout < 1 and activation softmax or sigmoid; received {self}."
            )


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One entry of the registry.

    Attributes:
        name: Name in scenarios and artefacts.
        scale: Per channel factor that takes [0, 1] to what the ImageNet weights were trained with: x * scale + offset.
        offset: Per channel offset.
        imagenet_file: File name of the weights in a folder of weights.
        last_convolution: Keras path of the layer whose output Grad-CAM explains, for documentation and errors.
        make: Builds the Keras backbone from the scaled three-channel tensor and returns its last feature maps.
    """

    name: str
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    imagenet_file: str
    last_convolution: str
    make: Callable[[Any, float], Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A built network.

    Attributes:
        name: Name in the registry.
        input_size: Side S of the input, or None when the network was built for any size (training only).
        class_names: In the order of the scores.
        head_spec: As asked for.
        backbone: Keras model: images (n, S, S, 1) float32 in [0, 1] -> feature maps (n, gh, gw, c) after the
            activation of the last convolution.
        head: Keras model: feature maps -> scores (n, k); k = 1 for a sigmoid head.
        model: Keras model: images -> scores; shares all layers with `backbone` and `head`.
    """

    name: str
    input_size: int | None
    class_names: tuple[str, ...]
    head_spec: HeadSpec
    backbone: "keras.Model"
    head: "keras.Model"
    model: "keras.Model"

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """All variables (trained and moving statistics) by Keras path, float32."""
        return {path: np.asarray(variable) for path, variable in self.variables().items()}

    def set_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Assign every variable by its Keras path.

        Args:
            weights: Exactly the paths of `weights()`, with their shapes; any float type.

        Raises:
            NetworkError: Paths or shapes differ; nothing was assigned then.
        """
        variables = self.variables()
        missing, unknown = sorted(set(variables) - set(weights)), sorted(set(weights) - set(variables))
        if missing or unknown:
            raise NetworkError(
                f"The weights do not fit network {self.name!r}: {len(missing)} missing (first: {missing[:3]}), "
                f"{len(unknown)} unknown (first: {unknown[:3]}). They belong to another network or version."
            )
        for path, variable in variables.items():
            if tuple(variable.shape) != weights[path].shape:
                raise NetworkError(
                    f"{path} has shape {weights[path].shape}; network {self.name!r} expects {tuple(variable.shape)}."
                )
        for path, variable in variables.items():
            variable.assign(np.asarray(weights[path], np.float32))

    def variables(self) -> dict[str, Any]:
        """The Keras variables of the whole model by path (see `paths.variables_by_path`)."""
        return variables_by_path(self.model)


def names() -> tuple[str, ...]:
    """The names of all backbones, sorted."""
    return tuple(sorted(_registry()))


def backbone_spec(name: str) -> BackboneSpec:
    """The entry of one backbone.

    Raises:
        NetworkError: There is none of this name.
    """
    registry = _registry()
    if name not in registry:
        raise NetworkError(f"There is no network {name!r}; the registry has {', '.join(sorted(registry))}.")
    return registry[name]


def build(
    name: str,
    input_size: int | None,
    class_names: tuple[str, ...],
    head: HeadSpec | None = None,
    *,
    drop_path: float = 0.0,
) -> Network:
    """Build a network with random weights.

    Args:
        name: Name in the registry.
        input_size: Side S of the square input, 32 to 1024; None for any size (only for training: an exported graph
            needs a fixed grid).
        class_names: In the order of the scores; at least two, exactly two for a sigmoid head.
        head: The head; defaults to `HeadSpec()`.
        drop_path: Rate of the last block's stochastic depth while training, where the backbone has residual blocks
            of its own making; others ignore it.

    Raises:
        NetworkError: Unknown name, or sizes and classes that do not go together.
    """
    import keras

    spec = backbone_spec(name)
    head = head or HeadSpec()
    if input_size is not None and not 32 <= input_size <= 1024:
        raise NetworkError(f"The input size must be 32 to 1024 pixels; received {input_size}.")
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise NetworkError(f"A network needs two or more different class names; received {class_names}.")
    if head.activation == "sigmoid" and len(class_names) != 2:
        raise NetworkError(f"A sigmoid head tells two classes apart; received {len(class_names)}: {class_names}.")

    images = keras.Input((input_size, input_size, 1), name="images")
    # The kernels are those of colour pictures: grey stands in all three channels.
    colour = keras.layers.Concatenate(name="grey_to_rgb")([images, images, images])
    scaled = keras.layers.Rescaling(list(spec.scale), list(spec.offset), name="imagenet_scaling")(colour)
    maps = spec.make(scaled, drop_path)
    backbone = keras.Model(images, maps, name="backbone")
    head_model = build_head(tuple(maps.shape[1:]), len(class_names), head)
    model = keras.Model(images, head_model(maps), name=name)
    return Network(name, input_size, tuple(class_names), head, backbone, head_model, model)


def build_head(shape: tuple[int | None, ...], classes: int, spec: HeadSpec) -> "keras.Model":
    """Build a head alone, with random weights.

    Args:
        shape: Of the feature maps, (gh, gw, c).
        classes: Number of classes; the head has one score each, or one alone with `activation: sigmoid`.
        spec: The head.
    """
    import keras

    maps = keras.Input(shape, name="maps")
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool")(maps)
    normal = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name="head_bn")(pooled)
    hidden = keras.layers.Dense(spec.units, activation="relu", name="head_hidden")(normal)
    dropped = keras.layers.Dropout(spec.dropout, name="head_dropout")(hidden)
    scores = keras.layers.Dense(1 if spec.activation == "sigmoid" else classes, name="head_scores")(dropped)
    return keras.Model(maps, scores, name="head")


UNIT: Final = "_unit"
"""Ends the name of a network whose input is not scaled."""

_HALF: Final = (2.0, 2.0, 2.0)
_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)


def _registry() -> Mapping[str, BackboneSpec]:
    from inference.networks import applications, efficientnet_lite, tiny

    imagenet_scale = (1 / _DEVIATION[0], 1 / _DEVIATION[1], 1 / _DEVIATION[2])
    imagenet_offset = (-_MEAN[0] / _DEVIATION[0], -_MEAN[1] / _DEVIATION[1], -_MEAN[2] / _DEVIATION[2])
    entries = (
        BackboneSpec(
            "efficientnet_lite0",
            *efficientnet_lite.SCALING,
            "efficientnet_lite0_imagenet.npz",
            "head_conv",
            efficientnet_lite.backbone,
        ),
        BackboneSpec(
            "xception",
            _HALF,
            (-1.0, -1.0, -1.0),
            "xception_imagenet_notop.npz",
            "block14_sepconv2",
            applications.xception,
        ),
        BackboneSpec(
            "densenet121",
            imagenet_scale,
            imagenet_offset,
            "densenet121_imagenet_notop.npz",
            "conv5_block16_concat",
            applications.densenet121,
        ),
        # VGG was trained on blue, green, red with the mean taken off and no division.
        BackboneSpec(
            "vgg19",
            (255.0, 255.0, 255.0),
            (-103.939, -116.779, -123.68),
            "vgg19_imagenet_notop.npz",
            "block5_conv4",
            applications.vgg19,
        ),
        BackboneSpec(
            "mobilenet_v3",
            _HALF,
            (-1.0, -1.0, -1.0),
            "mobilenet_v3_imagenet_notop.npz",
            "conv_1",
            applications.mobilenet_v3,
        ),
        BackboneSpec("tiny", _HALF, (-1.0, -1.0, -1.0), "tiny_has_no_imagenet_weights.npz", "conv2", tiny.backbone),
    )
    # The same networks for weights that were trained on inputs in [0, 1], whatever ImageNet's scaling is.
    plain = tuple(
        replace(entry, name=f"{entry.name}{UNIT}", scale=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0))
        for entry in entries
        if entry.make.__module__ == applications.__name__
    )
    return MappingProxyType({entry.name: entry for entry in (*entries, *plain)})
