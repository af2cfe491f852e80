"""Metrics against numbers worked out by hand and against scikit-learn; intervals by patient."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import f1_score, roc_auc_score

from training.evaluation import bootstrap, evaluate, macro_f1, macro_roc_auc, patients

NAMES = ("a", "b", "c")


def sharp(predictions: list[int], sure: float = 0.8) -> np.ndarray:
    """Probabilities (n, 3) whose largest stands at the prediction."""
    found = np.full((len(predictions), 3), (1 - sure) / 2)
    found[np.arange(len(predictions)), predictions] = sure
    return found


def test_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int64)
    said = [0, 0, 0, 1, 1, 2, 2, 2]
    facts = evaluate(sharp(said), labels, list("ppqqrrst"), ["x", "y"] * 4, NAMES, resamples=20)

    assert facts["metrics"]["accuracy"]["value"] == pytest.approx(6 / 8)
    assert facts["metrics"]["balanced_accuracy"]["value"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert facts["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    assert facts["classes"]["b"] == {"slices": 2, "patients": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert facts["classes"]["c"]["precision"] == pytest.approx(2 / 3)
    assert facts["planes"]["x"] == {"slices": 4, "accuracy": 1.0, "balanced_accuracy": 1.0}
    assert facts["planes"]["y"]["accuracy"] == 0.5
    assert facts["patients"] == 5


def test_like_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    probabilities[np.arange(200), labels] += 0.3
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 2)  # with ties

    expected = np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)])
    assert macro_roc_auc(probabilities, labels) == pytest.approx(expected)
    said = probabilities.argmax(axis=1)
    assert macro_f1(said, labels, 3) == pytest.approx(f1_score(labels, said, average="macro"))


def test_one_class_alone_has_no_area() -> None:
    assert np.isnan(macro_roc_auc(sharp([0, 1]), np.array([0, 0], np.int64)))


def test_intervals_are_wider_when_slices_share_patients() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros(200, np.int64)
    right = np.repeat(rng.random(10) < 0.7, 20)
    measure = {"accuracy": lambda rows: float(right[rows].mean())}
    by_patient = bootstrap(measure, labels, np.repeat(np.arange(10), 20), 500, seed=1)["accuracy"]
    by_slice = bootstrap(measure, labels, np.arange(200), 500, seed=1)["accuracy"]

    assert by_patient[1] - by_patient[0] > 2 * (by_slice[1] - by_slice[0])
    assert by_slice[0] <= right.mean() <= by_slice[1]


def test_resampling_keeps_the_patients_of_each_class() -> None:
    labels = np.array([0, 0, 0, 1], np.int64)
    drawn: list[int] = []

    def ones(rows: np.ndarray) -> float:
        drawn.append(int((labels[rows] == 1).sum()))
        return 0.0

    bootstrap({"ones": ones}, labels, np.array(["p", "q", "r", "s"]), 30, seed=1)

    assert set(drawn) == {1}


def test_one_decision_a_patient() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.2, 0.8, 0], [0.55, 0.45, 0]])
    facts = patients(probabilities, np.array([0, 0, 1, 1]), np.array(["p", "p", "q", "q"]), NAMES)

    assert facts["patients"] == 2
    assert facts["accuracy"] == 1.0
    assert facts["classes"]["a"] == {"patients": 1, "right": 1, "worst_slice_accuracy": 0.5}


def test_a_perfect_and_a_useless_classifier() -> None:
    labels = np.array([0, 1, 2] * 4, np.int64)
    groups = [f"p{i}" for i in range(12)]
    perfect = evaluate(sharp(labels.tolist()), labels, groups, [""] * 12, NAMES, resamples=20)
    useless = evaluate(sharp([0] * 12), labels, groups, [""] * 12, NAMES, resamples=20)

    assert perfect["metrics"]["macro_roc_auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert useless["metrics"]["macro_roc_auc"]["value"] == 0.5
    assert useless["classes"]["b"]["precision"] is None
    assert "unknown" in useless["planes"]
