"""Temperature and calibration error against cases with a known answer."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from training.calibration import (
    LIMITS,
    cross_entropy,
    expected_calibration_error,
    fit_temperature,
    probabilities_of,
    reliability,
    report,
)
from training.resampling import draw


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose honest temperature is known: labels are drawn from softmax(scores / temperature)."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 3, (count, 4))
    cumulated = probabilities_of(scores, temperature).cumsum(axis=1)
    return scores, (rng.random((count, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_honest_temperature_is_found(temperature: float) -> None:
    scores, labels = drawn(temperature)

    assert fit_temperature(scores, labels) == pytest.approx(temperature, rel=0.05)


def test_calibration_lowers_the_error_and_keeps_the_predictions() -> None:
    scores, labels = drawn(3.0)
    before, after = probabilities_of(scores), probabilities_of(scores, fit_temperature(scores, labels))

    assert expected_calibration_error(before, labels) > 0.2
    assert expected_calibration_error(after, labels) < 0.02
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))


def test_error_worked_by_hand() -> None:
    # Two slices said with 0.9, one right: |0.5 - 0.9| = 0.4; two said with 0.6, both right: |1 - 0.6| = 0.4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])

    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4)
    assert [(b.count, b.accuracy) for b in reliability(probabilities, labels)] == [(2, 1.0), (2, 0.5)]


def test_a_validation_part_without_errors_stays_within_the_limits() -> None:
    scores = np.eye(3) * 2

    assert LIMITS[0] <= fit_temperature(scores, np.arange(3)) <= LIMITS[1]


def test_one_score_is_that_of_the_second_class() -> None:
    probabilities = probabilities_of(np.array([[0.0], [2.0]]), 2.0)

    assert probabilities[0].tolist() == [0.5, 0.5]
    assert probabilities[1, 1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_huge_scores_do_not_overflow() -> None:
    scores = np.array([[1e4, -1e4]])

    assert probabilities_of(scores).tolist() == [[1.0, 0.0]]
    assert np.isfinite(cross_entropy(scores, np.array([1]), 1.0))


def test_intervals_stand_around_the_error_and_bins_come_before_and_after() -> None:
    scores, labels = drawn(3.0, 2000)
    found = report(scores, labels, draw(labels, np.arange(2000), 200, seed=1), 3.0)

    assert found["ece_before"]["low"] > 0.15
    assert found["ece_after"]["low"] <= found["ece_after"]["high"] < 0.1
    assert found["ece_before"]["value"] == pytest.approx(expected_calibration_error(probabilities_of(scores), labels))
    assert sum(b["count"] for b in found["reliability_before"]) == sum(b["count"] for b in found["reliability"]) == 2000
