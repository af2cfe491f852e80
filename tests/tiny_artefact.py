"""A real but tiny model for tests: the network `tiny` with fixed random weights.

`tests/data/tiny.neurosight` was made by this module (`python -m tests.tiny_artefact`), so that tests without
TensorFlow have a model too. `build_tiny_artefact` makes others, with other classes or a sigmoid head.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from inference.networks import Network

TINY_ARTEFACT = Path(__file__).parent / "data" / "tiny.neurosight"
TINY_CLASS_NAMES = ("glioma", "meningioma", "pituitary", "no_tumor")
INPUT_SIZE = 64


def tiny_digest() -> str:
    """Digest of the committed tiny artefact."""
    return hashlib.sha256(TINY_ARTEFACT.read_bytes()).hexdigest()


def phantoms(count: int, size: int = INPUT_SIZE, seed: int = 0) -> npt.NDArray[np.float32]:
    """Prepared pictures with a head-like disc and one bright spot: (count, size, size, 1) float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    pictures = np.empty((count, size, size, 1), np.float32)
    for number in range(count):
        width, height = rng.uniform(0.6, 0.9, 2)
        picture = 0.4 * ((columns / width) ** 2 + (rows / height) ** 2 < 1)
        x, y = rng.uniform(-0.5, 0.5, 2)
        picture += rng.uniform(0.3, 0.6) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / rng.uniform(0.01, 0.2))
        picture += rng.normal(0, 0.02, picture.shape)
        pictures[number, ..., 0] = np.clip(picture, 0, 1)
    return pictures


def build_tiny_network(
    class_names: tuple[str, ...] = TINY_CLASS_NAMES, activation: str = "softmax", seed: int = 7
) -> Network:
    """The network with weights that say different things about different pictures (needs TensorFlow)."""
    from inference.networks import HeadSpec, build

    head = HeadSpec(units=24, dropout=0.2, activation="sigmoid" if activation == "sigmoid" else "softmax")
    network = build("tiny", INPUT_SIZE, class_names, head)
    randomise(network, phantoms(64), seed)
    return network


def randomise(network: Network, images: npt.NDArray[np.float32], seed: int) -> None:
    """Random weights under which the scores of `images` are centred and spread: no class is always the answer."""
    rng = np.random.default_rng(seed)
    weights = {}
    for path, array in network.weights().items():
        if path.endswith("kernel"):
            fan_in = max(1, int(np.prod(array.shape[:-1])))
            weights[path] = rng.normal(0, np.sqrt(2 / fan_in), array.shape)
        elif path.endswith(("gamma", "moving_variance")):
            weights[path] = rng.uniform(0.7, 1.3, array.shape)
        else:
            weights[path] = rng.normal(0, 0.1, array.shape)
    network.set_weights(weights)
    pooled = np.asarray(network.backbone(images)).mean(axis=(1, 2))
    weights["head_bn/moving_mean"] = pooled.mean(axis=0)
    weights["head_bn/moving_variance"] = pooled.var(axis=0) + 1e-6
    network.set_weights(weights)
    scores = np.asarray(network.model(images))
    spread = scores.std(axis=0)
    weights["head_scores/kernel"] = weights["head_scores/kernel"] / spread * 2
    weights["head_scores/bias"] = (weights["head_scores/bias"] - scores.mean(axis=0)) / spread * 2
    network.set_weights(weights)


def build_tiny_artefact(
    path: Path, class_names: tuple[str, ...] = TINY_CLASS_NAMES, activation: str = "softmax", seed: int = 7
) -> str:
    """Writes a tiny artefact and returns its digest (needs TensorFlow)."""
    from imaging.preprocess import Preprocessing
    from inference.export import ModelFacts, export

    facts = ModelFacts(
        preprocessing=Preprocessing(size=INPUT_SIZE),
        temperature=1.5,
        planes=("axial", "coronal", "sagittal"),
        metrics={},
        dataset_fingerprint="none: random weights",
        code_version="tests",
        created_at="2026-01-01T00:00:00Z",
        model_card="# Tiny\n\nRandom weights, for tests only.\n",
    )
    return export(path, build_tiny_network(class_names, activation, seed), facts, phantoms(20, seed=1))


if __name__ == "__main__":
    print(build_tiny_artefact(TINY_ARTEFACT))
