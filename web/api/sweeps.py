"""API: sweeps and runs: begin, steer, watch, fetch.

Everything that the pages can do. Clinicians may look, administrators steer. A run's export holds slices by name and the
patients' names of the data set, so that it is in the audit trail.
"""

import tempfile
import uuid
from collections.abc import Sequence
from typing import Any

from flask import Response, send_file, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.queries import leaderboard, sweep_views
from db.states import Role
from db.sweeps import RunMistake, TrainingRun
from web import steering, training_documents
from web.access import requires
from web.api import sweep_schemas as schemas
from web.api.jobs import CSV_DOC, csv_response
from web.api.routing import ApiBlueprint
from web.mlflow_export import ExportedRun, write_mlflow_zip
from web.objects import note
from web.problems import Problem
from web.services import services

blueprint = ApiBlueprint("sweeps", __name__, description="Training: sweeps, runs and what they reported")
ZIP = "application/zip"


@blueprint.at("GET", "/sweeps", problems=(422,))
@blueprint.takes(schemas.PageQuery, location="query")
@blueprint.gives(200, schemas.SweepPage)
@requires(Role.CLINICIAN)
def sweeps(wanted: dict[str, Any]) -> dict[str, Any]:
    """Sweeps, the newest first."""
    size, age_s = wanted["page_size"], services().settings.worker_ready_age_s
    with services().database.read() as db:
        found = sweep_views.list_sweeps(db, limit=size, offset=(wanted["page"] - 1) * size)
        left = {view.id: sweep_views.remaining(db, view.id, worker_age_s=age_s) for view in found}
        total = sweep_views.count_sweeps(db)
    rows = [training_documents.sweep_document(view, left[view.id]) for view in found]
    return {"sweeps": rows, "page": wanted["page"], "page_size": size, "total": total}


@blueprint.at("POST", "/sweeps", problems=(422,))
@blueprint.takes(schemas.NewSweep)
@blueprint.gives(202, schemas.Sweep)
@requires(Role.ADMIN, header_csrf=True)
def begin(wanted: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Begins a sweep. A worker reads the scenarios then: the sweep runs, or is `refused` with every mistake named."""
    sweep_id = steering.begin(**wanted)
    return _document(sweep_id), 202, {"Location": url_for("sweeps.sweep", sweep_id=sweep_id)}


@blueprint.at("GET", "/sweeps/<uuid:sweep_id>", problems=(404,))
@blueprint.gives(200, schemas.Sweep)
@requires(Role.CLINICIAN)
def sweep(sweep_id: uuid.UUID) -> dict[str, Any]:
    """A sweep: state, runs by state, progress, remaining time, mistakes when it was refused."""
    return _document(sweep_id)


@blueprint.at("POST", "/sweeps/<uuid:sweep_id>/pause", problems=(404, 409))
@blueprint.gives(200, schemas.Sweep)
@requires(Role.ADMIN, header_csrf=True)
def pause(sweep_id: uuid.UUID) -> dict[str, Any]:
    """Pauses a sweep; its runs keep their last epoch."""
    return _steered(sweep_id, steering.pause(sweep_id))


@blueprint.at("POST", "/sweeps/<uuid:sweep_id>/resume", problems=(404, 409))
@blueprint.gives(200, schemas.Sweep)
@requires(Role.ADMIN, header_csrf=True)
def resume(sweep_id: uuid.UUID) -> dict[str, Any]:
    """Takes up a paused or cancelled sweep from where each run was."""
    return _steered(sweep_id, steering.resume(sweep_id))


@blueprint.at("POST", "/sweeps/<uuid:sweep_id>/cancel", problems=(404, 409))
@blueprint.gives(200, schemas.Sweep)
@requires(Role.ADMIN, header_csrf=True)
def cancel(sweep_id: uuid.UUID) -> dict[str, Any]:
    """Cancels a sweep; finished runs are kept."""
    return _steered(sweep_id, steering.cancel(sweep_id))


@blueprint.at("GET", "/sweeps/<uuid:sweep_id>/runs", problems=(404,))
@blueprint.gives(200, schemas.RunList)
@requires(Role.CLINICIAN)
def sweep_runs(sweep_id: uuid.UUID) -> dict[str, Any]:
    """The leaderboard: all runs with their metrics, the best by validation first."""
    with services().database.read() as db:
        steering.find_sweep(db, sweep_id)
        runs = sweep_views.runs(db, sweep_id)
    metric = leaderboard.first_choice(runs)
    entries = leaderboard.ranked(runs, metric)
    return {"ordered_by": metric, "runs": [training_documents.run_document(entry.run) for entry in entries]}


@blueprint.at("GET", "/sweeps/<uuid:sweep_id>/leaderboard.csv", problems=(404,))
@blueprint.gives(200, **CSV_DOC)
@requires(Role.CLINICIAN)
def sweep_csv(sweep_id: uuid.UUID) -> Response:
    """The leaderboard as CSV, one row a run; metrics with the ends of their intervals."""
    with services().database.read() as db:
        steering.find_sweep(db, sweep_id)
        runs = sweep_views.runs(db, sweep_id)
    lines = training_documents.leaderboard_csv(runs, leaderboard.first_choice(runs))
    return csv_response(lines, f"leaderboard-{sweep_id}.csv")


@blueprint.at("GET", "/sweeps/<uuid:sweep_id>/export.json", problems=(404,))
@blueprint.gives(200, schemas.SweepExport)
@requires(Role.CLINICIAN)
def sweep_json(sweep_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    """The sweep with all runs, their metrics and their epochs. A run's report is in the run's own export."""
    document = _document(sweep_id)
    with services().database.read() as db:
        document["all_runs"] = [_with_epochs(db, run) for run in sweep_views.runs(db, sweep_id)]
    return document, 200, _named(f"sweep-{sweep_id}.json")


@blueprint.at("GET", "/sweeps/<uuid:sweep_id>/mlflow.zip", problems=(404,))
@blueprint.gives(200, content_type=ZIP)
@requires(Role.CLINICIAN)
def sweep_mlflow(sweep_id: uuid.UUID) -> Response:
    """The sweep as an MLflow file store: parameters, metrics by epoch, tags, reports, pictures of mistakes."""
    with services().database.read() as db:
        steering.find_sweep(db, sweep_id)
    note("sweep", "sweep.export", sweep_id)
    with services().database.read() as db:
        return _zip(db, sweep_id, sweep_views.runs(db, sweep_id), f"mlflow-sweep-{sweep_id}.zip")


@blueprint.at("GET", "/runs/<uuid:run_id>", problems=(404,))
@blueprint.gives(200, schemas.RunWithEpochs)
@requires(Role.CLINICIAN)
def run(run_id: uuid.UUID) -> dict[str, Any]:
    """A run: scenario, state, metrics, and every epoch so far."""
    with services().database.read() as db:
        return _with_epochs(db, steering.find_run(db, run_id))


@blueprint.at("POST", "/runs/<uuid:run_id>/retry", problems=(404, 409))
@blueprint.gives(202, schemas.Run)
@requires(Role.ADMIN, header_csrf=True)
def retry(run_id: uuid.UUID) -> dict[str, Any]:
    """Tries a failed or cancelled run again, from its last epoch."""
    if not steering.retry(run_id):
        raise Problem(
            409,
            "nothing_to_retry",
            "Only a failed or cancelled run can be tried again, and a paused sweep must be resumed first.",
        )
    with services().database.read() as db:
        return training_documents.run_document(steering.find_run(db, run_id))


@blueprint.at("GET", "/runs/<uuid:run_id>/export.json", problems=(404,))
@blueprint.gives(200, schemas.RunExport)
@requires(Role.CLINICIAN)
def run_json(run_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    """A run with its epochs and its whole report: every slice's outcome, curves, tables, leaks."""
    with services().database.read() as db:
        found = steering.find_run(db, run_id)
        document = {**_with_epochs(db, found), "report": sweep_views.report(db, run_id)}
    note("run", "run.export", run_id)
    return document, 200, _named(f"run-{run_id}.json")


@blueprint.at("GET", "/runs/<uuid:run_id>/mlflow.zip", problems=(404,))
@blueprint.gives(200, content_type=ZIP)
@requires(Role.CLINICIAN)
def run_mlflow(run_id: uuid.UUID) -> Response:
    """A run as an MLflow file store."""
    with services().database.read() as db:
        steering.find_run(db, run_id)
    note("run", "run.export", run_id)
    with services().database.read() as db:
        found = steering.find_run(db, run_id)
        return _zip(db, found.sweep_id, [found], f"mlflow-run-{run_id}.zip")


def _document(sweep_id: uuid.UUID) -> dict[str, Any]:
    parts = services()
    with parts.database.read() as db:
        view = steering.find_sweep(db, sweep_id)
        left = sweep_views.remaining(db, sweep_id, worker_age_s=parts.settings.worker_ready_age_s)
    return training_documents.sweep_document(view, left)


def _steered(sweep_id: uuid.UUID, changed: bool) -> dict[str, Any]:
    document = _document(sweep_id)
    if not changed:
        raise Problem(
            409,
            "wrong_state",
            "This cannot be done while the sweep is %(state)s.",
            facts={"state": str(document["state"])},
        )
    return document


def _with_epochs(db: Session, run: TrainingRun) -> dict[str, Any]:
    epochs = [training_documents.epoch_document(epoch) for epoch in sweep_views.epochs(db, run.id)]
    return {**training_documents.run_document(run), "epochs": epochs}


def _exported(db: Session, run: TrainingRun) -> ExportedRun:
    mistakes = db.scalars(select(RunMistake).where(RunMistake.run_id == run.id)).all()
    pictures = {
        f"{mistake.part}-{mistake.rank:03d}-{name}.png": data
        for mistake in mistakes
        for name, data in (("picture", mistake.picture_png), ("heatmap", mistake.heatmap_png))
    }
    return ExportedRun(run, sweep_views.epochs(db, run.id), sweep_views.report(db, run.id), pictures)


def _zip(db: Session, sweep_id: uuid.UUID, runs: Sequence[TrainingRun], filename: str) -> Response:
    """The runs as a download; the zip is written to a file without a name, which ends with the answer."""
    file = tempfile.TemporaryFile(dir=services().settings.var_dir)  # noqa: SIM115 - the answer closes it
    write_mlflow_zip(file, steering.find_sweep(db, sweep_id), (_exported(db, run) for run in runs))
    file.seek(0)
    return send_file(file, mimetype=ZIP, as_attachment=True, download_name=filename)


def _named(filename: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{filename}"'}
