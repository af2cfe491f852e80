"""The forms on a study's page by which it is assigned, signed off and opened again.

Owns their answers: done or refused, the browser comes back to the study, which says what happened.
"""

import uuid
from collections.abc import Callable

from flask import Response, flash, request
from flask_babel import gettext

from db.queries.strips import Window
from db.reviews import NOT_ASSESSABLE
from db.states import Role
from web import reviewing
from web.access import requires, the_user
from web.deciding import choices
from web.objects import find_study
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.pages.studies import study_context
from web.problems import Problem
from web.services import services

NONE = "not_assessable"


@pages.post("/studies/<uuid:study_id>/opinion")
@requires(Role.CLINICIAN)
def give_opinion(study_id: uuid.UUID) -> Response:
    """Commits an opinion; from then on the results are shown."""
    allowed = choices(study_context(study_id, Window(alone=True), once_in_s=0)["view"])
    return _answer(
        study_id,
        lambda: reviewing.give_opinion(study_id, label=_label(), note=_note(), allowed=allowed),
        gettext("Your opinion was written down. This is what the network says."),
    )


@pages.post("/studies/<uuid:study_id>/sign-off")
@requires(Role.CLINICIAN)
def sign_off(study_id: uuid.UUID) -> Response:
    """Signs the study off."""
    allowed = choices(study_context(study_id, Window(alone=True), once_in_s=0)["view"])
    return _answer(
        study_id,
        lambda: reviewing.sign_off(study_id, label=_label(), note=_note(), version=_version(), allowed=allowed),
        gettext("The study is signed off."),
    )


@pages.post("/studies/<uuid:study_id>/reopen")
@requires(Role.CLINICIAN)
def reopen(study_id: uuid.UUID) -> Response:
    """Takes the sign-off back."""
    return _answer(
        study_id,
        lambda: reviewing.reopen(study_id, note=_note(), version=_version()),
        gettext("The sign-off was taken back; the study is in the worklist again."),
    )


@pages.post("/studies/<uuid:study_id>/assign")
@requires(Role.CLINICIAN)
def assign_study(study_id: uuid.UUID) -> Response:
    """Takes the study, or gives it back."""
    with services().database.read() as db:
        find_study(db, study_id)
    mine = request.form.get("to") == "me"
    taken = reviewing.assign([study_id], the_user().id if mine else None, only_free=mine)
    if taken.held_by:
        flash(gettext("The study is assigned to %(who)s.", who=", ".join(taken.held_by)), "warn")
    elif mine:
        flash(gettext("The study is assigned to you."), "good")
    else:
        flash(gettext("The study is assigned to nobody."), "good")
    return see("pages.study", study_id=study_id)


def _answer(study_id: uuid.UUID, step: Callable[[], None], done: str) -> Response:
    try:
        step()
    except Problem as problem:
        if problem.status not in (409, 422):
            raise
        flash(sentence(problem.template, dict(problem.facts)), "warn")
    else:
        flash(done, "good")
    return see("pages.study", study_id=study_id)


def _label() -> str:
    wanted = request.form.get("label", "")
    return NOT_ASSESSABLE if wanted == NONE else wanted or "?"


def _note() -> str:
    return request.form.get("note", "")


def _version() -> int:
    wanted = request.form.get("version", "")
    return int(wanted) if wanted.isdecimal() and len(wanted) < 10 else -1
