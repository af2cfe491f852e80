"""ROC and precision-recall curves, and the areas under them.

Owns: points of a curve, bounded in number, and both areas for a whole table of bootstrap weights at once. Refuses: to
choose a threshold.

The area under the ROC curve is the Mann-Whitney statistic: the share of pairs of a positive and a negative slice in
which the positive one has the higher score, ties counting half. The area under the precision-recall curve is the
average precision, sum over thresholds of (rise of recall) x precision, without interpolation (Davis and Goadrich,
ICML 2006, show why a straight line between its points would flatter).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]
Bool = npt.NDArray[np.bool_]
Point = list[float | None]

MAX_POINTS: Final = 200


def areas(scores: Float, positive: Bool, weights: Float) -> tuple[Float, Float]:
    """Areas under the ROC and the precision-recall curve for each row of weights.

    Args:
        scores: (n), higher means more positive.
        positive: bool (n).
        weights: float64 (r, n), how often each slice counts.

    Returns:
        Both float64 (r); NaN where a row has no positive slice, or (ROC) no negative one.
    """
    if scores.size == 0:
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing
    order, ends = _descending(scores)
    sorted_weights = weights[:, order]
    called = np.cumsum(sorted_weights, axis=1)[:, ends]
    hits = np.cumsum(sorted_weights * positive[order], axis=1)[:, ends]
    misses = called - hits
    new_hits = np.diff(hits, axis=1, prepend=0)
    new_misses = np.diff(misses, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = (new_misses * (hits - new_hits / 2)).sum(axis=1) / (hits[:, -1] * misses[:, -1])
        precision = np.where(called > 0, hits / called, 0.0)
        pr = (new_hits * precision).sum(axis=1) / hits[:, -1]
    return roc, pr


def roc_points(scores: Float, positive: Bool, limit: int = MAX_POINTS) -> list[Point]:
    """False positive rate, true positive rate and threshold, from nothing called positive to everything.

    Args:
        scores: (n).
        positive: bool (n).
        limit: Largest number of points; the ends are always there.

    Returns:
        Points; none when there are no positive or no negative slices. The threshold of the first one is None.
    """
    hits, misses, thresholds = _counts(scores, positive)
    if not hits.size or hits[-1] == 0 or misses[-1] == 0:
        return []
    x = np.concatenate([[0.0], misses / misses[-1]])
    y = np.concatenate([[0.0], hits / hits[-1]])
    return _points(x, y, thresholds, limit)


def pr_points(scores: Float, positive: Bool, limit: int = MAX_POINTS) -> list[Point]:
    """Recall, precision and threshold, from nothing called positive (0 and, by convention, 1) to everything.

    Args:
        scores: (n).
        positive: bool (n).
        limit: Largest number of points; the ends are always there.

    Returns:
        Points; none when there are no positive slices. The threshold of the first one is None.
    """
    hits, misses, thresholds = _counts(scores, positive)
    if not hits.size or hits[-1] == 0:
        return []
    x = np.concatenate([[0.0], hits / hits[-1]])
    y = np.concatenate([[1.0], hits / (hits + misses)])
    return _points(x, y, thresholds, limit)


def _descending(scores: Float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The order from the highest score on, and the last place of each group of equal scores in it."""
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), scores.size - 1)
    return order, ends


def _counts(scores: Float, positive: Bool) -> tuple[Float, Float, Float]:
    """True and false positives at each threshold, from the highest on, and the thresholds."""
    if scores.size == 0:
        nothing = np.empty(0)
        return nothing, nothing, nothing
    order, ends = _descending(scores)
    hits = np.cumsum(positive[order])[ends].astype(float)
    return hits, ends + 1 - hits, scores[order][ends].astype(float)


def _points(x: Float, y: Float, thresholds: Float, limit: int) -> list[Point]:
    """At most `limit` points, evenly along the curve; those on a straight line between their neighbours go first."""
    dx, dy = np.diff(x), np.diff(y)
    bend = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-12
    kept = np.concatenate([[0], np.flatnonzero(bend) + 1, [x.size - 1]])
    if kept.size > limit:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x[kept])) + np.abs(np.diff(y[kept])))])
        places = np.searchsorted(way, np.linspace(0, way[-1], limit))
        kept = kept[np.unique(np.concatenate([[0], places[1:-1], [kept.size - 1]]))]
    named: list[float | None] = [None, *thresholds.tolist()]
    return [[float(x[i]), float(y[i]), named[i]] for i in kept.tolist()]
