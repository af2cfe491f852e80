"""EfficientNet-Lite0 as a Keras functional graph.

Owns: the architecture. Refuses: heads and weights.

Sources: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1
(stages, widths, depths); the Lite variant of the TensorFlow TPU repository: no squeeze-and-excitation, ReLU6 in place
of swish, stem and head not scaled. Stochastic depth: Huang et al., ECCV 2016, with the rate rising linearly.
"""

from typing import Any, Final, NamedTuple


class Stage(NamedTuple):
    """Inverted residual blocks of one width: how many, kernel side, stride of the first, expansion, output channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS: Final = 32
HEAD_CHANNELS: Final = 1280
SCALING: Final = (
    (255 / 128, 255 / 128, 255 / 128),
    (-127 / 128, -127 / 128, -127 / 128),
)
"""Takes [0, 1] to (x - 127) / 128 of the 8-bit level x."""

_EPSILON: Final = 1e-3


def backbone(images: Any, drop_path: float) -> Any:
    """Feature maps of scaled images.

    Args:
        images: Keras tensor (n, S, S, 3).
        drop_path: Rate of the last block's stochastic depth in training, 0 <= rate < 1.

    Returns:
        Keras tensor (n, S/32, S/32, 1280), after ReLU6.
    """
    import keras

    layers = keras.layers

    def normal(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=_EPSILON, momentum=0.99, name=name)(x)

    def convolution(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
        return layers.Conv2D(
            channels, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name
        )(x)

    def act(x: Any, name: str) -> Any:
        return layers.ReLU(6.0, name=name)(x)

    x = act(normal(convolution(images, STEM_CHANNELS, 3, 2, "stem_conv"), "stem_bn"), "stem_relu")
    total = sum(stage.repeats for stage in STAGES)
    index, channels = 0, STEM_CHANNELS
    for stage in STAGES:
        for repeat in range(stage.repeats):
            prefix = f"block{index}"
            stride = stage.stride if repeat == 0 else 1
            shortcut = x
            if stage.expansion != 1:
                x = convolution(x, channels * stage.expansion, 1, 1, f"{prefix}_expand_conv")
                x = act(normal(x, f"{prefix}_expand_bn"), f"{prefix}_expand_relu")
            x = layers.DepthwiseConv2D(
                stage.kernel,
                stride,
                "same",
                use_bias=False,
                depthwise_initializer="he_normal",
                name=f"{prefix}_depthwise_conv",
            )(x)
            x = act(normal(x, f"{prefix}_depthwise_bn"), f"{prefix}_depthwise_relu")
            x = normal(convolution(x, stage.channels, 1, 1, f"{prefix}_project_conv"), f"{prefix}_project_bn")
            if stride == 1 and channels == stage.channels:
                rate = drop_path * index / total
                if rate > 0:
                    x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{prefix}_drop_path")(x)
                x = layers.Add(name=f"{prefix}_add")([shortcut, x])
            channels = stage.channels
            index += 1
    return act(normal(convolution(x, HEAD_CHANNELS, 1, 1, "head_conv"), "head_conv_bn"), "head_conv_relu")


def keras_path(port_key: str) -> str | None:
    """The Keras variable path of one key of the PyTorch port's state.

    Args:
        port_key: For example `_blocks.3._depthwise_conv.weight`.

    Returns:
        The path, or None for what the backbone does not have: the ImageNet classifier, batch counters.
    """
    parts = port_key.split(".")
    if parts[0] == "_fc" or parts[-1] == "num_batches_tracked":
        return None
    if parts[0] == "_blocks":
        prefix = f"block{parts[1]}_"
        layer = {
            "_expand_conv": "expand_conv",
            "_bn0": "expand_bn",
            "_depthwise_conv": "depthwise_conv",
            "_bn1": "depthwise_bn",
            "_project_conv": "project_conv",
            "_bn2": "project_bn",
        }[parts[2]]
    else:
        prefix = ""
        layer = {
            "_conv_stem": "stem_conv",
            "_bn0": "stem_bn",
            "_conv_head": "head_conv",
            "_bn1": "head_conv_bn",
        }[parts[0]]
    if layer.endswith("_bn"):
        kind = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}[
            parts[-1]
        ]
    else:
        kind = "kernel"
    return f"{prefix}{layer}/{kind}"
