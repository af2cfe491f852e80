"""What every engine promises.

Owns: the protocol, the output record, and the checks of input and output that all engines share. Refuses: to know any
engine's library.

The promises, each held by the contract tests on every engine:

* rows come back in the order in which they were given, one for each, none for an empty batch;
* **a row's result does not depend on its neighbours**: alone, in a batch of 32 or in another order, the same image
  gives the same bits on the same engine, machine and library versions;
* engines agree with each other within 1e-4 in probability;
* wrong type, shape, NaN or a value outside [0, 1] is an `EngineInputError`, never a quiet result;
* `run` may be called from several threads.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.errors import EngineError, EngineInputError
from inference.manifest import Manifest

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """Results of a batch of n slices, all float32, rows in the order of the input.

    Attributes:
        scores: (n, k) before softmax or sigmoid; k = 1 for a sigmoid head.
        probabilities: (n, K) after the temperature, each row adding up to 1, in the order of the class names.
        heatmaps: (n, gh, gw) in [0, 1], for the predicted class.
        features: (n, c), pooled activations of the last convolution.
    """

    scores: Float32
    probabilities: Float32
    heatmaps: Float32
    features: Float32


class Engine(Protocol):
    """Runs one model's graph."""

    @property
    def name(self) -> str:
        """`openvino` or `tensorflow`."""

    @property
    def device(self) -> str:
        """What it runs on, for logs and receipts, e.g. `CPU`."""

    @property
    def group(self) -> int:
        """How many slices should be handed over at once. Changes speed, never results."""

    @property
    def lanes(self) -> int:
        """How many threads should call `run` at the same time to keep it busy. Changes speed, never results."""

    def run(self, images: Float32) -> EngineOutput:
        """Scores and explains n prepared slices.

        Args:
            images: (n, S, S, 1) float32 in [0, 1]; n may be 0.

        Raises:
            EngineInputError: If the array is not that.
            EngineError: If the engine fails.
        """

    def close(self) -> None:
        """Gives memory and threads back. The engine cannot be used afterwards."""


def check_images(images: npt.NDArray[Any], input_size: int) -> None:
    """Refuses what an engine cannot judge.

    Raises:
        EngineInputError: Saying what was received and expected.
    """
    expected = (
        f"expected float32 of shape (n, {input_size}, {input_size}, 1) in [0, 1], as imaging.preprocess.prepare makes"
    )
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        received = getattr(images, "dtype", type(images).__name__)
        raise EngineInputError(f"received images of type {received}; {expected}.")
    if images.ndim != 4 or images.shape[1:] != (input_size, input_size, 1):
        raise EngineInputError(f"received images of shape {images.shape}; {expected}.")
    if images.size == 0:
        return
    low, high = float(images.min()), float(images.max())
    # A NaN makes both comparisons false.
    if not (low >= 0.0 and high <= 1.0):
        raise EngineInputError(f"received values from {low:g} to {high:g}; {expected} (no NaN).")


def allocate(manifest: Manifest, rows: int) -> EngineOutput:
    """Uninitialised room for the results of `rows` slices."""
    return EngineOutput(
        np.empty((rows, manifest.scores), np.float32),
        np.empty((rows, len(manifest.class_names)), np.float32),
        np.empty((rows, *manifest.grid), np.float32),
        np.empty((rows, manifest.feature_channels), np.float32),
    )


def check_output(output: EngineOutput) -> None:
    """Refuses results that are no numbers, so that they can never be stored as a finding.

    Raises:
        EngineError: If a score, probability or heatmap is not finite.
    """
    for name in ("scores", "probabilities", "heatmaps", "features"):
        if not np.isfinite(getattr(output, name)).all():
            raise EngineError(
                f"the engine returned {name} that are not finite. The model or the engine is at fault, not the slice: "
                "run `make doctor`, and promote another model if it persists."
            )
