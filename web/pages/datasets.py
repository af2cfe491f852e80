"""Data sets: the list, the form for a new one, and one data set with its counts, copies and pictures.

Owns these pages and the fragments that keep them live while a worker reads. Clinicians may look, administrators act.
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, abort, flash, make_response, render_template, request
from flask_babel import gettext

from config import dataset_folders
from db.base import utc_now
from db.datasets import DatasetSample, TrainingDataset
from db.queries import datasets as rows
from db.queries import reviews
from db.queries.reviews import Filter
from db.states import DatasetState, Role
from web import pictures, registering, sessions
from web.access import current_user, requires
from web.objects import VIEW_WINDOW_S, note
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.reception import receive_form
from web.services import services

FRAGMENT = "HX-Request"
SMALLEST, LARGEST = 32, 1024
EXAMPLES_SHOWN = 6
KEPT_S = 86_400


@pages.get("/datasets", endpoint="datasets")
@requires(Role.CLINICIAN)
def dataset_list() -> str:
    """All data sets, the newest first; only the table when htmx asks."""
    with services().database.read() as db:
        found = rows.listed(db)
    template = "datasets/_table.html" if request.headers.get(FRAGMENT) else "datasets/list.html"
    reading = any(row.dataset.state == DatasetState.REGISTERING for row in found)
    return render_template(template, rows=found, reading=reading)


@pages.get("/datasets/new")
@requires(Role.ADMIN)
def new_dataset() -> Response:
    """The form for a new data set."""
    return _form()


@pages.post("/datasets")
@requires(Role.ADMIN)
def create_dataset() -> Response:
    """Registers a folder, or the reviewed slices of the store."""
    name = request.form.get("name", "")
    try:
        if request.form.get("origin") == "reviewed":
            dataset_id = registering.from_reviews(name, _filter(request.form))
        else:
            dataset_id = registering.from_folder(
                name, request.form.get("folder", ""), labels_as_they_are=_as_they_are(request.form)
            )
    except Problem as problem:
        return _refused(problem, name, request.form.get("folder", ""))
    return see("pages.dataset", dataset_id=dataset_id)


@pages.post("/datasets/upload")
@requires(Role.ADMIN, streamed_form=True)
def upload_dataset() -> Response:
    """Registers what is sent with the form: a zip archive, or the files of a folder."""
    name = ""
    try:
        with receive_form() as received:
            user = current_user()
            if user is None or user.via != "token":
                sessions.check_csrf(from_form=False, streamed=received.fields.get(sessions.CSRF_FIELD))
            name = received.fields.get("name", "")
            dataset_id = registering.from_files(name, received, labels_as_they_are=_as_they_are(received.fields))
    except Problem as problem:
        return _refused(problem, name)
    return see("pages.dataset", dataset_id=dataset_id)


@pages.get("/datasets/reviewed")
@requires(Role.ADMIN)
def reviewed_slices() -> str:
    """What a data set of reviewed slices would hold, as a fragment."""
    with services().database.read() as db:
        return render_template("datasets/_gathered.html", gathered=reviews.gathered(db, _filter(request.args)))


@pages.get("/datasets/<uuid:dataset_id>")
@requires(Role.CLINICIAN)
def dataset(dataset_id: uuid.UUID) -> Response:
    """One data set; only how far it is when htmx asks."""
    with services().database.read() as db:
        found = registering.find(db, dataset_id)
        waiting = rows.waiting(db, found) if found.state == DatasetState.REGISTERING else None
    if request.headers.get(FRAGMENT):
        response = make_response(render_template("datasets/_state.html", dataset=found, waiting=waiting))
        if found.state != DatasetState.REGISTERING:
            response.headers["HX-Refresh"] = "true"
        return response
    _note_view(found)
    with services().database.read() as db:
        page = render_template(
            "datasets/dataset.html",
            dataset=found,
            waiting=waiting,
            creator=rows.creator(db, found),
            sweeps=rows.sweeps_of(db, dataset_id),
            copies=_copies(db, found),
        )
    return make_response(page)


@pages.get("/datasets/<uuid:dataset_id>/samples")
@requires(Role.CLINICIAN)
def dataset_samples(dataset_id: uuid.UUID) -> str:
    """A page of pictures of one class, as a fragment."""
    with services().database.read() as db:
        found = registering.find(db, dataset_id)
        page = rows.samples_page(db, dataset_id, label=request.args.get("label", ""), number=_number())
    return render_template("datasets/_samples.html", dataset=found, page=page, label=request.args.get("label", ""))


@pages.get("/datasets/<uuid:dataset_id>/samples/<int:sequence>/picture.png")
@requires(Role.CLINICIAN)
def sample_picture(dataset_id: uuid.UUID, sequence: int) -> Response:
    """A sample's picture, small."""
    try:
        side = min(max(int(request.args.get("side", "96")), SMALLEST), LARGEST)
    except ValueError:
        abort(404)
    with services().database.read() as db:
        found = registering.find(db, dataset_id)
        sample = db.get(DatasetSample, (dataset_id, sequence))
    if sample is None:
        raise Problem(404, "not_found", "There is no such sample in this data set.")
    _note_view(found)
    response = make_response(pictures.sample_png(sample.sha256, sample.frame_index, side))
    response.content_type = "image/png"
    response.headers["Cache-Control"] = f"private, max-age={KEPT_S}, immutable"
    return response


@pages.post("/datasets/<uuid:dataset_id>/again")
@requires(Role.ADMIN)
def read_dataset_again(dataset_id: uuid.UUID) -> Response:
    """Has a refused data set read once more."""
    registering.again(dataset_id, labels_as_they_are=_as_they_are(request.form))
    return see("pages.dataset", dataset_id=dataset_id)


@pages.post("/datasets/<uuid:dataset_id>/delete")
@requires(Role.ADMIN)
def delete_dataset(dataset_id: uuid.UUID) -> Response:
    """Deletes a data set that nothing uses."""
    registering.delete(dataset_id)
    flash(gettext("The data set was deleted."), "good")
    return see("pages.datasets")


def _note_view(found: TrainingDataset) -> None:
    """Pictures of patients are looked at: that is in the audit trail, whatever they are called."""
    if found.kind == "studies":
        note("dataset", "dataset.view", found.id, once_in_s=VIEW_WINDOW_S)


def _copies(db: Any, found: TrainingDataset) -> list[dict[str, Any]]:
    """The kinds of copies with examples, each file with its number among the samples."""
    examples = rows.numbered_examples(db, found.id, found.leaks)
    return [
        {
            "kind": kind,
            "count": int(found.leaks.get(f"{kind}_pairs", 0)),
            "pairs": examples.get(kind, [])[:EXAMPLES_SHOWN],
        }
        for kind in ("identical", "near", "cross_patient", "cross_label")
    ]


def _form(*, error: str = "", typed: dict[str, str] | None = None, status: int = 200) -> Response:
    settings = services().settings
    with services().database.read() as db:
        gathered = reviews.gathered(db, Filter())
    page = render_template(
        "datasets/new.html",
        error=error,
        typed=typed or {},
        folders=dataset_folders.offered(settings.datasets_dir),
        gathered=gathered,
        today=utc_now().date().isoformat(),
        limit_bytes=min(settings.max_request_bytes, settings.max_upload_bytes),
    )
    return make_response(page, status)


def _refused(problem: Problem, name: str, folder: str = "") -> Response:
    if problem.status not in (400, 409, 413, 415, 422):
        raise problem
    said = sentence(problem.template, dict(problem.facts))
    return _form(error=said, typed={"name": name, "folder": folder}, status=problem.status)


def _as_they_are(form: Any) -> bool:
    return bool(form.get("labels_as_they_are"))


def _filter(form: Any) -> Filter:
    classes = tuple(part for part in form.get("classes", "").replace(",", " ").split() if part)[:20]
    since, until = _day(form.get("since", "")), _day(form.get("until", ""))
    return Filter(since, until + timedelta(days=1) if until else None, classes)


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _number() -> int:
    try:
        return int(request.args.get("page", "1"))
    except ValueError:
        abort(404)
