"""Sweeps and runs as JSON and CSV.

Owns these documents, for the API and for downloads. Refuses what is not in the database.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import url_for

from db.queries import leaderboard
from db.queries.sweep_views import Remaining, SweepView
from db.states import RUN_ENDED, SWEEP_ENDED, RunState, SweepState
from db.sweeps import RunEpoch, TrainingRun
from web.sentences import english


def sweep_document(view: SweepView, left: Remaining | None) -> dict[str, Any]:
    """A sweep without its runs."""
    at = {name: url_for(f"sweeps.sweep_{name}", sweep_id=view.id) for name in ("csv", "json", "mlflow")}
    links = {"self": url_for("sweeps.sweep", sweep_id=view.id), "runs": url_for("sweeps.sweep_runs", sweep_id=view.id)}
    if view.state == SweepState.RUNNING:
        links["pause"] = url_for("sweeps.pause", sweep_id=view.id)
    if view.state in (SweepState.PAUSED, SweepState.CANCELLED):
        links["resume"] = url_for("sweeps.resume", sweep_id=view.id)
    if view.state not in SWEEP_ENDED:
        links["cancel"] = url_for("sweeps.cancel", sweep_id=view.id)
    return {
        "id": view.id,
        "name": view.name,
        "state": view.state,
        "ended": view.state in SWEEP_ENDED,
        "dataset_id": view.dataset_id,
        "dataset": view.dataset_name,
        "begun_by": view.created_by,
        "scenario_file": view.scenario_file,
        "scenario_text": view.scenario_text,
        "problems": list(view.problems),
        "code_version": view.code_version,
        "runs": {str(state): count for state, count in view.counts.items()},
        "epochs_done": view.epochs_done,
        "epochs_planned": view.epochs_planned,
        "seconds_left": None if left is None or left.seconds is None else round(left.seconds, 1),
        "unmeasured_runs": left.unmeasured_runs if left else 0,
        "created_at": view.created_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "links": links | at,
    }


def run_document(run: TrainingRun) -> dict[str, Any]:
    """A run without its epochs and report."""
    links = {
        "self": url_for("sweeps.run", run_id=run.id),
        "sweep": url_for("sweeps.sweep", sweep_id=run.sweep_id),
        "json": url_for("sweeps.run_json", run_id=run.id),
        "mlflow": url_for("sweeps.run_mlflow", run_id=run.id),
    }
    if run.state in (RunState.FAILED, RunState.CANCELLED):
        links["retry"] = url_for("sweeps.retry", run_id=run.id)
    failure = {"code": run.failure_code, "sentence": english(run.failure_code, run.failure_detail)}
    return {
        "id": run.id,
        "sweep_id": run.sweep_id,
        "name": run.name,
        "state": RunState(run.state),
        "ended": run.state in RUN_ENDED,
        "scenario": run.scenario,
        "scenario_digest": run.scenario_digest,
        "attempts": run.attempts,
        "epochs_done": run.epochs_done,
        "epochs_planned": run.epochs_planned,
        "best_epoch": run.best_epoch,
        "metrics": run.metrics,
        "failure": failure if run.failure_code else None,
        "wall_s": run.wall_s,
        "images_per_s": run.images_per_s,
        "peak_memory_bytes": run.peak_memory_bytes,
        "code_version": run.code_version,
        "weights_sha256": run.weights_sha256,
        "checkpoint_id": run.checkpoint_id,
        "facts": run.facts,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "links": links,
    }


def epoch_document(epoch: RunEpoch) -> dict[str, Any]:
    """What a run reported at the end of an epoch."""
    return {"epoch": epoch.epoch, "recorded_at": epoch.recorded_at, "facts": epoch.facts}


def leaderboard_csv(runs: Sequence[TrainingRun], metric: str) -> Iterator[str]:
    """The leaderboard as CSV: one row a run, the best first; each metric with the ends of its interval."""
    entries = leaderboard.ranked(runs, metric)
    names = leaderboard.metric_names(runs)
    changed = list(entries[0].changed) if entries else []
    head = ["place", "run", "state", *leaderboard.AXES, *changed, "epochs", "best_epoch", "wall_s", "images_per_s"]
    head += ["peak_memory_bytes", "failure", "scenario_digest", "weights_sha256"]
    yield _row([*head, *(f"{name}{end}" for name in names for end in ("", ".low", ".high"))])
    for entry in entries:
        run = entry.run
        fields: Mapping[str, Any] = leaderboard.flat(run.scenario)
        values = [entry.place, run.name, run.state, *(fields.get(field) for field in (*leaderboard.AXES, *changed))]
        values += [run.epochs_done, run.best_epoch, run.wall_s, run.images_per_s, run.peak_memory_bytes]
        values += [run.failure_code, run.scenario_digest, run.weights_sha256]
        for name in names:
            number = leaderboard.interval(run, name)
            values += [number.value, number.low, number.high]
        yield _row(values)


def _row(values: Sequence[Any]) -> str:
    """One line; texts that a spreadsheet would take for a formula are kept from it."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(value) for value in values])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return "" if value is None else value
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
