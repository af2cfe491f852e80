"""Curves against hand-made cases and scikit-learn, and their bounds."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import auc, roc_curve

from training.curves import MAX_POINTS, pr_points, roc_points

SCORES = np.array([0.9, 0.8, 0.8, 0.3])
POSITIVE = np.array([True, True, False, False])


def test_worked_by_hand() -> None:
    # 0.9: one hit. 0.8: a hit and a miss at once, because they tie. 0.3: the other miss.
    assert roc_points(SCORES, POSITIVE) == [[0.0, 0.0, None], [0.0, 0.5, 0.9], [0.5, 1.0, 0.8], [1.0, 1.0, 0.3]]
    assert pr_points(SCORES, POSITIVE) == [
        [0.0, 1.0, None],
        [0.5, 1.0, 0.9],
        [1.0, pytest.approx(2 / 3), 0.8],
        [1.0, 0.5, 0.3],
    ]


def test_many_slices_give_few_points_and_nearly_the_same_area() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(5000) < 0.3
    scores = rng.normal(positive * 1.0, 1)
    points = roc_points(scores, positive)
    false_rate, true_rate, _ = roc_curve(positive, scores)

    assert 100 < len(points) <= MAX_POINTS
    assert points[0] == [0.0, 0.0, None]
    assert points[-1][:2] == [1.0, 1.0]
    ours = auc([p[0] for p in points], [p[1] for p in points])
    assert ours == pytest.approx(auc(false_rate, true_rate), abs=2e-3)
    assert len(pr_points(scores, positive)) <= MAX_POINTS
    assert pr_points(scores, positive)[-1] == [1.0, positive.mean(), scores.min()]


def test_one_side_alone_has_no_curve() -> None:
    assert roc_points(SCORES, np.ones(4, bool)) == []
    assert roc_points(SCORES, np.zeros(4, bool)) == []
    assert pr_points(SCORES, np.zeros(4, bool)) == []
    assert roc_points(np.empty(0), np.empty(0, bool)) == []
