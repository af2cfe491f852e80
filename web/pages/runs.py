"""One run with everything it reported, and up to four runs side by side.

Owns these pages and the pictures of a run's mistakes. A report shows slices and the names that a data set gives to its
patients, so that every view is in the audit trail. Refuses to judge: numbers come from the report, with intervals.
"""

import uuid
from itertools import combinations
from typing import Any

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from db.queries import datasets, leaderboard, sweep_views
from db.queries.paired_runs import paired
from db.states import RUN_ENDED, Role, RunState
from db.sweeps import RunMistake, TrainingRun
from imaging.heatmaps import decode, layer_png, place
from web import steering
from web.access import requires
from web.objects import VIEW_WINDOW_S, note
from web.pages import run_plots
from web.pages.blueprint import pages
from web.pages.redirects import see
from web.pages.sweeps import COMPARED, FRAGMENT
from web.problems import Problem
from web.services import services

LAYER_SIDE = 224
PARTS = ("validation", "test")
MEASURED = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_roc_auc",
    "macro_pr_auc",
)
PATIENT_ROWS = 40


@pages.get("/runs/<uuid:run_id>")
@requires(Role.CLINICIAN)
def run(run_id: uuid.UUID) -> Response:
    """One run; only its curves when htmx asks."""
    with services().database.read() as db:
        found = steering.find_run(db, run_id)
        history = [epoch.facts for epoch in sweep_views.epochs(db, run_id)]
        report = None if request.headers.get(FRAGMENT) else sweep_views.report(db, run_id)
        mistakes = {part: sweep_views.mistakes(db, run_id, part) for part in PARTS} if report else {}
        leaks = datasets.numbered_examples(db, found.sweep.dataset_id, report["leaks"]) if report else {}
    live = RunState(found.state) not in RUN_ENDED
    context: dict[str, Any] = {
        "run": found,
        "sweep": found.sweep,
        "live": live,
        "history": history,
        "plots": {
            "losses": run_plots.losses(history, found.best_epoch),
            "accuracies": run_plots.accuracies(history, found.best_epoch),
        }
        if history
        else None,
    }
    if request.headers.get(FRAGMENT):
        response = make_response(render_template("training/_curves.html", **context))
        if not live:
            response.headers["HX-Refresh"] = "true"
        return response
    if report:
        note("run", "run.view", run_id, once_in_s=VIEW_WINDOW_S)
        context |= {"report": report, "mistakes": mistakes, "parts": _parts(report), "leaks": leaks}
    context |= {"fields": leaderboard.flat(found.scenario), "shown_patients": PATIENT_ROWS}
    return make_response(render_template("training/run.html", **context))


@pages.post("/runs/<uuid:run_id>/retry")
@requires(Role.ADMIN)
def retry_run(run_id: uuid.UUID) -> Response:
    """Tries a run again and comes back to it."""
    if steering.retry(run_id):
        flash(gettext("The run is tried again, from its last epoch."), "good")
    else:
        flash(
            gettext(
                "Nothing was changed: only a failed or cancelled run can be tried again, and a paused sweep must be "
                "resumed first."
            ),
            "warn",
        )
    return see("pages.run", run_id=run_id)


@pages.get("/runs/<uuid:run_id>/mistakes/<uuid:mistake_id>/picture.png")
@requires(Role.CLINICIAN)
def mistake_picture(run_id: uuid.UUID, mistake_id: uuid.UUID) -> Response:
    """The slice of a mistake as the network saw it."""
    return _png(_mistake(run_id, mistake_id).picture_png)


@pages.get("/runs/<uuid:run_id>/mistakes/<uuid:mistake_id>/layer.png")
@requires(Role.CLINICIAN)
def mistake_layer(run_id: uuid.UUID, mistake_id: uuid.UUID) -> Response:
    """Where the network looked, as a transparent layer over the picture."""
    heat = decode(_mistake(run_id, mistake_id).heatmap_png)
    return _png(layer_png(place(heat, (0.0, 0.0, LAYER_SIDE, LAYER_SIDE), (LAYER_SIDE, LAYER_SIDE))))


@pages.get("/runs/compare")
@requires(Role.CLINICIAN)
def compare_runs() -> Response:
    """Two to four finished runs side by side."""
    ids = list(dict.fromkeys(request.args.getlist("run")))[: COMPARED + 1]
    if not 2 <= len(ids) <= COMPARED:
        raise Problem(
            422,
            "runs_to_compare",
            "Choose two to %(most)s finished runs of the leaderboard to compare.",
            facts={"most": COMPARED},
        )
    chosen: list[tuple[TrainingRun, dict[str, Any], list[Any]]] = []
    with services().database.read() as db:
        for text in ids:
            try:
                found = steering.find_run(db, uuid.UUID(text))
            except ValueError:
                raise Problem(404, "not_found", "There is no such run.") from None
            report = sweep_views.report(db, found.id)
            if report is None:
                raise Problem(
                    409, "run_without_report", "The run %(name)s has no report yet.", facts={"name": found.name}
                )
            chosen.append((found, report, [epoch.facts for epoch in sweep_views.epochs(db, found.id)]))
    for found, _, _ in chosen:
        note("run", "run.view", found.id, once_in_s=VIEW_WINDOW_S)
    return make_response(render_template("training/compare.html", **_comparison(chosen)))


def _comparison(chosen: list[tuple[TrainingRun, dict[str, Any], list[Any]]]) -> dict[str, Any]:
    runs = [found for found, _, _ in chosen]
    flat = [leaderboard.flat(found.scenario) for found in runs]
    differing = leaderboard.varied(flat)
    histories = [(found.name, history) for found, _, history in chosen]
    pairs = []
    for (one, first, _), (two, second, _) in combinations(chosen, 2):
        for part in PARTS:
            pairing = paired(first["slices"].get(part) or [], second["slices"].get(part) or [])
            pairs.append({"first": one, "second": two, "part": part, "pairing": pairing})
    return {
        "runs": runs,
        "reports": [report for _, report, _ in chosen],
        "parts": [part for part in PARTS if any(report.get(part) for _, report, _ in chosen)],
        "measured": MEASURED,
        "differing": differing,
        "same": [field for field in flat[0] if field not in differing and field != "name"],
        "flat": flat,
        "pairs": pairs,
        "plots": [
            run_plots.overlaid("loss", gettext("training loss"), "loss", histories),
            run_plots.overlaid("validation-loss", gettext("validation loss"), "validation_loss", histories),
            run_plots.overlaid("validation-accuracy", gettext("validation accuracy"), "validation_accuracy", histories),
        ],
        "datasets": {found.sweep.dataset.name for found in runs},
    }


def _parts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Test and validation of a report, each with its plots; what was not scored is left out."""
    found = []
    for name in PARTS:
        part = report.get(name)
        if not part:
            continue
        calibration = report["calibration"].get(name)
        found.append(
            {
                "name": name,
                "part": part,
                "calibration": calibration,
                "roc": run_plots.roc(name, part),
                "pr": run_plots.precision_recall(name, part),
                "reliability": run_plots.reliability(name, calibration) if calibration else None,
                "measured": [key for key in MEASURED if key in part["metrics"]],
            }
        )
    return found


def _mistake(run_id: uuid.UUID, mistake_id: uuid.UUID) -> RunMistake:
    with services().database.read() as db:
        found = sweep_views.mistake(db, mistake_id)
    if found is None or found.run_id != run_id:
        raise Problem(404, "not_found", "There is no such picture of this run.")
    note("run", "run.view", run_id, once_in_s=VIEW_WINDOW_S)
    return found


def _png(data: bytes) -> Response:
    response = make_response(data)
    response.content_type = "image/png"
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
