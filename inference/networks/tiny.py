"""A network of three small convolutions.

Owns: its architecture. For tests and for trying out the whole way in seconds; far too small to learn anything about
tumours, so no model for people is made with it.
"""

from typing import Any


def backbone(images: Any, drop_path: float) -> Any:
    """Feature maps of scaled images: (n, S, S, 3) -> (n, S/8, S/8, 16), after ReLU."""
    import keras

    layers = keras.layers
    x = images
    for number, channels in enumerate((8, 12, 16)):
        x = layers.Conv2D(channels, 3, 2, "same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return x
