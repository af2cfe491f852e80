"""How good a network is on slices it was not trained on.

Owns: the metrics of one set of scored slices with their intervals, and the views by class, plane and patient. Refuses:
to choose anything: it is given probabilities and truth, and reports.

Every measure is computed for all bootstrap resamples at once, as a function of a table of weights (`resampling`).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.curves import areas, pr_points, roc_points
from training.resampling import draw, interval

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.int64]
Measures = dict[str, Float]

RESAMPLES: Final = 2000
_BLOCK: Final = 4_000_000
"""Weights that are worked on at a time: bounds the memory."""


def evaluate(
    probabilities: Float,
    labels: Int,
    groups: Sequence[Any],
    planes: Sequence[str],
    class_names: Sequence[str],
    patients: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 2026,
) -> dict[str, Any]:
    """All numbers of one evaluation, as JSON values.

    Args:
        probabilities: (n, k), rows adding up to 1; n >= 1.
        labels: int64 (n), index of the true class.
        groups: What is resampled as a whole: patient, or patients joined by copies.
        planes: Plane of each slice; empty when unknown.
        class_names: Of the k classes.
        patients: Patient of each slice; the groups when None.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.

    Returns:
        A part of a report; the layout is in docs/run-report.md.
    """
    names = list(class_names)
    predictions = probabilities.argmax(axis=1)
    people = np.asarray([str(group) for group in groups] if patients is None else list(patients))
    weights = draw(labels, groups, resamples, seed)
    measures = _measures(probabilities, predictions, labels, weights)
    counts = confusion(predictions, labels, len(names))
    return {
        "slices": int(labels.size),
        "patients": len(set(people.tolist())),
        "metrics": {name: interval(measures[name]) for name in _OVERALL},
        "classes": {
            name: {
                "slices": int(counts[index].sum()),
                "patients": len(set(people[labels == index].tolist())),
                "predicted": int(counts[:, index].sum()),
                **{measure: interval(measures[f"{measure}/{index}"]) for measure in _PER_CLASS},
            }
            for index, name in enumerate(names)
        },
        "confusion": counts.tolist(),
        "planes": {
            plane or "unknown": _plane(
                probabilities, predictions, labels, people, weights, np.array([p == plane for p in planes])
            )
            for plane in sorted(set(planes))
        },
        "by_patient": by_patient(probabilities, labels, people, names, weights),
        "curves": {
            name: {
                "roc": roc_points(probabilities[:, index], labels == index),
                "pr": pr_points(probabilities[:, index], labels == index),
            }
            for index, name in enumerate(names)
        },
    }


_OVERALL: Final = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_roc_auc",
    "macro_pr_auc",
)
_FEW: Final = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc")
_PER_CLASS: Final = ("precision", "recall", "f1", "roc_auc", "pr_auc")


def confusion(predictions: Int, labels: Int, classes: int) -> Int:
    """Counts int64 (k, k): rows truth, columns prediction."""
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def _measures(probabilities: Float, predictions: Int, labels: Int, weights: Float) -> Measures:
    """Every measure for every row of weights: float64 (r) by name; `MEASURE/INDEX` for one class."""
    rows = max(1, _BLOCK // max(1, labels.size))
    blocks = [
        {
            **_counted(predictions, labels, weights[start : start + rows], probabilities.shape[1]),
            **_ranked(probabilities, labels, weights[start : start + rows]),
        }
        for start in range(0, len(weights), rows)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _counted(predictions: Int, labels: Int, weights: Float, classes: int) -> Measures:
    """What follows from the confusion matrix.

    A class that does not occur counts in no mean; one that occurs but was never predicted has precision 0 in the mean
    and none of its own.
    """
    cells = np.zeros((labels.size, classes * classes))
    cells[np.arange(labels.size), labels * classes + predictions] = 1
    table = (weights @ cells).reshape(-1, classes, classes)
    right = np.diagonal(table, axis1=1, axis2=2)
    actual, predicted = table.sum(axis=2), table.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / predicted, right / actual
        f1 = 2 * right / (actual + predicted)
        accuracy = right.sum(axis=1) / actual.sum(axis=1)
    occurs = actual > 0
    found: Measures = {
        "accuracy": accuracy,
        "balanced_accuracy": _mean(recall, occurs),
        "macro_precision": _mean(np.nan_to_num(precision), occurs | (predicted > 0)),
        "macro_recall": _mean(recall, occurs),
        "macro_f1": _mean(f1, occurs | (predicted > 0)),
    }
    for index in range(classes):
        found[f"precision/{index}"] = precision[:, index]
        found[f"recall/{index}"] = recall[:, index]
        found[f"f1/{index}"] = f1[:, index]
    return found


def _ranked(probabilities: Float, labels: Int, weights: Float) -> Measures:
    """The areas under the curves, one class against the rest."""
    found: Measures = {}
    for index in range(probabilities.shape[1]):
        roc, pr = areas(probabilities[:, index], labels == index, weights)
        found[f"roc_auc/{index}"], found[f"pr_auc/{index}"] = roc, pr
    for name in ("roc_auc", "pr_auc"):
        columns = np.stack([found[f"{name}/{index}"] for index in range(probabilities.shape[1])], axis=1)
        found[f"macro_{name}"] = _mean(columns, ~np.isnan(columns))
    return found


def _mean(values: Float, counts: npt.NDArray[np.bool_]) -> Float:
    """Mean over the columns (r, k) that count; NaN where none does."""
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts, values, 0.0).sum(axis=1) / np.where(total > 0, total, np.nan))


def _plane(
    probabilities: Float,
    predictions: Int,
    labels: Int,
    people: npt.NDArray[Any],
    weights: Float,
    rows: npt.NDArray[Any],
) -> dict[str, Any]:
    """One plane's numbers."""
    found = _measures(probabilities[rows], predictions[rows], labels[rows], weights[:, rows])
    return {
        "slices": int(rows.sum()),
        "patients": len(set(people[rows].tolist())),
        **{name: interval(found[name]) for name in _FEW},
        "confusion": confusion(predictions[rows], labels[rows], probabilities.shape[1]).tolist(),
    }


def by_patient(
    probabilities: Float, labels: Int, people: npt.NDArray[Any], names: Sequence[str], weights: Float
) -> dict[str, Any]:
    """One decision a patient: by the mean probability over the patient's slices, and by how slices were called.

    Args:
        probabilities: (n, k).
        labels: int64 (n).
        people: Patient of each slice.
        names: Of the classes.
        weights: float64 (r, n); slices of one patient have the same.

    Returns:
        See docs/run-report.md.
    """
    predictions = probabilities.argmax(axis=1)
    rows: list[dict[str, Any]] = []
    first, truths, means, several = [], [], [], 0
    for person in np.unique(people):
        mine = np.flatnonzero(people == person)
        if len(set(labels[mine].tolist())) > 1:
            several += 1
            continue
        mean = probabilities[mine].mean(axis=0)
        counts = np.bincount(predictions[mine], minlength=len(names))
        # Equal counts: the more probable of them; half a probability never outweighs a count.
        by_counts = int((counts + mean / 2).argmax())
        truth = int(labels[mine[0]])
        first.append(mine[0])
        truths.append(truth)
        means.append(mean)
        rows.append(
            {
                "patient": str(person),
                "label": names[truth],
                "slices": int(mine.size),
                "right": int(counts[truth]),
                "counts": counts.tolist(),
                "probabilities": [round(float(value), 6) for value in mean],
                "by_probability": names[int(mean.argmax())],
                "by_counts": names[by_counts],
            }
        )
    drawn = weights[:, np.array(first, np.int64)]
    decided = np.array(means).reshape(-1, len(names))
    actual, said = np.array(truths, np.int64), decided.argmax(axis=1).astype(np.int64)
    measures = _measures(decided, said, actual, drawn)
    counted = np.array([row["by_counts"] == row["label"] for row in rows], float)
    with np.errstate(invalid="ignore"):
        counted_shares = (drawn @ counted) / drawn.sum(axis=1)
    of_class = {name: [row for row in rows if row["label"] == name] for name in names}
    return {
        "patients": len(rows),
        "several_labels": several,
        **{name: interval(measures[name]) for name in _FEW},
        "accuracy_by_counts": interval(counted_shares),
        "confusion": confusion(said, actual, len(names)).tolist(),
        "classes": {
            name: {
                "patients": len(mine),
                "right": sum(row["by_probability"] == name for row in mine),
                "worst_slice_accuracy": min((row["right"] / row["slices"] for row in mine), default=None),
            }
            for name, mine in of_class.items()
        },
        "rows": sorted(rows, key=lambda row: (row["by_probability"] == row["label"], row["patient"])),
    }
