"""API: fetching studies from archives by their accession numbers."""

import uuid
from typing import Any

from db.queries.retrievals import LineView
from db.states import Priority, RequestState, Role
from web import fetching
from web.access import requires
from web.api import exchange_schemas as schemas
from web.api.routing import ApiBlueprint
from web.objects import VIEW_WINDOW_S, note
from web.sentences import english
from web.services import services

blueprint = ApiBlueprint("retrievals", __name__, description="Fetching studies from archives")


@blueprint.at("POST", "/retrievals", problems=(404, 422))
@blueprint.takes(schemas.NewRetrieval)
@blueprint.gives(202, schemas.Retrieval)
@requires(Role.SUBMITTER, header_csrf=True)
def ask(wanted: dict[str, Any]) -> dict[str, Any]:
    """Fetches every study that an archive knows under these accession numbers, and submits it.

    A worker fetches; ask for the list to see each number's line. Each study becomes a job of whoever asked.
    """
    numbers = "\n".join(wanted["accession_numbers"])
    made = fetching.fetch(wanted["peer_id"], numbers, title=wanted["title"], priority=wanted["priority"])
    return _one(made.id)


@blueprint.at("GET", "/retrievals/<uuid:retrieval_id>", problems=(404,))
@blueprint.gives(200, schemas.Retrieval)
@requires(Role.SUBMITTER)
def retrieval(retrieval_id: uuid.UUID) -> dict[str, Any]:
    """A list with its lines; of others, for clinicians only."""
    return _one(retrieval_id)


@blueprint.at("POST", "/retrievals/<uuid:retrieval_id>/again", problems=(404, 409))
@blueprint.gives(202, schemas.Retrieval)
@requires(Role.SUBMITTER, header_csrf=True)
def again(retrieval_id: uuid.UUID) -> dict[str, Any]:
    """Takes up the numbers that failed."""
    fetching.again(retrieval_id)
    return _one(retrieval_id)


@blueprint.at("POST", "/retrievals/<uuid:retrieval_id>/stop", problems=(404,))
@blueprint.gives(200, schemas.Retrieval)
@requires(Role.SUBMITTER, header_csrf=True)
def stop(retrieval_id: uuid.UUID) -> dict[str, Any]:
    """Stops what is not fetched yet."""
    fetching.stop(retrieval_id)
    return _one(retrieval_id)


def _one(retrieval_id: uuid.UUID) -> dict[str, Any]:
    database = services().database
    with database.read() as db:
        fetching.find(db, retrieval_id)
    note("retrieval", "retrieval.view", retrieval_id, once_in_s=VIEW_WINDOW_S)
    with database.read() as db:
        view = fetching.find(db, retrieval_id)
        return {
            "id": view.retrieval.id,
            "peer_name": view.retrieval.peer_name,
            "title": view.retrieval.title,
            "priority": Priority(view.retrieval.priority),
            "created_at": view.retrieval.created_at,
            "waiting": view.waiting,
            "lines": [_line(item) for item in view.lines],
        }


def _line(view: LineView) -> dict[str, Any]:
    line = view.line
    code, detail = (line.failure_code, line.failure_detail) if line.failure_code else (view.trouble, {})
    return {
        "accession_number": line.accession_number,
        "state": RequestState(line.state),
        "code": code,
        "reason": english(code, detail),
        "studies": len(line.studies),
        "expected": view.expected,
        "fetched": view.fetched,
        "jobs": [study.job_id for study in line.studies if study.job_id],
    }
