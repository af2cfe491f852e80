"""API: the receipt of a prediction, and computing it again."""

import uuid
from typing import Any

from flask import url_for
from sqlalchemy import select

from config.queues import QUEUE_INTERACTIVE, TASK_REPRODUCE
from db.jobs import WorkItem
from db.predictions import Reproduction
from db.queries import audit, results
from db.states import ItemState, Priority, Role
from web import submitting
from web.access import actor, requires, the_user
from web.api import schemas
from web.api.routing import ApiBlueprint
from web.objects import VIEW_WINDOW_S, find_prediction, note_view
from web.problems import Problem
from web.services import services

blueprint = ApiBlueprint("predictions", __name__, description="How a result came about, and repeating it")


@blueprint.at("GET", "/predictions/<uuid:prediction_id>/receipt", problems=(404,))
@blueprint.gives(200, schemas.PredictionReceipt)
@requires(Role.SUBMITTER)
def receipt(prediction_id: uuid.UUID) -> dict[str, Any]:
    """Digests of input and model, preprocessing, engine, code version, time."""
    return load_receipt(prediction_id)


@blueprint.at("POST", "/predictions/<uuid:prediction_id>/reproduce", problems=(404, 409))
@blueprint.gives(202, schemas.Reproduction)
@requires(Role.SUBMITTER, header_csrf=True)
def reproduce(prediction_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Computes the prediction again from the stored file with the same model, and compares to the bit."""
    document = _document(request_reproduction(prediction_id))
    return document, 202, {"Location": document["links"]["self"]}


@blueprint.at("GET", "/predictions/<uuid:prediction_id>/reproductions/<uuid:reproduction_id>", problems=(404,))
@blueprint.gives(200, schemas.Reproduction)
@requires(Role.SUBMITTER)
def reproduction(prediction_id: uuid.UUID, reproduction_id: uuid.UUID) -> dict[str, Any]:
    """How the repetition compares."""
    with services().database.read() as db:
        find_prediction(db, prediction_id)
        found = db.get(Reproduction, reproduction_id)
    if found is None or found.prediction_id != prediction_id:
        raise Problem(404, "not_found", "There is no such repetition of this prediction.")
    return _document(found)


def load_receipt(prediction_id: uuid.UUID) -> dict[str, Any]:
    """The receipt of a prediction that the user may see; noted as a view of its study."""
    with services().database.read() as db:
        study_id = find_prediction(db, prediction_id).instance.study_id
    note_view("study.view", study_id, once_in_s=VIEW_WINDOW_S)
    with services().database.read() as db:
        return results.prediction_receipt(db, find_prediction(db, prediction_id), the_user().viewer)


def request_reproduction(prediction_id: uuid.UUID) -> Reproduction:
    """Asks for a repetition, unless one is waiting already; committed and rung for.

    Raises:
        Problem: 404, or 409 when the submission behind the prediction is gone.
    """
    parts = services()
    with parts.database.write() as db:
        prediction = find_prediction(db, prediction_id)
        waiting = db.scalars(
            select(Reproduction)
            .where(Reproduction.prediction_id == prediction_id, Reproduction.state == "pending")
            .limit(1)
        ).one_or_none()
        if waiting is not None:
            return waiting
        job_id = results.job_for(db, prediction)
        if job_id is None:
            raise Problem(409, "job_gone", "The submission behind this prediction is gone; it cannot be repeated.")
        wanted = Reproduction(prediction_id=prediction_id, job_id=job_id, requested_by_id=the_user().id, detail={})
        db.add(wanted)
        db.flush()
        item = WorkItem(
            job_id=job_id,
            task=TASK_REPRODUCE,
            queue=QUEUE_INTERACTIVE,
            priority_rank=Priority.NORMAL.rank,
            arguments={"reproduction_id": str(wanted.id)},
            slices=0,
            max_attempts=parts.settings.max_attempts,
            state=ItemState.PENDING,
        )
        db.add(item)
        db.flush()
        audit.record(db, actor(), "prediction.reproduce", object_kind="prediction", object_id=prediction_id)
        ring = (item.task, item.queue, item.id)
    submitting.ring_for([ring])
    return wanted


def _document(found: Reproduction) -> dict[str, Any]:
    address = url_for("predictions.reproduction", prediction_id=found.prediction_id, reproduction_id=found.id)
    return {
        "id": found.id,
        "prediction_id": found.prediction_id,
        "state": found.state or "pending",
        "largest_difference": found.largest_difference,
        "detail": found.detail or {},
        "created_at": found.created_at,
        "links": {"self": address},
    }
