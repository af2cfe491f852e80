"""API: the models that may serve, which served when, promotion, rollback, recall, and classifying again."""

import uuid
from typing import Any

from flask import Response, url_for

from db.queries import promotions, withdrawals
from db.queries.promotions import CheckpointRow, Period, Standing
from db.queries.refusals import RegistryRefused
from db.queries.reruns import Rerun
from db.states import Role
from web import registry
from web.access import requires
from web.api import documents
from web.api import registry_schemas as schemas
from web.api.jobs import CSV_DOC, load_progress
from web.api.routing import ApiBlueprint
from web.objects import note
from web.services import services

blueprint = ApiBlueprint("checkpoints", __name__, description="Models: which serves, which served, and recall")


@blueprint.at("GET", "/checkpoints")
@blueprint.gives(200, schemas.CheckpointList)
@requires(Role.SUBMITTER)
def checkpoints() -> dict[str, Any]:
    """All registered models with digest and metrics, the serving one first."""
    with services().database.read() as db:
        return {"checkpoints": [checkpoint_document(row) for row in promotions.standings(db)]}


@blueprint.at("GET", "/checkpoints/history", problems=(422,))
@blueprint.takes(schemas.HistoryQuery, location="query")
@blueprint.gives(200, schemas.History)
@requires(Role.CLINICIAN)
def history(wanted: dict[str, Any]) -> dict[str, Any]:
    """Which model served when; with `at`, the one that served at that moment."""
    with services().database.read() as db:
        if wanted["at"] is None:
            found = promotions.periods(db)
        else:
            served = promotions.served_at(db, wanted["at"])
            found = [served] if served else []
        return {"periods": [_period(item) for item in found]}


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>", problems=(404,))
@blueprint.gives(200, schemas.CheckpointDetail)
@requires(Role.CLINICIAN)
def checkpoint(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """A model: manifest, card, when it served, whether it is withdrawn."""
    return _detail(checkpoint_id)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/promote", problems=(404, 409, 422))
@blueprint.takes(schemas.NewPromotion)
@blueprint.gives(200, schemas.CheckpointDetail)
@requires(Role.ADMIN, header_csrf=True)
def promote(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Promotes a model. Refused when its file is missing or altered, it is withdrawn, or its classes are others."""
    registry.promote(
        checkpoint_id,
        reason=wanted["reason"],
        seen=wanted["seen"] or _newest(),
        accept_classes=wanted["accept_other_classes"],
    )
    return _detail(checkpoint_id)


@blueprint.at("POST", "/checkpoints/rollback", problems=(409, 422))
@blueprint.takes(schemas.NewRollback)
@blueprint.gives(200, schemas.CheckpointDetail)
@requires(Role.ADMIN, header_csrf=True)
def rollback(wanted: dict[str, Any]) -> dict[str, Any]:
    """Promotes the model that served before, and withdraws the one that serves; returns the one that serves now."""
    return _detail(registry.roll_back(reason=wanted["reason"], seen=wanted["seen"] or _newest()).id)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/withdraw", problems=(404, 409, 422))
@blueprint.takes(schemas.Reason)
@blueprint.gives(200, schemas.CheckpointDetail)
@requires(Role.ADMIN, header_csrf=True)
def withdraw(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Marks every result of a model that does not serve."""
    registry.withdraw(checkpoint_id, reason=wanted["reason"])
    return _detail(checkpoint_id)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/lift", problems=(404, 409))
@blueprint.gives(200, schemas.CheckpointDetail)
@requires(Role.ADMIN, header_csrf=True)
def lift(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Removes the mark again; the history keeps it."""
    registry.lift(checkpoint_id)
    return _detail(checkpoint_id)


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>/results", problems=(404, 422))
@blueprint.takes(schemas.PageQuery, location="query")
@blueprint.gives(200, schemas.Affected)
@requires(Role.CLINICIAN)
def results(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Every study with results of a model, and how many of them the serving model has repeated."""
    note("checkpoint", "checkpoint.results", checkpoint_id, once_in_s=300)
    with services().database.read() as db:
        registry.find_checkpoint(db, checkpoint_id)
        newest = promotions.newest_promotion(db)
        found = withdrawals.affected(db, checkpoint_id, newest.checkpoint_id if newest else None, wanted["page"])
    return {
        "studies": [
            {
                "study_id": item.study.id,
                "title": item.study.title,
                "slices": item.slices,
                "repeated": item.repeated,
                "first_at": item.first_at,
                "last_at": item.last_at,
                "jobs": [{"id": job.id, "title": job.title, "sent_by": sender} for job, sender in item.jobs],
            }
            for item in found.studies
        ],
        "total_studies": found.total_studies,
        "total_slices": found.total_slices,
        "repeated_slices": found.repeated_slices,
        "page": found.number,
        "pages": found.pages,
    }


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>/results.csv", problems=(404,))
@blueprint.gives(200, **CSV_DOC)
@requires(Role.CLINICIAN)
def results_csv(checkpoint_id: uuid.UUID) -> Response:
    """Every single result of a model, one row a slice."""
    return registry.affected_csv(checkpoint_id)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/rerun", problems=(404, 409, 422))
@blueprint.takes(schemas.NewRerun)
@blueprint.gives(202, schemas.JobsStarted)
@requires(Role.ADMIN, header_csrf=True)
def rerun(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Runs every study with results of a model again, with the serving one."""
    return _started(registry.run_again(checkpoint_id, priority=wanted["priority"]))


@blueprint.at("POST", "/reclassifications", problems=(404, 409, 422))
@blueprint.takes(schemas.NewReclassification)
@blueprint.gives(202, schemas.JobsStarted)
@requires(Role.ADMIN, header_csrf=True)
def reclassify(wanted: dict[str, Any]) -> dict[str, Any]:
    """Classifies a study, or all studies received in [since, until), with the serving model; old results stay."""
    if wanted["study_id"] is not None:
        return _started(registry.reclassify_study(wanted["study_id"], priority=wanted["priority"]))
    if wanted["since"] is None or wanted["until"] is None:
        raise RegistryRefused("what_missing", "Name a study_id, or both since and until.", status=422)
    return _started(registry.reclassify_period(wanted["since"], wanted["until"], priority=wanted["priority"]))


def checkpoint_document(row: CheckpointRow) -> dict[str, Any]:
    """The document of a model."""
    found = row.checkpoint
    return {
        "id": found.id,
        "name": found.name,
        "digest": found.digest,
        "network": found.network,
        "class_names": found.class_names,
        "metrics": found.manifest.get("metrics") or {},
        "serving": row.standing == Standing.SERVING,
        "standing": row.standing,
        "withdrawn": documents.withdrawal_document(row.withdrawal),
        "created_at": found.created_at,
        "links": {
            "self": url_for("checkpoints.checkpoint", checkpoint_id=found.id),
            "results": url_for("checkpoints.results", checkpoint_id=found.id),
            "results_csv": url_for("checkpoints.results_csv", checkpoint_id=found.id),
        },
    }


def _detail(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        row = promotions.standing_of(db, registry.find_checkpoint(db, checkpoint_id))
    return {
        **checkpoint_document(row),
        "manifest": row.checkpoint.manifest,
        "model_card": row.checkpoint.model_card,
        "periods": [_period(item) for item in row.periods],
    }


def _period(item: Period) -> dict[str, Any]:
    return {
        "promotion_id": item.promotion.id,
        "checkpoint_id": item.checkpoint.id,
        "name": item.checkpoint.name,
        "digest": item.checkpoint.digest,
        "since": item.since,
        "until": item.until,
        "promoted_by": item.promoted_by,
        "kind": item.promotion.kind,
        "reason": item.promotion.reason,
        "choices": item.promotion.choices,
    }


def _newest() -> uuid.UUID | None:
    with services().database.read() as db:
        newest = promotions.newest_promotion(db)
    return newest.id if newest else None


def _started(made: list[Rerun]) -> dict[str, Any]:
    return {"jobs": [documents.job_document(load_progress(item.job_id)) for item in made]}
