"""What a run is given and what comes out of it.

Owns: the parts of the data as arrays, the result of a run, and the facts of a validation. Refuses: to train (see
`groups`, `lockstep`, `learner`), and to see a test sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.datasets import Sample

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Prepared slices of one part of the split.

    Attributes:
        images: uint8 (n, s, s); for training at the scenario's cache size, for validation at the exported size.
        samples: Their descriptions.
    """

    images: npt.NDArray[np.uint8]
    samples: Sequence[Sample]


@dataclass(frozen=True)
class RunResult:
    """A finished or stopped run.

    Attributes:
        name: Name of its scenario.
        weights: The best averaged weights of the whole network, frozen part included, by Keras variable path; empty
            when the run was stopped before any was chosen.
        best_epoch: Counted from 0; -1 before one was chosen.
        best_loss: Validation loss of that epoch.
        history: Facts of each epoch, see `lockstep.train`.
        stopped: Whether the recorder asked to stop before the end.
        facts: `best_epoch`, `best_loss`, `epochs`, `wall_s` (of all epochs, also those of earlier processes),
            `images_per_s` (training slices over that time), `peak_memory_bytes` (of the processes), `runs_in_lockstep`,
            `environment`.
    """

    name: str
    weights: dict[str, npt.NDArray[np.float32]]
    best_epoch: int
    best_loss: float
    history: list[dict[str, float]]
    stopped: bool
    facts: dict[str, Any]


def validation_facts(scores: Float32, labels: npt.NDArray[np.int64], classes: int) -> dict[str, float]:
    """Loss and accuracy in which every class weighs alike.

    Args:
        scores: float32 (n, k) before softmax.
        labels: int64 (n).
        classes: k.

    Returns:
        `validation_loss` (mean over classes of the mean cross-entropy, nats), `validation_accuracy`,
        `validation_balanced_accuracy` and `validation_recall_<index>`.
    """
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probability[np.arange(labels.size), labels]
    right = scores.argmax(axis=1) == labels
    present = [index for index in range(classes) if (labels == index).any()]
    recalls = {index: float(right[labels == index].mean()) for index in present}
    return {
        "validation_loss": float(np.mean([loss[labels == index].mean() for index in present])),
        "validation_accuracy": float(right.mean()),
        "validation_balanced_accuracy": float(np.mean(list(recalls.values()))),
        **{f"validation_recall_{index}": recall for index, recall in recalls.items()},
    }
