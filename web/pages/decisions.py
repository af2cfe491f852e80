"""The form by which a clinician decides about a slice on its study's page.

Owns the answer to it: with the page's script only the slice's panel, without scripts the whole page.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from db.queries.views import StudyView
from db.reviews import NOT_ASSESSABLE
from db.states import Role
from web.access import requires
from web.deciding import choices, decide, decided
from web.objects import VIEW_WINDOW_S
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.pages.studies import chosen_slice, only, study_context
from web.problems import Problem

UNDO, NONE, CLASS = "undo", "not_assessable", "class:"


@pages.post("/studies/<uuid:study_id>/slices/<uuid:slice_id>/decision")
@requires(Role.CLINICIAN)
def decide_slice(study_id: uuid.UUID, slice_id: uuid.UUID) -> Response:
    """Writes a decision and shows the slice again; 409 with the other's decision when somebody was faster."""
    context = study_context(study_id, only(slice_id), once_in_s=0)
    view: StudyView = context["view"]
    if chosen_slice(view, str(slice_id)) is None:
        raise Problem(404, "not_found", "There is no such slice in this study.")
    status, said = 200, ""
    seen_version = version = request.form.get("version", "")
    try:
        _, before, after = decide(
            slice_id,
            label=_label(request.form.get("decision", "")),
            seen=_seen(request.form.get("seen", "")),
            note=request.form.get("note", ""),
            allowed=choices(view),
        )
        # Who saw the study as it was before his own decision has seen all of it; else he has to look again to sign.
        version = str(after) if seen_version == str(before) else seen_version
    except Problem as problem:
        if problem.status != 409:
            raise
        status, said = 409, sentence(problem.template, dict(problem.facts))
    if not request.headers.get("HX-Request"):
        flash(said or gettext("The decision was written down."), "warn" if said else "good")
        return see("pages.study", study_id=study_id, slice=slice_id, checkpoint=context["checkpoint_wanted"])
    context = study_context(study_id, only(slice_id), once_in_s=VIEW_WINDOW_S)
    chosen = chosen_slice(context["view"], str(slice_id))
    context |= decided(context["view"], chosen) | {"version_seen": version}
    return make_response(render_template("studies/_slice.html", chosen=chosen, said=said, **context), status)


def _label(wanted: str) -> str | None:
    if wanted == UNDO:
        return None
    if wanted == NONE:
        return NOT_ASSESSABLE
    if wanted.startswith(CLASS) and len(wanted) > len(CLASS):
        return wanted.removeprefix(CLASS)
    raise Problem(422, "class_unknown", "Choose one of the offered classes.")


def _seen(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
