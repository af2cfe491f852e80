"""API: what clinicians decided about a slice."""

import uuid
from typing import Any

from db.queries import reviews
from db.reviews import NOT_ASSESSABLE
from db.states import Role
from web.access import requires
from web.api import documents, schemas
from web.api.routing import ApiBlueprint
from web.deciding import decide
from web.objects import VIEW_WINDOW_S, find_slice, note_view
from web.problems import Problem
from web.services import services

blueprint = ApiBlueprint("decisions", __name__, description="Confirmed labels: what clinicians decided about slices")


@blueprint.at("GET", "/slices/<uuid:slice_id>/decisions", problems=(404,))
@blueprint.gives(200, schemas.DecisionList)
@requires(Role.SUBMITTER)
def decisions(slice_id: uuid.UUID) -> dict[str, Any]:
    """Every decision about a slice, the newest first. The newest stands; older ones are never changed."""
    with services().database.read() as db:
        study_id = find_slice(db, slice_id).study_id
    note_view("study.view", study_id, once_in_s=VIEW_WINDOW_S)
    return _document(slice_id)


@blueprint.at("POST", "/slices/<uuid:slice_id>/decisions", problems=(404, 409, 422))
@blueprint.takes(schemas.NewDecision)
@blueprint.gives(201, schemas.DecisionList)
@requires(Role.CLINICIAN, header_csrf=True)
def decide_slice(wanted: dict[str, Any], slice_id: uuid.UUID) -> dict[str, Any]:
    """Decides about a slice, or takes the newest decision back; answers with all decisions."""
    label: str | None = wanted["label"]
    if wanted["kind"] == "class" and not label:
        raise Problem(422, "class_unknown", "Choose one of the offered classes.")
    if wanted["kind"] != "class":
        label = NOT_ASSESSABLE if wanted["kind"] == "not_assessable" else None
    decide(slice_id, label=label, seen=wanted["seen"], note=wanted["note"])
    return _document(slice_id)


def _document(slice_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        found = reviews.history(db, slice_id)
    return {"slice_id": slice_id, "decisions": [documents.decision_document(item) for item in found]}
