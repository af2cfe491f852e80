"""Grad-CAM in closed form: against numbers worked out by hand, and against TensorFlow's own gradient."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from inference.gradcam import ExplainedHead, explained_model  # noqa: E402
from inference.networks import HeadSpec, build  # noqa: E402
from tests.tiny_artefact import build_tiny_network, phantoms, randomise  # noqa: E402

pytestmark = pytest.mark.tensorflow

# The toy: a grid of 2 x 2 cells, two channels, three hidden units.
#   A_1 = [[1, 0], [2, 1]], A_2 = [[2, 2], [0, 0]]   both with mean g = 1
#   channel 1: mu 0, var 4, gamma 2, beta 0    -> n_1 = 2 * (1 - 0) / 2 + 0   = 1,    gamma / sqrt(var) = 1
#   channel 2: mu 1, var 1, gamma 3, beta 0.5  -> n_2 = 3 * (1 - 1) / 1 + 0.5 = 0.5,  gamma / sqrt(var) = 3
#   z_1 = 1 * 1 + 2 * 0.5 = 2;   z_2 = -1 * 1 + 1 * 0.5 = -0.5, so that unit is shut;   z_3 = 2 * 1 - 1 * 0.5 = 1.5
MAPS = np.array([[[1, 2], [0, 2]], [[2, 0], [1, 0]]], np.float32)[np.newaxis]  # (1, 2, 2, 2), channels last
W1 = np.array([[1, -1, 2], [2, 1, -1]], np.float32)


def toy_head(w2: list[list[float]], b2: list[float]) -> tuple[Any, Any, Any]:
    """Normalisation, hidden layer and scores with the numbers above."""
    normalisation = keras.layers.BatchNormalization(epsilon=0.0)
    hidden = keras.layers.Dense(3, activation="relu")
    scores = keras.layers.Dense(len(b2))
    scores(hidden(normalisation(np.zeros((1, 2), np.float32))))
    normalisation.set_weights([np.array(v, np.float32) for v in ([2, 3], [0, 0.5], [0, 1], [4, 1])])
    hidden.set_weights([W1, np.zeros(3, np.float32)])
    scores.set_weights([np.array(w2, np.float32), np.array(b2, np.float32)])
    return normalisation, hidden, scores


def test_softmax_toy_worked_out_by_hand() -> None:
    # s_1 = 2 * 1 + 1.5 * (-1) = 0.5;  s_2 = 1.5 * 2 = 3: the second class. Shut unit 2 must not count, whatever its 5.
    # d s_2 / d n = (2 * 2, -1 * 2) = (4, -2);  d s_2 / d g = (4 * 1, -2 * 3) = (4, -6);  alpha = that / 4 = (1, -1.5)
    # sum_c alpha_c A_c = [[1 - 3, 0 - 3], [2, 1]] -> ReLU [[0, 0], [2, 1]] -> / 2 = [[0, 0], [1, 0.5]]
    output = ExplainedHead(*toy_head([[1, 0], [5, 5], [-1, 2]], [0, 0]))(MAPS)

    assert np.asarray(output["features"]).tolist() == [[1, 1]]
    assert np.asarray(output["scores"]).tolist() == [[0.5, 3]]
    assert np.asarray(output["heatmaps"]).tolist() == [[[0, 0], [1, 0.5]]]
    odds = np.exp(0.5 - 3)
    np.testing.assert_allclose(output["probabilities"], [[odds / (1 + odds), 1 / (1 + odds)]], rtol=1e-6)


@pytest.mark.parametrize(
    ("bias", "score", "heatmap"),
    [
        # s = 2 * 1 + 1.5 * (-1) = 0.5 > 0: the second class.
        # d s / d n = (1 - 2, 2 + 1) = (-1, 3);  d s / d g = (-1, 9);  alpha = (-0.25, 2.25)
        # sum = [[-0.25 + 4.5, 4.5], [-0.5, -0.25]] -> [[4.25, 4.5], [0, 0]] -> / 4.5
        (0.0, 0.5, [[4.25 / 4.5, 1], [0, 0]]),
        # One less: s = -0.5, the first class, for which -s speaks: alpha = (0.25, -2.25)
        # sum = [[0.25 - 4.5, -4.5], [0.5, 0.25]] -> [[0, 0], [0.5, 0.25]] -> / 0.5
        (-1.0, -0.5, [[0, 0], [1, 0.5]]),
        # Exactly between: the first class.
        (-0.5, 0.0, [[0, 0], [1, 0.5]]),
    ],
)
def test_sigmoid_toy_explains_the_predicted_side(bias: float, score: float, heatmap: list[list[float]]) -> None:
    output = ExplainedHead(*toy_head([[1], [5], [-1]], [bias]), temperature=2.0)(MAPS)

    assert np.asarray(output["scores"]).tolist() == [[score]]
    np.testing.assert_allclose(output["heatmaps"], [heatmap], rtol=1e-6)
    second = 1 / (1 + np.exp(-score / 2))
    np.testing.assert_allclose(output["probabilities"], [[1 - second, second]], rtol=1e-6)


def test_nothing_that_speaks_for_the_class_gives_zeros_and_no_nan() -> None:
    # Negated maps turn the evidence of the softmax toy around at every cell that had any; all-black maps have none.
    output = ExplainedHead(*toy_head([[1, 0], [5, 5], [-1, 2]], [0, 0]))(np.zeros_like(MAPS))

    assert np.asarray(output["heatmaps"]).tolist() == [[[0, 0], [0, 0]]]


def test_equal_scores_explain_the_first_class() -> None:
    head = toy_head([[1, 0, 1], [5, 5, 5], [-1, 2, -1]], [2.5, -3, 2.5])  # s = (3, 0, 3)
    tied = ExplainedHead(*head)(MAPS)
    alone = ExplainedHead(*toy_head([[1, 0], [5, 5], [-1, 2]], [2.5, -3]))(MAPS)

    assert np.asarray(tied["scores"]).tolist() == [[3, 0, 3]]
    assert np.asarray(tied["heatmaps"]).tolist() == np.asarray(alone["heatmaps"]).tolist()
    assert np.asarray(tied["heatmaps"]).max() == 1


def by_tape(network: Any, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Equations 1 and 2 of the paper by back-propagation through the network's own head, normalised."""
    maps = network.backbone(images, training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        scores = network.head(maps, training=False)
        chosen = tf.where(scores > 0, scores, -scores) if scores.shape[1] == 1 else tf.reduce_max(scores, axis=1)
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2))
    raw = tf.nn.relu(tf.einsum("nhwc,nc->nhw", maps, weights)).numpy()
    peak = raw.max(axis=(1, 2), keepdims=True)
    return np.asarray(raw / np.where(peak > 0, peak, 1))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_gradient_tape_on_the_tiny_network(activation: str) -> None:
    names = ("glioma", "meningioma") if activation == "sigmoid" else ("glioma", "meningioma", "pituitary", "no_tumor")
    network = build_tiny_network(names, activation)
    images = phantoms(48, seed=3)

    output = explained_model(network)(images, training=False)

    predicted = np.asarray(output["probabilities"]).argmax(axis=1)
    assert set(predicted) == set(range(len(names))), "the test images must lie on every side"
    expected = by_tape(network, images)
    assert np.mean(expected.max(axis=(1, 2)) == 1) > 0.8, "too many empty maps to compare anything"
    np.testing.assert_allclose(output["heatmaps"], expected, atol=1e-5)
    np.testing.assert_allclose(output["scores"], network.model(images, training=False), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_gradient_tape_on_a_real_backbone(activation: str) -> None:
    names = ("glioma", "meningioma") if activation == "sigmoid" else ("glioma", "meningioma", "pituitary")
    head = HeadSpec(units=64, dropout=0.3, activation="sigmoid" if activation == "sigmoid" else "softmax")
    network = build("efficientnet_lite0", 96, names, head)
    images = phantoms(8, 96, seed=4)
    # Freshly built normalisation layers are the identity; a formula that forgot one of their terms would pass.
    randomise(network, images, seed=11)

    output = explained_model(network)(images, training=False)

    expected = by_tape(network, images)
    assert np.mean(expected.max(axis=(1, 2)) == 1) > 0.3, "too many empty maps to compare anything"
    np.testing.assert_allclose(output["heatmaps"], expected, atol=1e-5)


def test_heatmap_depends_on_the_weights() -> None:
    """Adebayo et al. 2018: a map that survives a change of weights explains the picture, not the model."""
    images = phantoms(48, seed=5)
    ours = np.asarray(explained_model(build_tiny_network(seed=7))(images)["heatmaps"])
    other = np.asarray(explained_model(build_tiny_network(seed=8))(images)["heatmaps"])

    correlations = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, other, strict=True) if a.any() and b.any()
    ]
    assert np.mean(correlations) < 0.5


def test_a_head_of_another_kind_is_refused() -> None:
    maps = keras.Input((2, 2, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    head = keras.Model(maps, keras.layers.Dense(2)(pooled))
    network = SimpleNamespace(backbone=keras.Model(maps, maps), head=head)

    with pytest.raises(ValueError, match=r"received GlobalAveragePooling2D -> Dense\. Build the head"):
        explained_model(network)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": "gelu"}, "the hidden layer must have ReLU"),
        ({"scores": "softmax"}, "the last layer must be linear"),
        ({"temperature": 0.0}, r"the temperature must be > 0; received 0\.0"),
    ],
)
def test_layers_that_the_derivation_does_not_cover_are_refused(change: dict[str, Any], message: str) -> None:
    normalisation, hidden, scores = toy_head([[1, 0], [5, 5], [-1, 2]], [0, 0])
    if "hidden" in change:
        hidden.activation = keras.activations.gelu
    if "scores" in change:
        scores.activation = keras.activations.softmax

    with pytest.raises(ValueError, match=message):
        ExplainedHead(normalisation, hidden, scores, change.get("temperature", 1.0))
