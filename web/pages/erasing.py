"""The page on which an administrator deletes a study for good.

Owns the question and its answer: what goes, what stays, why. Refuses to delete without the tick that says that the
warning was read.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext, lazy_gettext, ngettext

from db.queries import erasure
from db.queries.erasure import EraseReason
from db.states import Role
from web import erasing
from web.access import requires
from web.objects import find_study, note_view
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services

REASONS = {
    EraseReason.REQUESTED: lazy_gettext("The patient or the department asked for it"),
    EraseReason.MISTAKE: lazy_gettext("It was sent by mistake"),
    EraseReason.TEST: lazy_gettext("It was sent to try the system"),
    EraseReason.OTHER: lazy_gettext("Another reason"),
}


@pages.get("/studies/<uuid:study_id>/delete")
@requires(Role.ADMIN)
def deletion(study_id: uuid.UUID) -> Response:
    """What would go with a study, and the form."""
    return _page(study_id)


@pages.post("/studies/<uuid:study_id>/delete")
@requires(Role.ADMIN)
def delete_study(study_id: uuid.UUID) -> Response:
    """Deletes a study for good and goes to the list of studies."""
    wanted = request.form.get("reason", "")
    reason = next((one for one in erasing.REASONS if one == wanted), None)
    if reason is None:
        return _page(study_id, error=gettext("Choose one of the offered reasons."), status=422)
    if request.form.get("understood") != "1":
        return _page(study_id, error=gettext("Tick that you have understood that this cannot be undone."), status=422)
    try:
        gone = erasing.erase_study(study_id, reason)
    except Problem as problem:
        if problem.status != 409:
            raise
        return _page(study_id, error=sentence(problem.template, dict(problem.facts)), status=409)
    flash(
        ngettext(
            "The study was deleted for good, with %(num)d slice.",
            "The study was deleted for good, with %(num)d slices.",
            gone.slices,
        ),
        "good",
    )
    return see("pages.studies")


def _page(study_id: uuid.UUID, *, error: str = "", status: int = 200) -> Response:
    with services().database.read() as db:
        find_study(db, study_id)
    note_view("study.view", study_id, once_in_s=300)
    with services().database.read() as db:
        study = find_study(db, study_id)
        page = render_template(
            "studies/delete.html",
            study=study,
            extent=erasure.extent(db, study_id),
            datasets=erasure.datasets_with(db, study_id),
            reasons=REASONS,
            error=error,
            typed=request.form,
        )
    return make_response(page, status)
