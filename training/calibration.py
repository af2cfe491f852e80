"""Probabilities that mean what they say.

Owns: fitting one temperature on the validation part, and measuring the expected calibration error before and after.
Refuses: to see test slices while fitting. A temperature changes no prediction, only how sure it sounds.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Scores are divided by T > 0 before softmax;
T minimises the mean cross-entropy. Expected calibration error: slices are put into bins of equal width by the
probability of their prediction; the error is the mean over slices of |accuracy - mean probability| of their bin.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.resampling import interval

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.int64]

BINS: Final = 15
LIMITS: Final = (0.05, 20.0)
"""Range of the temperature: beyond it the fit has failed, for example on a validation part without any error."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: how many slices, their mean probability and the share that was right."""

    count: int
    probability: float
    accuracy: float


def probabilities_of(scores: Float, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Softmax or sigmoid of scores.

    Args:
        scores: (n, k); k = 1 is the score of the second of two classes.
        temperature: Divides the scores; > 0.

    Returns:
        float64 (n, K) with K = max(2, k); rows add up to 1.
    """
    wide = np.asarray(scores, np.float64) / temperature
    if wide.shape[1] == 1:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def cross_entropy(scores: Float, labels: Int, temperature: float) -> float:
    """Mean of -log p(label), nats, at a temperature."""
    chosen = probabilities_of(scores, temperature)[np.arange(labels.size), labels]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def fit_temperature(scores: Float, labels: Int) -> float:
    """The temperature with the least cross-entropy, within `LIMITS`.

    Args:
        scores: (n, k), n >= 1, of the validation part.
        labels: int64 (n).
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(LIMITS[0]), np.log(LIMITS[1])
    found = minimize_scalar(
        lambda x: cross_entropy(scores, labels, float(np.exp(x))), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def reliability(probabilities: Float, labels: Int, bins: int = BINS) -> list[Bin]:
    """The bins that hold any slice, from the least to the most sure."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        Bin(int((place == b).sum()), float(sure[place == b].mean()), float(right[place == b].mean()))
        for b in range(bins)
        if (place == b).any()
    ]


def expected_calibration_error(probabilities: Float, labels: Int, bins: int = BINS) -> float:
    """The expected calibration error, 0 to 1."""
    return float(calibration_errors(probabilities, labels, np.ones((1, labels.size)), bins)[0])


def calibration_errors(probabilities: Float, labels: Int, weights: Float, bins: int = BINS) -> Float:
    """The expected calibration error for each row of bootstrap weights.

    Args:
        probabilities: (n, K).
        labels: int64 (n).
        weights: (r, n), how often each slice counts.
        bins: Number of bins.

    Returns:
        float64 (r); NaN where no slice counts.
    """
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.zeros((labels.size, bins))
    place[np.arange(labels.size), np.minimum((sure * bins).astype(int), bins - 1)] = 1
    # Of each bin count x |accuracy - mean probability|, the count cancelled.
    gaps = np.abs(weights @ (place * (right - sure)[:, None])).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(gaps / weights.sum(axis=1))


def report(scores: Float, labels: Int, weights: Float, temperature: float) -> dict[str, Any]:
    """Calibration before and after the temperature, as JSON values.

    Args:
        scores: (n, k).
        labels: int64 (n).
        weights: Of `resampling.draw`, for the intervals.
        temperature: As `fit_temperature` gave it.
    """
    before, after = probabilities_of(scores), probabilities_of(scores, temperature)
    return {
        "ece_before": interval(calibration_errors(before, labels, weights)),
        "ece_after": interval(calibration_errors(after, labels, weights)),
        "reliability_before": [asdict(found) for found in reliability(before, labels)],
        "reliability": [asdict(found) for found in reliability(after, labels)],
    }
