"""Confidence intervals by resampling whole groups.

Owns: bootstrap resamples as a table of weights, and intervals of whatever is computed from it. Refuses: to know any
measure.

Slices of one patient resemble one another, so whole groups (patients with their copies) are drawn, with replacement,
within each class: with few patients the intervals are wide, and that is the truth of the matter. A resample is a row
of weights: how often each slice was drawn. Row 0 is all ones, so that value and resamples come out of one computation
on the whole table (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; percentile intervals, chapter 13).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def draw(labels: Int, groups: Sequence[Any] | npt.NDArray[Any], resamples: int, seed: int) -> Weights:
    """How often each slice stands in each resample.

    Args:
        labels: int64 (n); a group is drawn among those of its most frequent label.
        groups: Group of each slice.
        resamples: Number of resamples.
        seed: Of the generator.

    Returns:
        float64 (resamples + 1, n), row 0 all ones.
    """
    rng = np.random.default_rng(seed)
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    count = int(members.max()) + 1 if members.size else 0
    classes = int(labels.max()) + 1 if labels.size else 0
    votes = np.zeros((count, classes), np.int64)
    np.add.at(votes, (members, labels), 1)
    stratum = votes.argmax(axis=1)
    drawn = np.ones((resamples + 1, count))
    for label in np.unique(stratum):
        columns = np.flatnonzero(stratum == label)
        drawn[1:, columns] = rng.multinomial(columns.size, np.full(columns.size, 1 / columns.size), resamples)
    return drawn[:, members]


def interval(values: npt.NDArray[np.floating[Any]]) -> dict[str, float | None]:
    """Value and 95 % percentile interval.

    Args:
        values: (r): the value on all slices, then one of each resample; NaN where it is undefined.

    Returns:
        `value`, `low`, `high`; None where undefined.
    """
    known = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(known, [2.5, 97.5]).tolist() if known.size else (None, None)
    return {"value": None if np.isnan(values[0]) else float(values[0]), "low": low, "high": high}
