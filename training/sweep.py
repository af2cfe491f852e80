"""A sweep from the command line: every scenario of a file, its reports, one leaderboard.

Owns: the order of the groups, which runs are done already, and the files: `NAME.report.json` and what belongs to it,
`leaderboard.csv`, the splits, the states. Refuses: databases and queues (the training workers have their own way to the
same engine), and to choose a winner by the test part: the leaderboard is sorted by the validation loss.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.errors import RunError
from training.failures import RunFailure
from training.groups import sharing_key, train_group
from training.pipeline import Material, gather
from training.recorder import JsonLinesRecorder
from training.report import run_report
from training.runs import RunResult
from training.scenario import Scenario

log = logging.getLogger(__name__)

_DECIDES_SPLIT: Final = ("class_names", "planes", "split_rule", "seed")
_METRICS: Final = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "patient_accuracy")
_COLUMNS: Final = (
    "name",
    "network",
    "weights",
    "learns",
    "optimizer",
    "learning_rate",
    "state",
    "detail",
    "epochs",
    "best_epoch",
    "validation_loss",
    *(f"{part}_{name}{end}" for part in ("validation", "test") for name in _METRICS for end in ("", "_low", "_high")),
    "wall_s",
    "images_per_s",
    "peak_memory_bytes",
)


@dataclass(frozen=True)
class Places:
    """Where a sweep finds and leaves its files.

    Attributes:
        data: Folder of the data set.
        weights_dir: Folder of ImageNet weights and artefacts, if any.
        out: Reports, splits, leaderboard.
        state_dir: States of the runs.
        cache_dir: Outputs of frozen parts, shared by all sweeps.
    """

    data: Path
    weights_dir: Path | None
    out: Path
    state_dir: Path
    cache_dir: Path


def sweep(scenarios: Sequence[Scenario], places: Places, threads: int, test: bool = True) -> int:
    """Train and report every scenario; what is done already is read.

    Args:
        scenarios: Of one file, or some of them.
        places: The folders.
        threads: Threads of the numeric library.
        test: Whether the test part is scored.

    Returns:
        How many runs failed; the others have their report.

    Raises:
        DatasetError: The data do not fit the scenarios.
    """
    board = _Board(scenarios, places.out / "leaderboard.csv")
    materials: dict[str, Material] = {}
    groups: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(sharing_key(scenario), []).append(scenario)
    for number, group in enumerate(groups.values()):
        log.info("group %d of %d: %d runs", number + 1, len(groups), len(group))
        material = _material(group[0], places, materials)
        by_name = {scenario.name: scenario for scenario in group}
        train_group(
            group,
            material,
            places.state_dir,
            [JsonLinesRecorder(places.out / f"{name}.log.jsonl", name) for name in by_name],
            places.weights_dir,
            places.cache_dir,
            threads,
            ended=lambda end, m=material, s=by_name: board.note(  # type: ignore[misc]
                s[end.name], end, _report(s[end.name], m, end, places.out, test)
            ),
        )
    return board.failures


def chosen(scenarios: Sequence[Scenario], only: Sequence[str]) -> Sequence[Scenario]:
    """The scenarios of these names, or all when no name is given.

    Raises:
        RunError: A name is unknown.
    """
    names = [scenario.name for scenario in scenarios]
    if unknown := sorted(set(only) - set(names)):
        raise RunError(f"The file has no scenario {', '.join(map(repr, unknown))}; it has {', '.join(names)}.")
    return [scenario for scenario in scenarios if not only or scenario.name in only]


def _material(scenario: Scenario, places: Places, known: dict[str, Material]) -> Material:
    """Data and split, gathered once for all groups that split alike."""
    record = scenario.to_json()
    facts = json.dumps([record[name] for name in _DECIDES_SPLIT])
    key = hashlib.sha256(facts.encode()).hexdigest()[:8]
    if key not in known:
        known[key] = gather(scenario, places.data, places.out / f"split-{key}.csv")
    return known[key]


def _report(
    scenario: Scenario, material: Material, end: RunResult | RunFailure, out: Path, test: bool
) -> Mapping[str, Any]:
    if isinstance(end, RunFailure):
        return {}
    record: Mapping[str, Any] = run_report(scenario, material, end, out, test=test).record
    return record


class _Board:
    """The leaderboard, written anew after each run.

    Args:
        scenarios: All runs of the sweep; those without an end yet stand as waiting.
        path: The CSV file.
    """

    def __init__(self, scenarios: Sequence[Scenario], path: Path) -> None:
        self._path = path
        self._rows = {scenario.name: _settings(scenario) for scenario in scenarios}
        self.failures = 0

    def note(self, scenario: Scenario, end: RunResult | RunFailure, report: Mapping[str, Any]) -> None:
        """Enter the end of a run."""
        row = self._rows[scenario.name]
        if isinstance(end, RunFailure):
            self.failures += 1
            row.update(state=end.code, detail=end.detail)
        else:
            row.update(
                state="finished",
                epochs=len(end.history),
                best_epoch=end.best_epoch,
                validation_loss=end.best_loss,
                **{name: end.facts[name] for name in ("wall_s", "images_per_s", "peak_memory_bytes")},
            )
            for part in ("validation", "test"):
                for name in _METRICS:
                    interval = report["leaderboard"].get(f"{part}.{name}") or {}
                    row[f"{part}_{name}"] = interval.get("value")
                    row[f"{part}_{name}_low"], row[f"{part}_{name}_high"] = interval.get("low"), interval.get("high")
        self._write()

    def _write(self) -> None:
        """Best validation loss first, then what failed or waits."""
        rows = sorted(self._rows.values(), key=lambda row: row.get("validation_loss", float("inf")))
        temporary = self._path.with_suffix(".part")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(self._path)


def _settings(scenario: Scenario) -> dict[str, Any]:
    fields = ("name", "network", "weights", "learns", "optimizer", "learning_rate")
    return {**{name: getattr(scenario, name) for name in fields}, "state": "waiting"}
