"""Runs as an MLflow file store in a zip, so that `mlflow ui` can show them.

Owns the layout that MLflow's FileStore reads: `mlruns/<experiment>/meta.yaml`, and for each run `meta.yaml`, one file a
parameter, one a tag, one a metric with a line `time value step` an epoch, and `artifacts/`. Read against MLflow 3.17.
Everything is written as text of our own; refuses weights, which belong into an artefact.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

import yaml

from db.queries.leaderboard import flat
from db.queries.sweep_views import SweepView
from db.states import RunState
from db.sweeps import RunEpoch, TrainingRun

ROOT = "mlruns"
LONGEST = 6000
"""Characters of a parameter that MLflow accepts."""
STATUS = {
    RunState.PENDING: 2,  # scheduled
    RunState.RUNNING: 1,
    RunState.PAUSED: 2,
    RunState.FINISHED: 3,
    RunState.FAILED: 4,
    RunState.CANCELLED: 5,  # killed
}

README = """\
Sweep "{name}" of NeuroSight as an MLflow file store. Research use only, not for diagnosis.

In the folder that holds this file:

    MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri ./mlruns

Start it in this very folder, else the pictures and reports of the runs are not found. MLflow 3 opens file stores only
on request, hence the variable. Metrics by epoch have the epoch as their step; those of the report (such as
test.accuracy, with .low and .high for the 95 % interval) stand at the best epoch.
"""


@dataclass(frozen=True)
class ExportedRun:
    """What goes into the zip for one run.

    Attributes:
        run: The run.
        epochs: In order.
        report: None before the run is finished.
        pictures: File name to PNG.
    """

    run: TrainingRun
    epochs: Sequence[RunEpoch]
    report: Mapping[str, Any] | None
    pictures: Mapping[str, bytes]


def write_mlflow_zip(file: IO[bytes], sweep: SweepView, runs: Iterable[ExportedRun]) -> None:
    """Writes the zip of a sweep, or of some of its runs, one run after the other.

    Args:
        file: Where to; need not be readable.
        sweep: To which the runs belong.
        runs: Taken one at a time, so that not all pictures are in memory at once.
    """
    experiment = str(sweep.id.int % 10**18)
    top = f"{ROOT}/{experiment}"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README.format(name=sweep.name))
        archive.writestr(
            f"{top}/meta.yaml",
            yaml.safe_dump(
                {
                    "artifact_location": f"./{top}",
                    "creation_time": _ms(sweep.created_at),
                    "experiment_id": experiment,
                    "last_update_time": _ms(sweep.finished_at or sweep.created_at),
                    "lifecycle_stage": "active",
                    "name": sweep.name,
                }
            ),
        )
        for exported in runs:
            for name, data in _files(sweep, exported, top, experiment).items():
                archive.writestr(name, data)


def _files(sweep: SweepView, exported: ExportedRun, top: str, experiment: str) -> dict[str, str | bytes]:
    run, number = exported.run, exported.run.id.hex
    folder = f"{top}/{number}"
    files: dict[str, str | bytes] = {
        f"{folder}/meta.yaml": yaml.safe_dump(
            {
                "artifact_uri": f"./{folder}/artifacts",
                "end_time": _ms(run.finished_at) if run.finished_at else None,
                "entry_point_name": "",
                "experiment_id": experiment,
                "lifecycle_stage": "active",
                "run_id": number,
                "run_name": run.name,
                "run_uuid": number,
                "source_name": "",
                "source_type": 4,
                "source_version": "",
                "start_time": _ms(run.started_at or run.created_at),
                "status": STATUS[RunState(run.state)],
                "tags": [],
                "user_id": sweep.created_by,
            }
        )
    }
    for field, value in flat(run.scenario).items():
        words = value if isinstance(value, str) else json.dumps(value)
        files[f"{folder}/params/{_key(field)}"] = words[:LONGEST]
    tags = {
        "mlflow.runName": run.name,
        "mlflow.user": sweep.created_by,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "NeuroSight",
        "neurosight.sweep": sweep.name,
        "neurosight.dataset": sweep.dataset_name,
        "neurosight.state": str(run.state),
        "neurosight.scenario_digest": run.scenario_digest,
        "neurosight.code_version": run.code_version,
        "neurosight.weights_sha256": run.weights_sha256,
        "neurosight.failure": run.failure_code,
    }
    files |= {f"{folder}/tags/{name}": value for name, value in tags.items() if value}
    files |= {f"{folder}/metrics/{name}": "".join(rows) for name, rows in _metrics(exported).items()}
    artifacts = f"{folder}/artifacts"
    if exported.report is not None:
        report = {**exported.report, "slices": {}}
        files[f"{artifacts}/report.json"] = json.dumps(report, indent=1)
        files[f"{artifacts}/scenario.yaml"] = exported.report.get("repeat", {}).get("scenario_yaml", "")
    files |= {f"{artifacts}/mistakes/{name}": data for name, data in exported.pictures.items()}
    return files


def _metrics(exported: ExportedRun) -> dict[str, list[str]]:
    """Lines of each metric's file."""
    run = exported.run
    found: dict[str, list[str]] = {}
    for epoch in exported.epochs:
        for name, value in epoch.facts.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(_key(name), []).append(f"{_ms(epoch.recorded_at)} {value} {epoch.epoch}\n")
    at = _ms(run.finished_at or run.created_at)
    step = run.best_epoch or 0
    for name, interval in run.metrics.items():
        for suffix, key in (("", "value"), (".low", "low"), (".high", "high")):
            if interval.get(key) is not None:
                found[_key(name + suffix)] = [f"{at} {interval[key]} {step}\n"]
    for name, cost in (("wall_s", run.wall_s), ("peak_memory_bytes", run.peak_memory_bytes)):
        if cost:
            found.setdefault(name, []).append(f"{at} {cost} {step}\n")
    return found


def _key(name: str) -> str:
    """A name that MLflow accepts as a key and every file system as a file."""
    return re.sub(r"[^A-Za-z0-9_.\- ]", "_", name)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
