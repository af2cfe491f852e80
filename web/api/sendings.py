"""API: the archives, and results on their way to them."""

import uuid
from typing import Any

from db.exchange import Content, ObjectState, PeerKind, SentObject
from db.queries import peers, sendings
from db.queries.sendings import SendingView
from db.states import RequestState, Role
from web import exchanging
from web.access import requires
from web.api import exchange_schemas as schemas
from web.api.routing import ApiBlueprint
from web.objects import find_study
from web.sentences import english
from web.services import services

blueprint = ApiBlueprint("archives", __name__, description="Archives: sending results, fetching studies")


@blueprint.at("GET", "/peers")
@blueprint.gives(200, schemas.PeerList)
@requires(Role.SUBMITTER)
def peer_list() -> dict[str, Any]:
    """The archives that an admin has entered."""
    with services().database.read() as db:
        return {
            "peers": [
                {
                    "id": peer.id,
                    "name": peer.name,
                    "kind": PeerKind(peer.kind),
                    "address": peer.address,
                    "automatic": peer.automatic,
                }
                for peer in peers.all_peers(db)
            ]
        }


@blueprint.at("POST", "/studies/<uuid:study_id>/sendings", problems=(404, 409, 422))
@blueprint.takes(schemas.NewSending)
@blueprint.gives(202, schemas.Sending)
@requires(Role.CLINICIAN, header_csrf=True)
def send(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Sends a study's results to an archive: a Structured Report, Secondary Captures, or both.

    A worker sends them; ask for the sending to see each object's answer. The same results have the same SOP Instance
    UIDs however often they are sent. While the same sending is on its way, 409.
    """
    made = exchanging.send(study_id, wanted["peer_id"], content=wanted["content"], digest=wanted["checkpoint"])
    return _one(study_id, made.id)


@blueprint.at("GET", "/studies/<uuid:study_id>/sendings", problems=(404,))
@blueprint.gives(200, schemas.SendingList)
@requires(Role.CLINICIAN)
def sending_list(study_id: uuid.UUID) -> dict[str, Any]:
    """What was sent of a study, the newest first, with the archive's answer to every object."""
    with services().database.read() as db:
        find_study(db, study_id)
        return {"sendings": [document(view) for view in sendings.of_study(db, study_id)]}


@blueprint.at("GET", "/studies/<uuid:study_id>/sendings/<uuid:sending_id>", problems=(404,))
@blueprint.gives(200, schemas.Sending)
@requires(Role.CLINICIAN)
def sending(study_id: uuid.UUID, sending_id: uuid.UUID) -> dict[str, Any]:
    """One sending."""
    return _one(study_id, sending_id)


@blueprint.at("POST", "/studies/<uuid:study_id>/sendings/<uuid:sending_id>/again", problems=(404, 409))
@blueprint.gives(202, schemas.Sending)
@requires(Role.CLINICIAN, header_csrf=True)
def send_again(study_id: uuid.UUID, sending_id: uuid.UUID) -> dict[str, Any]:
    """Takes up a sending that failed; what the archive has is not sent again."""
    exchanging.send_again(study_id, sending_id)
    return _one(study_id, sending_id)


@blueprint.at("POST", "/studies/<uuid:study_id>/sendings/<uuid:sending_id>/stop", problems=(404, 409))
@blueprint.gives(200, schemas.Sending)
@requires(Role.CLINICIAN, header_csrf=True)
def stop_sending(study_id: uuid.UUID, sending_id: uuid.UUID) -> dict[str, Any]:
    """Stops a sending that is on its way."""
    exchanging.stop(study_id, sending_id)
    return _one(study_id, sending_id)


def document(view: SendingView) -> dict[str, Any]:
    """A sending as the API gives it."""
    row = view.sending
    code, detail = (view.trouble, {}) if view.waiting else (row.failure_code, row.failure_detail)
    return {
        "id": row.id,
        "study_id": row.study_id,
        "peer_id": row.peer_id,
        "peer_name": row.peer_name,
        "content": Content(row.content),
        "model_digest": row.checkpoint.digest,
        "state": RequestState(row.state),
        "code": code,
        "reason": english(code, detail),
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "objects": [_object(item) for item in view.objects],
    }


def _object(item: SentObject) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "state": ObjectState(item.state),
        "status": item.status,
        "comment": item.comment,
        "answered_at": item.answered_at,
    }


def _one(study_id: uuid.UUID, sending_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        find_study(db, study_id)
        return document(sendings.one(db, study_id, sending_id))
