"""The part of a network that learns, in one run.

Owns: a Keras model (the whole network, a suffix with its head, or a head alone), its optimiser, its averaged weights
and the compiled steps; what of these goes into the state of a run and comes back. Refuses: to know where its inputs
come from, and to count epochs.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.errors import DivergedError, RunError
from training.optimizers import learning_rate, make_optimizer
from training.scenario import Scenario
from training.state import RunState

if TYPE_CHECKING:
    import keras

Float32 = npt.NDArray[np.float32]


class Learner:
    """Trains one model by one scenario.

    Args:
        scenario: The configuration.
        model: Inputs -> scores (n, k), before sigmoid or softmax; k = 1 with a sigmoid head.
        variables: The model's variables by path, random generators left out.
        steps: Steps of an epoch.
        mixed_precision: Whether the model computes in float16; the loss is then scaled.
    """

    def __init__(
        self,
        scenario: Scenario,
        model: "keras.Model",
        variables: Mapping[str, Any],
        steps: int,
        mixed_precision: bool = False,
    ) -> None:
        import keras
        import tensorflow as tf

        self.scenario = scenario
        self.model = model
        self._variables = dict(variables)
        # Keras numbers random generators through the whole process: their order is what identifies them.
        self._generators = [v for v in model.variables if "seed_generator" in v.path]
        self._steps = steps
        optimizer = make_optimizer(scenario)
        if mixed_precision:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        self._optimizer = optimizer
        averaged = list(self._variables.values()) if scenario.ema_decay else []
        average = [tf.Variable(np.asarray(v), trainable=False) for v in averaged]
        self._average = average
        sigmoid = scenario.head.activation == "sigmoid"

        def train_step(inputs: Any, targets: Any, decay: Any) -> Any:
            with tf.GradientTape() as tape:
                scores = tf.cast(model(inputs, training=True), tf.float32)
                if sigmoid:
                    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets[:, 1:], scores)
                else:
                    losses = tf.nn.softmax_cross_entropy_with_logits(targets, scores)
                loss = tf.reduce_mean(losses)
                scaled = optimizer.scale_loss(loss) if mixed_precision else loss
            gradients = tape.gradient(scaled, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            for variable, mean in zip(averaged, average, strict=True):
                mean.assign(mean * decay + variable.value * (1 - decay))
            return loss

        def score(inputs: Any) -> Any:
            return tf.cast(model(inputs, training=False), tf.float32)

        # Batches of validation differ in length only: one graph serves them all.
        shape = model.input_shape
        signature = [tf.TensorSpec(shape, tf.float32)] if None not in shape[1:] else None
        self._train_step = tf.function(train_step)
        self._score = tf.function(score, input_signature=signature)

    def step(self, inputs: Any, targets: Any, epoch: int, number: int) -> float:
        """One step.

        Args:
            inputs: float32 (batch, ...): what the model takes.
            targets: float32 (batch, classes), rows adding up to 1.
            epoch: Counted from 0.
            number: Of the step in the epoch, from 0.

        Returns:
            The loss, nats.

        Raises:
            DivergedError: It is not finite.
        """
        done = epoch * self._steps + number
        self._optimizer.learning_rate = learning_rate(done / self._steps, self.scenario, self._steps)
        # The first steps are far from any good average: the window opens slowly.
        decay = min(self.scenario.ema_decay, (1 + done) / (10 + done))
        loss = float(self._train_step(inputs, targets, np.float32(decay)))
        if not np.isfinite(loss):
            raise DivergedError(
                f"The loss is {loss} in epoch {epoch}, step {number}; it must be finite. Lower learning_rate "
                f"(now {self.scenario.learning_rate}) or clip_norm (now {self.scenario.clip_norm})."
            )
        return loss

    def scores(self, inputs: Iterable[Any]) -> Float32:
        """Scores float32 (n, k) of batches of inputs, with the averaged weights if there are any."""
        if not self._average:
            return np.concatenate([np.asarray(self._score(batch)) for batch in inputs])
        current = [np.asarray(v) for v in self._variables.values()]
        try:
            for variable, mean in zip(self._variables.values(), self._average, strict=True):
                variable.assign(mean)
            return np.concatenate([np.asarray(self._score(batch)) for batch in inputs])
        finally:
            for variable, value in zip(self._variables.values(), current, strict=True):
                variable.assign(value)

    def average(self) -> dict[str, npt.NDArray[np.float32]]:
        """The averaged weights (without averaging the present ones) by path."""
        values = self._average or list(self._variables.values())
        return {path: np.asarray(value).copy() for path, value in zip(self._variables, values, strict=True)}

    def store(self, state: RunState) -> None:
        """Put everything that a later process needs into the state."""
        state.put("model", {path: np.asarray(v) for path, v in self._variables.items()})
        state.put("generator", {str(i): np.asarray(v) for i, v in enumerate(self._generators)})
        state.put("optimizer", {str(i): np.asarray(v) for i, v in enumerate(self._optimizer.variables)})
        state.put("ema", self.average() if self._average else {})

    def restore(self, state: RunState) -> None:
        """The inverse of `store`.

        Raises:
            RunError: The arrays are not those of this learner; nothing of them is used then.
        """
        kept = [
            (state.part("model"), self._variables),
            (state.part("generator"), {str(i): v for i, v in enumerate(self._generators)}),
            (state.part("optimizer"), {str(i): v for i, v in enumerate(self._optimizer.variables)}),
            (state.part("ema"), dict(zip(self._variables, self._average, strict=bool(self._average)))),
        ]
        for arrays, variables in kept:
            if {p: a.shape for p, a in arrays.items()} != {p: tuple(v.shape) for p, v in variables.items()}:
                raise RunError(
                    f"The state of {self.scenario.name!r} has other variables than its network: another version of the "
                    "program wrote it. Delete the file to start anew."
                )
        for arrays, variables in kept:
            for path, variable in variables.items():
                variable.assign(arrays[path])
