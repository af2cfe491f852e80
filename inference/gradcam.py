"""Grad-CAM in closed form, as part of the forward graph.

Owns: the layer that turns the feature maps of a backbone into scores, probabilities, pooled features and a heatmap,
and the model that joins it to the backbone. Refuses: to train, to load or to save anything, to colour or enlarge a
heatmap.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
ICCV 2017, equations 1 and 2:

    (1)  alpha_c^k = 1/Z * sum_ij d s_k / d A_c(i, j)        (2)  L^k = ReLU( sum_c alpha_c^k * A_c )

with A_c(i, j) the c-th map of the last convolution at cell (i, j) of a grid of Z = h * w cells, and s_k the score of
class k before softmax or sigmoid.

The paper takes the gradient by back-propagation. Our head is small enough to write it down. With mu, var, gamma,
beta, eps of the batch normalisation in inference mode:

    g_c = 1/Z * sum_ij A_c(i, j)                             global average pooling
    n_c = gamma_c * (g_c - mu_c) / sqrt(var_c + eps) + beta_c
    z_u = sum_c W1[c, u] * n_c + b1_u,   r_u = max(z_u, 0)   dense layer with ReLU (dropout is the identity here)
    s_k = sum_u W2[u, k] * r_u + b2_k                        scores

Every A_c(i, j) reaches s_k through g_c alone, with d g_c / d A_c(i, j) = 1/Z at each cell. Therefore

    d s_k / d g_c = gamma_c / sqrt(var_c + eps) * sum_u W1[c, u] * [z_u > 0] * W2[u, k]
    alpha_c^k     = 1/Z * Z * (1/Z) * d s_k / d g_c = (d s_k / d g_c) / Z

and the heatmap is one matrix product more than the forward pass. Only comparison, product and sum are used: OpenVINO
has no rule for TensorFlow's ReluGrad operation, so a graph with a real gradient in it could not be converted.

Which class is explained: with a softmax head the predicted one. With a single sigmoid unit s is the score of the
second class and -s that of the first, so the gradient takes the sign of the predicted side. At s = 0 exactly (both
probabilities 0.5) the first class is taken, as argmax does for ties.
"""

from typing import TYPE_CHECKING, Any, Final

import keras
from keras import ops

if TYPE_CHECKING:
    from inference.networks import Network

OUTPUT_NAMES: Final = ("scores", "probabilities", "heatmaps", "features")


class ExplainedHead(keras.layers.Layer):  # type: ignore[misc]  # Keras has no type information
    """A classification head that also says where it looked.

    Holds no variables of its own: it reads those of the head's layers, so that a network and its explained twin can
    never differ.

    Args:
        normalisation: Batch normalisation of the pooled features (c).
        hidden: Dense layer with ReLU, (c) -> (u).
        scores: Dense layer without activation, (u) -> (k); k = 1 means a sigmoid head of two classes.
        temperature: Divides the scores before softmax or sigmoid; > 0.

    Raises:
        ValueError: If the layers are not of the kind that the derivation is made for, or the temperature is not > 0.
    """

    def __init__(
        self,
        normalisation: keras.layers.BatchNormalization,
        hidden: keras.layers.Dense,
        scores: keras.layers.Dense,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(normalisation, hidden, scores, temperature)
        self.normalisation = normalisation
        self.hidden = hidden
        self.scores = scores
        self.temperature = float(temperature)

    def call(self, maps: Any) -> dict[str, Any]:
        """Scores and explains a batch.

        Args:
            maps: Feature maps (n, h, w, c), float32.

        Returns:
            `scores` (n, k) before softmax or sigmoid; `probabilities` (n, K) that add up to 1, after the temperature;
            `heatmaps` (n, h, w) in [0, 1], each divided by its own maximum, all zero where nothing speaks for the
            class; `features` (n, c), the pooled maps. All float32.
        """
        height, width, channels = maps.shape[1:]
        cells = height * width
        features = ops.mean(maps, axis=(1, 2))
        hidden = self.hidden(self.normalisation(features, training=False))
        scores = self.scores(hidden)

        if self.scores.units == 1:
            second = ops.sigmoid(scores / self.temperature)
            probabilities = ops.concatenate([1.0 - second, second], axis=1)
            side = ops.where(scores > 0, 1.0, -1.0)  # (n, 1)
            towards = side * ops.reshape(self.scores.kernel, (1, -1))
        else:
            probabilities = ops.softmax(scores / self.temperature, axis=1)
            towards = ops.matmul(_first_largest(scores), ops.transpose(self.scores.kernel))  # W2[:, k] of each row

        # z > 0 exactly where ReLU(z) > 0.
        through = ops.cast(hidden > 0, "float32") * towards
        slope = ops.matmul(through, ops.transpose(self.hidden.kernel)) * _scale(self.normalisation)  # ds/dg, (n, c)
        alpha = slope / cells

        weighted = ops.matmul(ops.reshape(maps, (-1, cells, channels)), ops.expand_dims(alpha, -1))
        raw = ops.relu(ops.reshape(weighted, (-1, height, width)))
        peak = ops.max(raw, axis=(1, 2), keepdims=True)
        # An engine may divide by a rounded reciprocal, which can end a hair above 1.
        heatmaps = ops.minimum(raw / ops.where(peak > 0, peak, 1.0), 1.0)
        return {"scores": scores, "probabilities": probabilities, "heatmaps": heatmaps, "features": features}

    def compute_output_shape(self, maps_shape: tuple[int | None, ...]) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the four outputs for feature maps of `maps_shape`."""
        rows, height, width, channels = maps_shape
        return {
            "scores": (rows, self.scores.units),
            "probabilities": (rows, max(2, self.scores.units)),
            "heatmaps": (rows, height, width),
            "features": (rows, channels),
        }


def explained_model(network: "Network", temperature: float = 1.0) -> keras.Model:
    """Joins a network's backbone with an explained head: one graph for score and heatmap.

    Args:
        network: A built network; its weights are shared with the result, not copied.
        temperature: Of the calibration; > 0.

    Returns:
        A Keras model from images (n, S, S, 1) float32 in [0, 1] to a dict with the keys `OUTPUT_NAMES`.

    Raises:
        ValueError: If the head is not GAP -> BN -> Dense(relu) -> Dropout -> Dense(linear).
    """
    normalisation, hidden, scores = head_layers(network.head)
    head = ExplainedHead(normalisation, hidden, scores, temperature, name="explained_head")
    return keras.Model(network.backbone.inputs[0], head(network.backbone.outputs[0]), name="explained")


def head_layers(
    head: keras.Model,
) -> tuple[keras.layers.BatchNormalization, keras.layers.Dense, keras.layers.Dense]:
    """The three layers of a head that hold weights, in order.

    Raises:
        ValueError: If the head's layers are not GAP -> BN -> Dense -> Dropout -> Dense; names what was found.
    """
    found = [layer for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)]
    expected = (
        keras.layers.GlobalAveragePooling2D,
        keras.layers.BatchNormalization,
        keras.layers.Dense,
        keras.layers.Dropout,
        keras.layers.Dense,
    )
    if len(found) != len(expected) or not all(map(isinstance, found, expected)):
        raise ValueError(
            "Grad-CAM in closed form is derived for a head of "
            + " -> ".join(kind.__name__ for kind in expected)
            + "; received "
            + (" -> ".join(type(layer).__name__ for layer in found) or "no layers")
            + ". Build the head with inference.networks, or extend the derivation in inference/gradcam.py."
        )
    return found[1], found[2], found[4]


def _first_largest(scores: Any) -> Any:
    """One-hot (n, k) of the largest score, the first one among equals; argmax has no rule in OpenVINO's converter."""
    largest = ops.cast(scores >= ops.max(scores, axis=1, keepdims=True), "float32")
    return largest * ops.cast(ops.cumsum(largest, axis=1) < 1.5, "float32")


def _scale(normalisation: keras.layers.BatchNormalization) -> Any:
    """gamma / sqrt(var + eps), (c)."""
    root = ops.sqrt(normalisation.moving_variance + normalisation.epsilon)
    return (normalisation.gamma if normalisation.scale else 1.0) / root


def _check(
    normalisation: keras.layers.BatchNormalization,
    hidden: keras.layers.Dense,
    scores: keras.layers.Dense,
    temperature: float,
) -> None:
    if hidden.activation is not keras.activations.relu:
        raise ValueError(f"the hidden layer must have ReLU; received {hidden.activation!r}")
    if scores.activation is not keras.activations.linear:
        raise ValueError(
            f"the last layer must be linear, because scores are taken before softmax; received {scores.activation!r}"
        )
    if normalisation.axis not in (-1, 1):
        raise ValueError(f"the batch normalisation must act on the channels (axis -1); received {normalisation.axis!r}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be > 0; received {temperature!r}")
