"""Optimisers by name and the learning-rate schedule.

Owns: how a scenario's optimiser is made and which rate each step has. Refuses: anything about data or networks.
"""

import math
from typing import TYPE_CHECKING

from training.scenario import Scenario

if TYPE_CHECKING:
    import keras


def learning_rate(step: int, warm_up_steps: int, total_steps: int, peak: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak.

    Args:
        step: Counted from 0.
        warm_up_steps: Steps of the rise.
        total_steps: Steps of the whole run.
        peak: The highest rate.
    """
    if step < warm_up_steps:
        return peak * (step + 1) / warm_up_steps
    progress = min(1.0, (step - warm_up_steps) / max(1, total_steps - warm_up_steps))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(scenario: Scenario) -> "keras.Optimizer":
    """The optimiser of a scenario; its rate is set before each step."""
    import keras

    rate, clip = scenario.learning_rate, scenario.clip_norm
    if scenario.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=scenario.weight_decay, global_clipnorm=clip)
        # Vectors (normalisations, biases) are not shrunk: it would only fight their purpose.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if scenario.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=clip)
    if scenario.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, global_clipnorm=clip)
    return keras.optimizers.RMSprop(rate, global_clipnorm=clip)
