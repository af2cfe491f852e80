"""Before a model serves: files taken in, models made of runs, comparisons and shadow runs of a candidate.

Owns these pages and forms; for admins. The order of the actions stands in `web.model_files` and `web.registry`.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from db.queries import imports, promotions, shadows
from db.queries.refusals import RegistryRefused
from db.states import JOB_ENDED, RequestState, Role
from web import model_files, registry, sessions
from web.access import current_user, requires
from web.pages.blueprint import pages
from web.pages.checkpoints import say_refused
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.reception import receive_form
from web.services import services


@pages.get("/checkpoints/import", endpoint="import_checkpoint")
@requires(Role.ADMIN)
def import_page() -> Response:
    """The forms for a file, and what became of the files before; only the list when htmx asks."""
    return _import_page()


@pages.post("/checkpoints/import")
@requires(Role.ADMIN, streamed_form=True)
def import_file() -> Response:
    """Takes a file in; what it is, the registry worker finds out."""
    typed: dict[str, str] = {}
    try:
        with receive_form() as received:
            user = current_user()
            if user is None or user.via != "token":
                sessions.check_csrf(from_form=False, streamed=received.fields.get(sessions.CSRF_FIELD))
            typed = dict(received.fields)
            model_files.take_in(received, typed.get("kind", ""), typed)
    except RegistryRefused as refused:
        return _import_page(sentence(refused.template, dict(refused.facts)), typed, refused.status)
    except Problem as problem:
        if problem.status not in (400, 413, 415):
            raise
        return _import_page(sentence(problem.template, dict(problem.facts)), typed, problem.status)
    flash(gettext("The file has arrived. It is being checked; the result appears in the list below."), "good")
    return see("pages.import_checkpoint")


@pages.post("/runs/<uuid:run_id>/model")
@requires(Role.ADMIN)
def export_run(run_id: uuid.UUID) -> Response:
    """Makes a model of a finished run."""
    try:
        model_files.export_run(run_id)
    except RegistryRefused as refused:
        return say_refused(refused, "pages.checkpoints")
    flash(gettext("A model is being made of this run. In a minute or two it stands in the list of models."), "good")
    return see("pages.checkpoints")


@pages.post("/checkpoints/<uuid:checkpoint_id>/compare")
@requires(Role.ADMIN)
def compare_checkpoint(checkpoint_id: uuid.UUID) -> Response:
    """Asks for a comparison with the serving checkpoint."""
    try:
        dataset_id = uuid.UUID(request.form["dataset"]) if request.form.get("dataset") else None
    except ValueError:
        raise Problem(422, "dataset_unknown", "Choose one of the offered data sets.") from None
    try:
        registry.compare(checkpoint_id, dataset_id=dataset_id)
    except RegistryRefused as refused:
        return say_refused(refused, "pages.promote", checkpoint_id=checkpoint_id)
    flash(gettext("Both models are being run over the held-back slices; this page shows the result."), "good")
    return see("pages.promote", checkpoint_id=checkpoint_id)


@pages.get("/checkpoints/<uuid:checkpoint_id>/shadow", endpoint="shadow")
@requires(Role.ADMIN)
def shadow_page(checkpoint_id: uuid.UUID) -> str:
    """The newest shadow run of a candidate, and the form for another; only the run when htmx asks."""
    with services().database.read() as db:
        found = registry.find_checkpoint(db, checkpoint_id)
        run = shadows.newest_run(db, checkpoint_id)
        result = shadows.result(db, run) if run else None
        row = promotions.standing_of(db, found)
    return render_template(
        "checkpoints/_shadow.html" if request.headers.get("HX-Request") else "checkpoints/shadow.html",
        checkpoint=found,
        row=row,
        result=result,
        running=result is not None and result.state not in JOB_ENDED,
    )


@pages.post("/checkpoints/<uuid:checkpoint_id>/shadow")
@requires(Role.ADMIN)
def start_shadow(checkpoint_id: uuid.UUID) -> Response:
    """Runs a candidate on the newest studies, its results kept apart."""
    try:
        registry.start_shadow(checkpoint_id, studies=_studies())
    except RegistryRefused as refused:
        return say_refused(refused, "pages.shadow", checkpoint_id=checkpoint_id)
    return see("pages.shadow", checkpoint_id=checkpoint_id)


def _studies() -> int:
    text = request.form.get("studies", "")
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _import_page(error: str = "", typed: dict[str, str] | None = None, status: int = 200) -> Response:
    with services().database.read() as db:
        rows = imports.newest_imports(db)
    waiting = any(row.state == RequestState.PENDING for row, _, _ in rows)
    template = "checkpoints/_imports.html" if request.headers.get("HX-Request") else "checkpoints/import.html"
    page = render_template(
        template,
        rows=rows,
        waiting=waiting,
        error=error,
        typed=typed or {},
        limit=services().settings.max_model_bytes,
    )
    return make_response(page, status)
