"""How good a network is on slices it was not trained on.

Owns: the metrics of one set of scored slices, their confidence intervals by resampling patients, and the views by
plane and by patient. Refuses: to choose anything: it is given probabilities and truth, and reports.

Slices of one patient resemble one another, so intervals are drawn by resampling whole patients (groups) within each
class, not slices: with few patients they are wide, and that is the truth of the matter.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.int64]


def evaluate(
    probabilities: Float,
    labels: Int,
    groups: Sequence[str],
    planes: Sequence[str],
    class_names: Sequence[str],
    resamples: int = 2000,
    seed: int = 2026,
) -> dict[str, Any]:
    """All numbers of one evaluation, as JSON values.

    Args:
        probabilities: (n, k), rows adding up to 1.
        labels: int64 (n), index of the true class.
        groups: Patient or near-duplicate group of each slice.
        planes: Plane of each slice; empty when unknown.
        class_names: Of the k classes.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.

    Returns:
        Counts, slice metrics with 95 % intervals, one entry a class, the confusion matrix (rows truth, columns
        prediction), one entry a plane, and the patient-level accuracy.
    """
    predictions = probabilities.argmax(axis=1)
    names = list(class_names)
    group_ids = np.asarray(groups)
    measures: dict[str, Callable[[Int], float]] = {
        "accuracy": lambda rows: accuracy(predictions[rows], labels[rows]),
        "balanced_accuracy": lambda rows: balanced_accuracy(predictions[rows], labels[rows]),
        "macro_f1": lambda rows: macro_f1(predictions[rows], labels[rows], len(names)),
        "macro_roc_auc": lambda rows: macro_roc_auc(probabilities[rows], labels[rows]),
    }
    for index, name in enumerate(names):
        measures[f"recall_{name}"] = lambda rows, i=index: recall(predictions[rows], labels[rows], i)  # type: ignore[misc]
    everything = np.arange(labels.size)
    intervals = bootstrap(measures, labels, group_ids, resamples, seed)
    return {
        "slices": int(labels.size),
        "patients": len(set(groups)),
        "metrics": {
            name: {"value": measure(everything), "low": intervals[name][0], "high": intervals[name][1]}
            for name, measure in measures.items()
        },
        "classes": {name: _class_facts(predictions, labels, group_ids, i) for i, name in enumerate(names)},
        "confusion": confusion(predictions, labels, len(names)).tolist(),
        "planes": {
            plane or "unknown": _subset(probabilities, labels, np.array([p == plane for p in planes]))
            for plane in sorted(set(planes))
        },
        "by_patient": patients(probabilities, labels, group_ids, names),
    }


def accuracy(predictions: Int, labels: Int) -> float:
    """Share of slices whose prediction is the label."""
    return float((predictions == labels).mean())


def recall(predictions: Int, labels: Int, index: int) -> float:
    """Share of the slices of a class that were found; NaN when there are none."""
    of_class = labels == index
    return float((predictions[of_class] == index).mean()) if of_class.any() else float("nan")


def balanced_accuracy(predictions: Int, labels: Int) -> float:
    """Mean recall of the classes that occur."""
    return float(np.mean([recall(predictions, labels, int(index)) for index in np.unique(labels)]))


def confusion(predictions: Int, labels: Int, classes: int) -> Int:
    """Counts int64 (k, k): rows truth, columns prediction."""
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def macro_f1(predictions: Int, labels: Int, classes: int) -> float:
    """Mean F1 of the classes that occur in truth or prediction."""
    table = confusion(predictions, labels, classes)
    right, total = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    present = total > 0
    return float((2 * right[present] / total[present]).mean())


def macro_roc_auc(probabilities: Float, labels: Int) -> float:
    """Mean over classes of the one-against-rest area under the ROC curve; NaN when only one class occurs.

    The area is the Mann-Whitney statistic: the share of pairs of a slice of the class and another in which the first
    has the higher probability, ties counting half.
    """
    areas = []
    for index in range(probabilities.shape[1]):
        positive = labels == index
        if positive.any() and not positive.all():
            others = np.sort(probabilities[~positive, index])
            mine = probabilities[positive, index]
            below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
            areas.append(below.mean() / (2 * others.size))
    return float(np.mean(areas)) if areas else float("nan")


def bootstrap(
    measures: dict[str, Callable[[Int], float]],
    labels: Int,
    groups: npt.NDArray[Any],
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals from resampling whole groups within each class.

    Args:
        measures: Functions of the rows that were drawn.
        labels: int64 (n); a group is resampled within the class of its first slice.
        groups: Group of each slice.
        resamples: Number of resamples.
        seed: Of the generator.

    Returns:
        Low and high end by name.
    """
    rng = np.random.default_rng(seed)
    rows_of = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    strata: dict[int, list[Int]] = {}
    for rows in rows_of.values():
        strata.setdefault(int(labels[rows[0]]), []).append(rows)
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(resamples):
        drawn = np.concatenate(
            [members[i] for members in strata.values() for i in rng.integers(0, len(members), len(members))]
        )
        for name, measure in measures.items():
            found[name].append(measure(drawn))
    return {
        name: (float(np.nanpercentile(values, 2.5)), float(np.nanpercentile(values, 97.5)))
        for name, values in found.items()
    }


def patients(probabilities: Float, labels: Int, groups: npt.NDArray[Any], names: Sequence[str]) -> dict[str, Any]:
    """One decision a patient: the class with the highest mean probability over the patient's slices.

    Returns:
        `accuracy`, `patients`, and by class how many patients there are, how many were right, and the smallest share
        of right slices of any patient.
    """
    decided: dict[str, dict[str, Any]] = {
        name: {"patients": 0, "right": 0, "worst_slice_accuracy": 1.0} for name in names
    }
    predictions = probabilities.argmax(axis=1)
    for group in np.unique(groups):
        rows = groups == group
        truth = int(labels[rows][0])
        facts = decided[names[truth]]
        facts["patients"] += 1
        facts["right"] += int(probabilities[rows].mean(axis=0).argmax() == truth)
        facts["worst_slice_accuracy"] = min(
            facts["worst_slice_accuracy"], float((predictions[rows] == labels[rows]).mean())
        )
    total = sum(facts["patients"] for facts in decided.values())
    return {"patients": total, "accuracy": sum(f["right"] for f in decided.values()) / total, "classes": decided}


def _class_facts(predictions: Int, labels: Int, groups: npt.NDArray[Any], index: int) -> dict[str, Any]:
    """Counts, precision, recall and F1 of one class; None where a share has nothing to divide by."""
    truth, said = labels == index, predictions == index
    right, actual, predicted = int((truth & said).sum()), int(truth.sum()), int(said.sum())
    return {
        "slices": actual,
        "patients": len(set(groups[truth].tolist())),
        "precision": right / predicted if predicted else None,
        "recall": right / actual if actual else None,
        "f1": 2 * right / (actual + predicted) if actual + predicted else None,
    }


def _subset(probabilities: Float, labels: Int, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    predictions = probabilities[rows].argmax(axis=1)
    return {
        "slices": int(rows.sum()),
        "accuracy": accuracy(predictions, labels[rows]),
        "balanced_accuracy": balanced_accuracy(predictions, labels[rows]),
    }
