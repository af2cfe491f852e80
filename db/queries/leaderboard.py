"""Runs side by side: which metrics they have, in which fields of their scenarios they differ, and who leads.

Owns the ranking. The first choice is always a metric of the validation part: whoever picks the best of many runs by
the test part chooses what luck did there, and has no honest number left. Refuses to read the database: it is given the
rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.sweeps import TrainingRun

FIRST_CHOICES = ("validation.macro_f1", "validation.balanced_accuracy", "validation.accuracy")
"""The leaderboard's order, by the first of these that a run has."""

MAIN = (
    "validation.accuracy",
    "validation.macro_f1",
    "validation.macro_roc_auc",
    "test.accuracy",
    "test.macro_f1",
    "test.macro_roc_auc",
)
"""Columns of the table, as far as the runs have them."""

SMALLER_IS_BETTER = ("ece_before", "ece_after")

AXES = ("network", "optimizer", "learning_rate")
"""Fields of a scenario that always have a column."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; each may be unknown."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        place: 1 is the best, equal numbers share a place; runs without the number have none.
        run: The run.
        numbers: Its metrics, by name.
        changed: Fields of its scenario in which the runs differ, besides `AXES`.
    """

    place: int | None
    run: TrainingRun
    numbers: Mapping[str, Interval]
    changed: Mapping[str, Any]


def interval(run: TrainingRun, metric: str) -> Interval:
    """One metric of a run; all unknown when it does not have it."""
    found = run.metrics.get(metric) or {}
    return Interval(found.get("value"), found.get("low"), found.get("high"))


def metric_names(runs: Sequence[TrainingRun]) -> list[str]:
    """Every metric that any run has: validation before test, the main ones first, the others by name."""
    there = {name for run in runs for name in run.metrics}
    return [name for name in MAIN if name in there] + sorted(
        there - set(MAIN), key=lambda name: (not name.startswith("validation."), name)
    )


def first_choice(runs: Sequence[TrainingRun]) -> str:
    """The metric by which the table is ordered unless somebody chooses another."""
    there = {name for run in runs for name in run.metrics}
    return next((name for name in FIRST_CHOICES if name in there), FIRST_CHOICES[0])


def is_better_small(metric: str) -> bool:
    """Whether a smaller number of this metric is the better one."""
    return metric.rpartition(".")[2] in SMALLER_IS_BETTER


def ranked(
    runs: Sequence[TrainingRun], metric: str, *, state: str = "", network: str = "", optimizer: str = ""
) -> list[Entry]:
    """The runs that pass the filters, the best first; those without the number come last, in their own order.

    Args:
        runs: All runs of a sweep.
        metric: `PART.NAME`.
        state: A `RunState`, or empty: any.
        network: Of the scenario, or empty: any.
        optimizer: Of the scenario, or empty: any.
    """
    differing = [field for field in varied([flat(run.scenario) for run in runs]) if field not in AXES]
    kept = [
        run
        for run in runs
        if (not state or run.state == state)
        and (not network or run.scenario.get("network") == network)
        and (not optimizer or run.scenario.get("optimizer") == optimizer)
    ]
    sign = 1 if is_better_small(metric) else -1

    def order(run: TrainingRun) -> tuple[bool, float, int]:
        value = interval(run, metric).value
        return value is None, 0.0 if value is None else sign * value, run.sequence

    names = metric_names(runs)
    entries: list[Entry] = []
    for number, run in enumerate(sorted(kept, key=order), 1):
        fields = flat(run.scenario)
        value = interval(run, metric).value
        before = entries[-1] if entries else None
        equal = before is not None and value == interval(before.run, metric).value
        entries.append(
            Entry(
                None if value is None else before.place if before and equal else number,
                run,
                {name: interval(run, name) for name in names if name in run.metrics},
                {field: fields.get(field) for field in differing},
            )
        )
    return entries


def flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Fields of a scenario by dotted names; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{before}{key}."))
        else:
            found[f"{before}{key}"] = value
    return found


def varied(scenarios: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fields in which flat scenarios differ, besides their names, in the order of the first one that has them."""
    fields = dict.fromkeys(field for scenario in scenarios for field in scenario if field != "name")
    return [
        field
        for field in fields
        if len({json.dumps(scenario.get(field), sort_keys=True) for scenario in scenarios}) > 1
    ]
