"""Backbones that Keras itself defines: Xception, DenseNet-121 and VGG-19, the three of the thesis, and MobileNetV3.

Owns: how each is attached to the scaled input and where it ends. Refuses: heads, weights (`weights=None` always: they
come from a folder, never from the network, see `pretrained`).
"""

from typing import Any


def xception(images: Any, drop_path: float) -> Any:
    """Xception up to the activation after `block14_sepconv2`: (n, S, S, 3) -> (n, S/32, S/32, 2048)."""
    import keras

    model = keras.applications.Xception(include_top=False, weights=None, input_tensor=images)
    return model.output


def densenet121(images: Any, drop_path: float) -> Any:
    """DenseNet-121 up to the last normalisation and ReLU: (n, S, S, 3) -> (n, S/32, S/32, 1024)."""
    import keras

    model = keras.applications.DenseNet121(include_top=False, weights=None, input_tensor=images)
    return model.output


def vgg19(images: Any, drop_path: float) -> Any:
    """VGG-19 up to the activation of `block5_conv4`, before the last pooling: (n, S, S, 3) -> (n, S/16, S/16, 512)."""
    import keras

    model = keras.applications.VGG19(include_top=False, weights=None, input_tensor=images)
    return model.get_layer("block5_conv4").output


def mobilenet_v3(images: Any, drop_path: float) -> Any:
    """MobileNetV3-Large up to the activation of `conv_1`: (n, S, S, 3) -> (n, S/32, S/32, 960), after hard swish.

    Its own top (a second pointwise convolution behind the pooling) is left out: the closed form of Grad-CAM wants the
    pooling last.
    """
    import keras

    model = keras.applications.MobileNetV3Large(
        include_top=False, weights=None, include_preprocessing=False, input_tensor=images
    )
    return model.output
