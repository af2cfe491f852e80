"""The two forms of a study's page that change which of its slices are classified.

Owns the answers to them: a sentence on what was started, and the study's page again.
"""

import uuid

from flask import Response, flash, request
from flask_babel import gettext, ngettext

from db.states import Role
from web import choosing
from web.access import requires
from web.choosing import Change
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem


@pages.post("/studies/<uuid:study_id>/series")
@requires(Role.CLINICIAN)
def choose_series(study_id: uuid.UUID) -> Response:
    """Chooses the series that are classified; what is missing of them is started."""
    try:
        change = choosing.choose_series(study_id, _ids("series"), _ids("offered"), _checkpoint())
    except Problem as problem:
        return _said(study_id, problem)
    if not change.chosen and not change.left:
        flash(gettext("The choice is as it was; nothing was changed."), "warn")
    else:
        flash(gettext("The choice of series was changed."), "good")
        _started(change)
    return _back(study_id)


@pages.post("/studies/<uuid:study_id>/classify")
@requires(Role.SUBMITTER)
def classify_left_out(study_id: uuid.UUID) -> Response:
    """Classifies the slices that were left out of the chosen series."""
    try:
        change = choosing.classify_left_out(study_id, _checkpoint())
    except Problem as problem:
        return _said(study_id, problem)
    if change.job_id is None:
        flash(gettext("Every slice of the chosen series has its result or waits for it; nothing was started."), "warn")
    _started(change)
    return _back(study_id)


def _started(change: Change) -> None:
    if change.job_id is not None:
        message = ngettext("%(num)d slice is classified now.", "%(num)d slices are classified now.", change.slices)
        flash(message, "good")


def _said(study_id: uuid.UUID, problem: Problem) -> Response:
    if problem.status == 404:
        raise problem
    flash(sentence(problem.template, dict(problem.facts)), "error")
    return _back(study_id)


def _back(study_id: uuid.UUID) -> Response:
    return see("pages.study", study_id=study_id, checkpoint=_checkpoint() or None)


def _checkpoint() -> str:
    return request.form.get("checkpoint", "")[:64]


def _ids(name: str) -> list[uuid.UUID]:
    """The numbers of a form's field; what is none names no series, and is refused as such."""
    found = []
    for text in request.form.getlist(name):
        try:
            found.append(uuid.UUID(text))
        except ValueError:
            found.append(uuid.UUID(int=0))
    return found
