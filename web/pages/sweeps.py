"""Sweeps: the list, the form for a new one, and one sweep with its progress, leaderboard and plots.

Owns these pages and the fragments that keep them live. Clinicians may look, administrators steer. Nothing here invites
to choose by the test part: the order is by validation unless somebody asks for another one, and then the page says what
that costs.
"""

import uuid
from typing import Any

from flask import Response, flash, make_response, render_template, request, url_for
from flask_babel import gettext

from config import scenario_counts, scenario_texts
from db.queries import leaderboard, sweep_views
from db.queries.sweep_views import SweepView
from db.states import SWEEP_ENDED, Role, RunState, SweepState
from db.sweeps import TrainingRun
from web import steering
from web.access import requires
from web.pages import sweep_plots
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services

FRAGMENT = "HX-Request"
PAGE_ROWS = 25
COMPARED = 4
OWN_ORIGIN = "scenarios"
"""What the worker calls a text that came from no file."""


@pages.get("/sweeps", endpoint="sweeps")
@requires(Role.CLINICIAN)
def sweep_list() -> str:
    """All sweeps, the newest first; only the table when htmx asks."""
    number = max(1, request.args.get("page", 1, type=int))
    parts = services()
    with parts.database.read() as db:
        total = sweep_views.count_sweeps(db)
        rows = sweep_views.list_sweeps(db, limit=PAGE_ROWS, offset=(number - 1) * PAGE_ROWS)
        datasets = len(steering.ready_datasets(db))
    page = {"number": number, "pages": max(1, -(-total // PAGE_ROWS)), "query": {}}
    template = "training/_sweep_table.html" if request.headers.get(FRAGMENT) else "training/sweeps.html"
    return render_template(template, rows=rows, page=page, datasets=datasets, ended=SWEEP_ENDED)


@pages.get("/sweeps/new")
@requires(Role.ADMIN)
def new_sweep() -> Response:
    """The form for a new sweep: from a scenario file, from an earlier sweep, or written by hand."""
    chosen = request.args.get("file", "")
    typed = {"name": "", "dataset": request.args.get("dataset", ""), "file": chosen, "text": ""}
    before = request.args.get("from", "")
    if before:
        with services().database.read() as db:
            old = steering.find_sweep(db, _uuid(before))
        typed = {"name": old.name, "dataset": str(old.dataset_id), "file": old.scenario_file, "text": old.scenario_text}
    elif chosen in scenario_texts.names():
        typed |= {"text": scenario_texts.read(chosen), "name": chosen.removesuffix(".yaml")}
    return _form(typed)


@pages.post("/sweeps")
@requires(Role.ADMIN)
def create_sweep() -> Response:
    """Begins a sweep and shows it; the form again, as it was typed, when it cannot be begun."""
    form = request.form
    typed = {name: form.get(name, "") for name in ("name", "dataset", "file", "text")}
    try:
        try:
            dataset_id = uuid.UUID(typed["dataset"])
        except ValueError:
            dataset_id = None
        sweep_id = steering.begin(
            name=typed["name"],
            dataset_id=dataset_id,
            scenario_text=typed["text"],
            scenario_file=typed["file"] if typed["file"] in scenario_texts.names() and typed["text"].strip() else "",
        )
    except Problem as problem:
        return _form(typed, error=sentence(problem.template, problem.facts), status=problem.status)
    flash(gettext("The sweep was sent. A worker reads its scenarios now."), "good")
    return see("pages.sweep", sweep_id=sweep_id)


@pages.post("/sweeps/extent")
@requires(Role.ADMIN)
def sweep_extent() -> str:
    """How many runs a text would make, as a fragment."""
    return render_template("training/_extent.html", extent=scenario_counts.extent(request.form.get("text", "")))


@pages.get("/sweeps/<uuid:sweep_id>")
@requires(Role.CLINICIAN)
def sweep(sweep_id: uuid.UUID) -> Response:
    """One sweep; with htmx only its progress, or its leaderboard when `part=board`."""
    parts = services()
    with parts.database.read() as db:
        view = steering.find_sweep(db, sweep_id)
        training = sweep_views.training_now(db, sweep_id)
        left = sweep_views.remaining(db, sweep_id, worker_age_s=parts.settings.worker_ready_age_s)
        workers = sweep_views.training_workers(db, worker_age_s=parts.settings.worker_ready_age_s)
        lacking = sweep_views.waiting_for_tensorflow(db, worker_age_s=parts.settings.worker_ready_age_s)
        planners = sweep_views.can_be_planned(db, worker_age_s=parts.settings.worker_ready_age_s)
    context: dict[str, Any] = {
        "sweep": view,
        "live": view.state in (SweepState.PLANNING, SweepState.RUNNING),
        "left": left,
        "workers": workers,
        "lacking": lacking,
        "planners": planners,
        "training": training,
        "edited": not view.scenario_file,
        "problems": _problems(view),
    }
    fragment = request.headers.get(FRAGMENT)
    if not fragment or request.args.get("part") == "board":
        with parts.database.read() as db:
            context |= _board(view, sweep_views.runs(db, sweep_id))
        return make_response(render_template("training/_board.html" if fragment else "training/sweep.html", **context))
    response = make_response(render_template("training/_progress.html", **context))
    if request.args.get("state") != view.state and view.state in SWEEP_ENDED | {SweepState.RUNNING}:
        response.headers["HX-Refresh"] = "true"
    elif request.args.get("ended") != str(view.ended_runs):
        response.headers["HX-Trigger"] = "runs-changed"
    return response


@pages.post("/sweeps/<uuid:sweep_id>/pause")
@requires(Role.ADMIN)
def pause_sweep(sweep_id: uuid.UUID) -> Response:
    """Pauses a sweep and comes back to it."""
    done = gettext("The sweep is paused. Each run goes on from its last epoch when you resume it.")
    return _steered(sweep_id, steering.pause(sweep_id), done)


@pages.post("/sweeps/<uuid:sweep_id>/resume")
@requires(Role.ADMIN)
def resume_sweep(sweep_id: uuid.UUID) -> Response:
    """Takes up a sweep and comes back to it."""
    return _steered(sweep_id, steering.resume(sweep_id), gettext("The sweep goes on from where each run was."))


@pages.post("/sweeps/<uuid:sweep_id>/cancel")
@requires(Role.ADMIN)
def cancel_sweep(sweep_id: uuid.UUID) -> Response:
    """Cancels a sweep and comes back to it."""
    done = gettext("The sweep is cancelled. Finished runs are kept; it can be resumed.")
    return _steered(sweep_id, steering.cancel(sweep_id), done)


def _steered(sweep_id: uuid.UUID, changed: bool, done: str) -> Response:
    flash(*((done, "good") if changed else (gettext("Nothing was changed: its state had changed before."), "warn")))
    return see("pages.sweep", sweep_id=sweep_id)


def _board(view: SweepView, runs: list[TrainingRun]) -> dict[str, Any]:
    """Leaderboard and plots, as the address asks for them."""
    names = leaderboard.metric_names(runs)
    first = leaderboard.first_choice(runs)
    metric = request.args.get("sort", "")
    metric = metric if metric in names else first
    wanted = {name: request.args.get(name, "")[:64] for name in ("state", "network", "optimizer")}
    filters = {name: value for name, value in wanted.items() if value}
    query: dict[str, Any] = {"sort": metric, **filters}
    entries = leaderboard.ranked(runs, metric, **filters)
    columns = [name for name in leaderboard.MAIN if name in names]
    shown = [entry.run for entry in entries]
    return {
        "entries": entries,
        "metric": metric,
        "first_choice": first,
        "small_is_better": leaderboard.is_better_small(metric),
        "by_test": metric.startswith("test."),
        "counterpart": f"test.{metric.partition('.')[2]}",
        "columns": columns if metric in columns else [metric, *columns],
        "metrics": _by_part(names),
        "filters": filters,
        "choices": {
            "state": [state for state in RunState if any(run.state == state for run in runs)],
            "finished": sum(run.state == RunState.FINISHED for run in runs),
            "network": sorted({str(run.scenario["network"]) for run in runs}),
            "optimizer": sorted({str(run.scenario["optimizer"]) for run in runs}),
        },
        "changed": list(entries[0].changed) if entries else [],
        "plots": sweep_plots.both(shown, metric) if names else None,
        "image_split": any(run.scenario.get("split_rule") == "image" for run in runs),
        "compared": COMPARED,
        "board_address": url_for("pages.sweep", sweep_id=view.id, **query),
    }


def _problems(view: SweepView) -> list[dict[str, Any]]:
    """The mistakes of a refused sweep, each with the line it stands in, or the file when that is another one."""
    rows = view.scenario_text.splitlines()
    found = []
    for problem in view.problems:
        line, origin = problem.get("line") or 0, problem.get("origin") or ""
        own = origin in ("", OWN_ORIGIN, view.scenario_file)
        excerpt = rows[line - 1].strip() if own and 0 < line <= len(rows) else ""
        found.append({**problem, "excerpt": excerpt, "elsewhere": "" if own else origin})
    return found


def _by_part(names: list[str]) -> dict[str, list[str]]:
    """Names of metrics by the part they were measured on."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.partition(".")[0], []).append(name)
    return parts


def _form(typed: dict[str, str], *, error: str = "", status: int = 200) -> Response:
    parts = services()
    with parts.database.read() as db:
        datasets = steering.ready_datasets(db)
        workers = sweep_views.training_workers(db, worker_age_s=parts.settings.worker_ready_age_s)
        lacking = sweep_views.waiting_for_tensorflow(db, worker_age_s=parts.settings.worker_ready_age_s)
    page = render_template(
        "training/new.html",
        typed=typed,
        error=error,
        datasets=datasets,
        workers=workers,
        lacking=lacking,
        files=[_file_card(name) for name in scenario_texts.names()],
        extent=scenario_counts.extent(typed["text"]),
    )
    return make_response(page, status)


def _file_card(name: str) -> dict[str, Any]:
    """A scenario file as it is offered: its name, its first comment, how many runs it makes."""
    text = scenario_texts.read(name)
    comment = []
    for row in text.splitlines():
        if not row.startswith("#"):
            break
        comment.append(row.lstrip("# "))
    words = " ".join(comment)
    end = words.find(". ")
    return {"name": name, "about": words[: end + 1] if end > 0 else words, "extent": scenario_counts.extent(text)}


def _uuid(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError:
        raise Problem(404, "not_found", "There is no such sweep.") from None
