"""Metrics against numbers worked out by hand and against scikit-learn; intervals by patient; and their speed."""

import json
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from training.evaluation import evaluate
from training.resampling import draw, interval

NAMES = ("a", "b", "c")


def sharp(predictions: list[int], sure: float = 0.8) -> npt.NDArray[np.float64]:
    """Probabilities (n, 3) whose largest stands at the prediction."""
    found = np.full((len(predictions), 3), (1 - sure) / 2)
    found[np.arange(len(predictions)), predictions] = sure
    return found


def value(facts: dict[str, Any], *keys: str) -> float:
    for key in keys:
        facts = facts[key]
    return float(facts["value"])


def test_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int64)
    said = [0, 0, 0, 1, 1, 2, 2, 2]
    facts = evaluate(sharp(said), labels, list("ppqqrrst"), ["x", "y"] * 4, NAMES, resamples=20)

    assert value(facts, "metrics", "accuracy") == pytest.approx(6 / 8)
    assert value(facts, "metrics", "balanced_accuracy") == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert value(facts, "metrics", "macro_precision") == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert facts["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    b = facts["classes"]["b"]
    assert (b["slices"], b["patients"], b["predicted"]) == (2, 1, 2)
    assert [value(b, name) for name in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    assert value(facts, "planes", "x", "accuracy") == 1.0
    assert value(facts, "planes", "y", "accuracy") == 0.5
    assert facts["planes"]["y"]["confusion"] == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert facts["patients"] == 5


def test_like_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    probabilities[np.arange(200), labels] += 0.3
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 2)  # with ties
    facts = evaluate(probabilities, labels, [f"{i // 4}" for i in range(200)], [""] * 200, NAMES, resamples=5)

    precision, recall, f1, _ = precision_recall_fscore_support(labels, probabilities.argmax(axis=1))
    for k, name in enumerate(NAMES):
        found = facts["classes"][name]
        assert value(found, "roc_auc") == pytest.approx(roc_auc_score(labels == k, probabilities[:, k]))
        assert value(found, "pr_auc") == pytest.approx(average_precision_score(labels == k, probabilities[:, k]))
        expected = (precision[k], recall[k], f1[k])
        assert [value(found, m) for m in ("precision", "recall", "f1")] == pytest.approx(list(expected))
    assert value(facts, "metrics", "macro_f1") == pytest.approx(f1.mean())


def test_a_resample_counts_slices_as_often_as_their_patient_was_drawn() -> None:
    """The table of weights gives the same as repeating the slices."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 60)
    probabilities = rng.dirichlet(np.ones(2), 60).round(1)
    groups = [f"{label}-{i // 3}" for i, label in enumerate(labels)]
    weights = draw(labels, groups, 30, seed=5)
    aucs = [
        roc_auc_score(np.repeat(labels, row.astype(int)), np.repeat(probabilities[:, 1], row.astype(int)))
        for row in weights
    ]
    facts = evaluate(probabilities, labels, groups, [""] * 60, ("a", "b"), resamples=30, seed=5)

    assert facts["classes"]["b"]["roc_auc"] == pytest.approx(interval(np.array(aucs)))


def test_one_class_alone_has_no_area_and_the_record_is_json() -> None:
    facts = evaluate(sharp([0, 1]), np.array([0, 0], np.int64), ["p", "q"], ["", ""], NAMES, resamples=10)

    assert facts["metrics"]["macro_roc_auc"] == {"value": None, "low": None, "high": None}
    assert facts["classes"]["c"]["precision"]["value"] is None
    assert facts["curves"]["a"]["roc"] == []
    json.dumps(facts, allow_nan=False)


def test_intervals_are_wider_when_slices_share_patients() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros(200, np.int64)
    right = np.repeat(rng.random(10) < 0.7, 20).astype(float)

    def spread(groups: npt.NDArray[Any]) -> float:
        weights = draw(labels, groups, 500, seed=1)
        found = interval((weights @ right) / weights.sum(axis=1))
        assert found["low"] is not None
        assert found["high"] is not None
        assert found["low"] <= right.mean() <= found["high"]
        return found["high"] - found["low"]

    assert spread(np.repeat(np.arange(10), 20)) > 2 * spread(np.arange(200))


def test_resampling_keeps_the_patients_of_each_class() -> None:
    weights = draw(np.array([0, 0, 0, 1], np.int64), ["p", "q", "r", "s"], 30, seed=1)

    assert (weights[0] == 1).all()
    assert (weights[:, 3] == 1).all()
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert len({tuple(row) for row in weights.tolist()}) > 5


def test_one_decision_a_patient() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.2, 0.8, 0], [0.45, 0.55, 0], [0.9, 0.1, 0], [1, 0, 0]])
    labels = np.array([0, 0, 1, 1, 1, 0], np.int64)
    facts = evaluate(probabilities, labels, list("ppqqqz"), [""] * 6, NAMES, list("ppqqqq"), resamples=10)["by_patient"]
    # q has slices of two labels: no one truth. p: mean 0.65 for a; one slice each, and a is the more probable.
    assert (facts["patients"], facts["several_labels"]) == (1, 1)
    assert facts["accuracy"]["value"] == facts["accuracy_by_counts"]["value"] == 1.0
    assert facts["classes"]["a"] == {"patients": 1, "right": 1, "worst_slice_accuracy": 0.5}
    assert facts["classes"]["b"] == {"patients": 0, "right": 0, "worst_slice_accuracy": None}
    assert facts["rows"][0] == {
        "patient": "p",
        "label": "a",
        "slices": 2,
        "right": 1,
        "counts": [1, 1, 0],
        "probabilities": [0.65, 0.35, 0.0],
        "by_probability": "a",
        "by_counts": "a",
    }


def test_patients_are_ranked_by_their_mean_probability() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    facts = evaluate(probabilities, np.array([0, 0, 1, 1]), list("ppqr"), [""] * 4, ("a", "b"), resamples=10)
    # Mean probabilities of b: p 0.45, q 0.6, r 0.9: all right, though one slice of p is wrong.
    assert value(facts, "by_patient", "macro_roc_auc") == 1.0
    assert facts["by_patient"]["confusion"] == [[1, 0], [0, 2]]
    assert value(facts, "metrics", "macro_roc_auc") == 0.75


def test_wrong_patients_come_first() -> None:
    labels = np.array([0, 1, 2, 0], np.int64)
    facts = evaluate(sharp([0, 1, 1, 0]), labels, list("pqrs"), [""] * 4, NAMES, resamples=10)

    assert [row["patient"] for row in facts["by_patient"]["rows"]] == ["r", "p", "q", "s"]


def test_a_perfect_and_a_useless_classifier() -> None:
    labels = np.array([0, 1, 2] * 4, np.int64)
    groups = [f"p{i}" for i in range(12)]
    perfect = evaluate(sharp(labels.tolist()), labels, groups, [""] * 12, NAMES, resamples=20)
    useless = evaluate(sharp([0] * 12), labels, groups, [""] * 12, NAMES, resamples=20)

    assert perfect["metrics"]["macro_roc_auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert value(useless, "metrics", "macro_roc_auc") == 0.5
    assert value(useless, "classes", "a", "pr_auc") == pytest.approx(1 / 3)
    assert useless["classes"]["b"]["precision"]["value"] is None
    assert "unknown" in useless["planes"]


def test_two_thousand_resamples_take_seconds_not_minutes() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 400)
    probabilities = rng.dirichlet(np.ones(4), 400)
    began = time.process_time()
    evaluate(probabilities, labels, (np.arange(400) // 8).tolist(), ["axial", "", "coronal", "sagittal"] * 100, "abcd")

    assert time.process_time() - began < 6  # about 0.6 s on an idle core
