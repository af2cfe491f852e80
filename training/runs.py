"""One training of one scenario.

Owns: the loop of epochs and steps, averaged weights, the choice of the best checkpoint on the validation part, early
stopping, and resuming after a kill. Refuses: to see a test sample: it is given the training and validation parts only.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.networks import Network, build, load_imagenet
from training.datasets import Sample
from training.errors import RunError
from training.optimizers import learning_rate, make_optimizer
from training.recorder import Recorder
from training.sampling import batches
from training.scenario import Scenario
from training.state import RunState, load_state, save_state

log = logging.getLogger(__name__)

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
    """A finished run.

    Attributes:
        weights: The best averaged weights, by Keras variable path.
        best_epoch: Counted from 0.
        best_loss: Validation loss of that epoch.
        history: Facts of each epoch.
        cancelled: Whether the recorder asked to stop before the end.
    """

    weights: dict[str, npt.NDArray[np.float32]]
    best_epoch: int
    best_loss: float
    history: list[dict[str, float]]
    cancelled: bool


def run(
    scenario: Scenario,
    train: Part,
    validation: Part,
    data_fingerprint: str,
    state_path: Path,
    recorder: Recorder,
    weights_dir: Path | None = None,
    threads: int = 2,
) -> RunResult:
    """Train, or go on training where the saved state ends.

    Args:
        scenario: The configuration.
        train: Training slices at `scenario.cache_size`.
        validation: Validation slices at the exported size.
        data_fingerprint: Identifies data and split, to refuse a state of others.
        state_path: `.npz` file of the state, written after each epoch.
        recorder: Is told of progress.
        weights_dir: Folder of ImageNet weights; needed for a fresh start unless the scenario says `weights: none`.
        threads: Threads of the numeric library.

    Returns:
        The best weights and the history.

    Raises:
        RunError: The loss is not finite, no epoch qualified, or the state belongs to another run.
        NetworkError: ImageNet weights are missing or do not fit.
    """
    trainer = _Trainer(scenario, threads)
    state = load_state(state_path, scenario.digest(), data_fingerprint)
    if state is None:
        state = RunState(scenario.digest(), data_fingerprint)
        if scenario.weights == "imagenet":
            if weights_dir is None:
                raise RunError("The scenario starts from ImageNet weights; name their folder (--weights-dir).")
            load_imagenet(trainer.network, weights_dir)
        trainer.start_average()
    else:
        trainer.restore(state)
    recorder.started(scenario.to_json(), scenario.epochs, state.epochs_done)
    labels = np.array([scenario.class_names.index(s.label) for s in validation.samples], np.int64)
    cancelled = False
    for epoch in range(state.epochs_done, scenario.epochs):
        began = time.monotonic()
        loss, count, cancelled = _train_epoch(trainer, train, epoch, recorder)
        if cancelled:
            break
        train_s = time.monotonic() - began
        scores = trainer.scores(validation.images, averaged=True)
        facts = {
            "loss": loss,
            "size": float(scenario.size_of(epoch)),
            "images_per_s": count / max(train_s, 1e-9),
            "epoch_s": time.monotonic() - began,
            **validation_facts(scores, labels, len(scenario.class_names)),
        }
        state.history.append(facts)
        state.epochs_done = epoch + 1
        # Only the exported size competes: the statistics of smaller pictures do not fit it.
        if scenario.size_of(epoch) == scenario.preprocessing.size and facts["validation_loss"] < state.best_loss:
            state.best_epoch, state.best_loss = epoch, facts["validation_loss"]
            state.put("best", trainer.average())
        trainer.store(state)
        save_state(state_path, state)
        recorder.epoch_finished(epoch, facts)
        stale = epoch - state.best_epoch
        if scenario.patience_epochs and state.best_epoch >= 0 and stale >= scenario.patience_epochs:
            log.info("early stop after epoch %d: no better validation loss for %d epochs", epoch, stale)
            break
    if state.best_epoch < 0:
        raise RunError("No epoch at the exported size was finished; let the run go on, or shorten the earlier phases.")
    facts_end: dict[str, Any] = {"best_epoch": state.best_epoch, "best_loss": state.best_loss, "cancelled": cancelled}
    recorder.finished(facts_end)
    return RunResult(state.part("best"), state.best_epoch, state.best_loss, state.history, cancelled)


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


def _train_epoch(trainer: "_Trainer", train: Part, epoch: int, recorder: Recorder) -> tuple[float, int, bool]:
    """Mean loss, number of slices, and whether the recorder asked to stop."""
    losses = []
    count = 0
    for number, (images, targets) in enumerate(batches(train.images, train.samples, trainer.scenario, epoch)):
        loss = trainer.step(images, targets, epoch, number)
        if not np.isfinite(loss):
            raise RunError(
                f"The loss is {loss} in epoch {epoch}, step {number}; it must be finite. Lower learning_rate "
                f"(now {trainer.scenario.learning_rate}) or clip_norm (now {trainer.scenario.clip_norm})."
            )
        losses.append(loss)
        count += len(images)
        if recorder.cancelled():
            return float(np.mean(losses)), count, True
        if number % 20 == 0:
            log.info("epoch %d step %d loss %.4f", epoch, number, float(np.mean(losses[-20:])))
    return float(np.mean(losses)), count, False


class _Trainer:
    """Network, optimiser, averaged weights and the compiled steps of one run."""

    def __init__(self, scenario: Scenario, threads: int) -> None:
        import keras
        import tensorflow as tf

        _limit_threads(threads)
        keras.utils.set_random_seed(scenario.seed)
        self.scenario = scenario
        self.network: Network = build(
            scenario.network, None, scenario.class_names, scenario.head, drop_path=scenario.drop_path
        )
        self._optimizer = make_optimizer(scenario)
        model = self.network.model
        self._optimizer.build(model.trainable_variables)
        self._steps = sum(scenario.samples_per_epoch.values()) // scenario.batch
        self._averaged = [v for v in model.variables if "seed_generator" not in v.path]
        self._average = [tf.Variable(np.asarray(v), trainable=False) for v in self._averaged]
        sigmoid = scenario.head.activation == "sigmoid"
        optimizer, averaged, average = self._optimizer, self._averaged, self._average

        def train_step(images: Any, targets: Any, decay: Any) -> Any:
            with tf.GradientTape() as tape:
                scores = model(images, training=True)
                if sigmoid:
                    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets[:, 1:], scores)
                else:
                    losses = tf.nn.softmax_cross_entropy_with_logits(targets, scores)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            for variable, mean in zip(averaged, average, strict=True):
                mean.assign(mean * decay + variable.value * (1 - decay))
            return loss

        def score(images: Any) -> Any:
            return model(images, training=False)

        self._train_step, self._score = tf.function(train_step), tf.function(score)

    def step(self, images: Float32, targets: Float32, epoch: int, number: int) -> float:
        """One step; returns the loss."""
        done = epoch * self._steps + number
        self._optimizer.learning_rate = learning_rate(done / self._steps, self.scenario)
        # The first steps are far from any good average: the window opens slowly.
        decay = min(self.scenario.ema_decay, (1 + done) / (10 + done)) if self.scenario.ema_decay else 0.0
        return float(self._train_step(images, targets, np.float32(decay)))

    def scores(self, images: npt.NDArray[np.uint8], averaged: bool, batch: int = 64) -> Float32:
        """Scores float32 (n, k) of prepared slices uint8 (n, s, s), with the averaged or the current weights."""
        current = [np.asarray(v) for v in self._averaged]
        if averaged:
            for variable, mean in zip(self._averaged, self._average, strict=True):
                variable.assign(mean)
        try:
            found = [
                np.asarray(self._score((images[i : i + batch].astype(np.float32) / 255)[..., None]))
                for i in range(0, len(images), batch)
            ]
        finally:
            for variable, value in zip(self._averaged, current, strict=True):
                variable.assign(value)
        return np.concatenate(found)

    def start_average(self) -> None:
        """Begin the average at the current weights."""
        for variable, mean in zip(self._averaged, self._average, strict=True):
            mean.assign(variable.value)

    def average(self) -> dict[str, npt.NDArray[np.float32]]:
        """The averaged weights by Keras path."""
        return {v.path: np.asarray(mean) for v, mean in zip(self._averaged, self._average, strict=True)}

    def store(self, state: RunState) -> None:
        """Put everything that a later process needs into the state."""
        state.put("model", {v.path: np.asarray(v) for v in self.network.model.variables})
        state.put("ema", self.average())
        state.put("optimizer", {str(i): np.asarray(v) for i, v in enumerate(self._optimizer.variables)})

    def restore(self, state: RunState) -> None:
        """The inverse of `store`."""
        model, ema, optimizer = state.part("model"), state.part("ema"), state.part("optimizer")
        # Keras numbers random generators through the whole process: their order is what identifies them.
        seeds = iter([value for path, value in model.items() if "seed_generator" in path])
        for variable in self.network.model.variables:
            variable.assign(next(seeds) if "seed_generator" in variable.path else model[variable.path])
        for variable, mean in zip(self._averaged, self._average, strict=True):
            mean.assign(ema[variable.path])
        for index, variable in enumerate(self._optimizer.variables):
            variable.assign(optimizer[str(index)])


def _limit_threads(threads: int) -> None:
    """Set TensorFlow's threads, as long as it has not started working; afterwards they cannot be changed."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        log.info("TensorFlow already runs; its number of threads stays as it is")
