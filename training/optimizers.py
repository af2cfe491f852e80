"""Optimisers by name and the learning-rate schedule.

Owns: how a scenario's optimiser is made and which rate each step has. Refuses: anything about data or networks.
"""

import math
from typing import TYPE_CHECKING

from training.scenario import Scenario

if TYPE_CHECKING:
    import keras


def learning_rate(epoch: float, scenario: Scenario, steps: int) -> float:
    """Linear warm-up, then the peak for good, or half a cosine down to a hundredth of it.

    How far along the cosine each phase ends is the scenario's choice (`Phase.cosine_until`); without one it follows
    from the epochs.

    Args:
        epoch: Epochs done, with the fraction of the present one.
        scenario: The configuration.
        steps: Steps of an epoch.

    Returns:
        The rate of the next step.
    """
    warm_up, peak = scenario.warm_up_epochs, scenario.learning_rate
    if epoch < warm_up:
        return peak * min(1.0, (epoch + 1 / steps) / warm_up)
    if scenario.schedule == "constant":
        return peak
    start, passed = warm_up, 0.0
    end = 0.0
    for phase in scenario.phases:
        end += phase.epochs
        until = phase.cosine_until
        if until is None:
            until = (end - warm_up) / max(scenario.epochs - warm_up, 1e-9)
        if epoch < end:
            passed += (until - passed) * (epoch - start) / (end - start)
            return _cosine(passed, peak)
        start, passed = max(start, end), until
    return _cosine(1.0, peak)


def _cosine(progress: float, peak: float) -> float:
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))))


def make_optimizer(scenario: Scenario) -> "keras.Optimizer":
    """The optimiser of a scenario; its rate is set before each step."""
    import keras

    rate, clip = scenario.learning_rate, scenario.clip_norm or None
    if scenario.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=scenario.weight_decay, global_clipnorm=clip)
        # Vectors (normalisations, biases) are not shrunk: it would only fight their purpose.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if scenario.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=clip)
    if scenario.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=clip)
    return keras.optimizers.RMSprop(rate, global_clipnorm=clip)
