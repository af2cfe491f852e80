"""API: models in and out as files, models of runs, and a candidate against the serving model."""

import uuid
from typing import Any

from flask import Response, url_for

from db.queries import comparisons, imports, promotions, shadows
from db.queries.shadows import ShadowResult
from db.registry import CheckpointImport, Comparison
from db.states import ItemState, RequestState, Role
from web import model_files, registry
from web.access import requires
from web.api import documents
from web.api import registry_schemas as schemas
from web.api.routing import ApiBlueprint
from web.problems import Problem
from web.reception import receive_raw
from web.services import services

blueprint = ApiBlueprint("candidates", __name__, description="Candidates: files, models of runs, comparisons, shadows")

FILE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>/artefact", problems=(404, 409))
@blueprint.gives(200, content_type=model_files.CONTENT_TYPE, description="The artefact; its SHA-256 is the ETag")
@requires(Role.ADMIN)
def artefact(checkpoint_id: uuid.UUID) -> Response:
    """The model as one file, verified before the first byte goes out."""
    return model_files.download(checkpoint_id)


@blueprint.at("GET", "/checkpoints/imports")
@blueprint.gives(200, schemas.ImportList)
@requires(Role.ADMIN)
def import_list() -> dict[str, Any]:
    """Files that were taken in lately, and what became of them."""
    with services().database.read() as db:
        return {"imports": [_import(row) for row, _, _ in imports.newest_imports(db)]}


@blueprint.at("POST", "/checkpoints/imports", problems=(400, 413, 415, 422, 507), doc=FILE_BODY)
@blueprint.takes(schemas.NewImport, location="query")
@blueprint.gives(202, schemas.Import)
@requires(Role.ADMIN, header_csrf=True)
def take_in(stated: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Takes a file in: a whole artefact, or weights for a network of ours as stated in the query."""
    with receive_raw(stated["file_name"]) as received:
        text = {name: str(value) for name, value in stated.items() if value is not None}
        import_id = model_files.take_in(received, stated["kind"], text)
    document = _load_import(import_id)
    return document, 202, {"Location": document["links"]["self"]}


@blueprint.at("GET", "/checkpoints/imports/<uuid:import_id>", problems=(404,))
@blueprint.gives(200, schemas.Import)
@requires(Role.ADMIN)
def import_state(import_id: uuid.UUID) -> dict[str, Any]:
    """What became of a file."""
    return _load_import(import_id)


@blueprint.at("POST", "/runs/<uuid:run_id>/checkpoint", problems=(404, 409))
@blueprint.gives(202, schemas.Export)
@requires(Role.ADMIN, header_csrf=True)
def export_run(run_id: uuid.UUID) -> dict[str, Any]:
    """Makes a model of a finished run; ask again with GET until it is there."""
    model_files.export_run(run_id)
    return _export(run_id)


@blueprint.at("GET", "/runs/<uuid:run_id>/checkpoint", problems=(404,))
@blueprint.gives(200, schemas.Export)
@requires(Role.CLINICIAN)
def exported_run(run_id: uuid.UUID) -> dict[str, Any]:
    """The model that was made of a run, or how far that is."""
    return _export(run_id)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/comparison", problems=(404, 409, 422))
@blueprint.takes(schemas.NewComparison)
@blueprint.gives(202, schemas.Comparison)
@requires(Role.ADMIN, header_csrf=True)
def compare(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Runs a candidate and the serving model over the same held-back slices."""
    comparison_id = registry.compare(checkpoint_id, dataset_id=wanted["dataset_id"])
    with services().database.read() as db:
        return _comparison(db.get_one(Comparison, comparison_id))


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>/comparison", problems=(404,))
@blueprint.gives(200, schemas.Comparison)
@requires(Role.CLINICIAN)
def comparison(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """The newest comparison of a candidate with the serving model, with every slice's outcome."""
    with services().database.read() as db:
        registry.find_checkpoint(db, checkpoint_id)
        newest = promotions.newest_promotion(db)
        found = comparisons.newest(db, checkpoint_id, newest.checkpoint_id if newest else None)
    if found is None:
        raise Problem(404, "no_comparison", "This model was not compared with the serving one; POST here to do it.")
    return _comparison(found)


@blueprint.at("POST", "/checkpoints/<uuid:checkpoint_id>/shadow", problems=(404, 409, 422))
@blueprint.takes(schemas.NewShadow)
@blueprint.gives(202, schemas.Shadow)
@requires(Role.ADMIN, header_csrf=True)
def start_shadow(wanted: dict[str, Any], checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """Runs a candidate on the newest studies; its results are kept apart from those that are shown."""
    registry.start_shadow(checkpoint_id, studies=wanted["studies"])
    return _shadow(checkpoint_id)


@blueprint.at("GET", "/checkpoints/<uuid:checkpoint_id>/shadow", problems=(404,))
@blueprint.gives(200, schemas.Shadow)
@requires(Role.ADMIN)
def shadow(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    """The newest shadow run of a candidate, as far as it is."""
    return _shadow(checkpoint_id)


def _load_import(import_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        found = db.get(CheckpointImport, import_id)
    if found is None:
        raise Problem(404, "not_found", "There is no import of this number.")
    return _import(found)


def _import(row: CheckpointImport) -> dict[str, Any]:
    links = {"self": url_for("candidates.import_state", import_id=row.id)}
    if row.checkpoint_id:
        links["checkpoint"] = url_for("checkpoints.checkpoint", checkpoint_id=row.checkpoint_id)
    return {
        "id": row.id,
        "kind": row.kind,
        "file_name": row.file_name,
        "sha256": row.sha256,
        "state": RequestState(row.state),
        "failure": documents.explained(row.failure_code or "", row.failure_detail),
        "checkpoint_id": row.checkpoint_id,
        "created_at": row.created_at,
        "links": links,
    }


def _export(run_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        run = registry.find_run(db, run_id)
        item = imports.newest_export(db, run_id)
    if run.checkpoint_id:
        state = RequestState.DONE
    elif item is None:
        raise Problem(404, "not_asked", "No model was made of this run; POST here to have one made.")
    else:
        state = RequestState.FAILED if item.state == ItemState.DEAD else RequestState.PENDING
    failure = documents.explained(item.error_code, item.error_detail) if item and state == RequestState.FAILED else None
    return {"run_id": run_id, "state": state, "failure": failure, "checkpoint_id": run.checkpoint_id}


def _comparison(row: Comparison) -> dict[str, Any]:
    return {
        "id": row.id,
        "candidate_id": row.candidate_id,
        "reference_id": row.reference_id,
        "state": RequestState(row.state),
        "result": row.result,
        "failure": documents.explained(row.failure_code or "", row.failure_detail),
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def _shadow(checkpoint_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        registry.find_checkpoint(db, checkpoint_id)
        run = shadows.newest_run(db, checkpoint_id)
        found: ShadowResult | None = shadows.result(db, run) if run else None
    if found is None:
        raise Problem(404, "no_shadow", "There was no shadow run of this model; POST here to start one.")
    return {
        "job_id": found.run.job_id,
        "candidate_id": found.candidate.id,
        "reference_id": found.reference.id,
        "state": found.state,
        "studies": found.run.studies,
        "total": found.total,
        "done": found.done,
        "failed": found.failed,
        "agreed": found.agreed,
        "agreement": [
            {"reference": pair[0], "candidate": pair[1], "slices": count} for pair, count in found.agreement.items()
        ],
        "findings": [
            {"reference": pair[0], "candidate": pair[1], "studies": count} for pair, count in found.findings.items()
        ],
        "changed": [
            {
                "study_id": item.study.id,
                "slice_id": item.instance.id,
                "reference": item.before,
                "reference_probability": item.before_probability,
                "candidate": item.after,
                "candidate_probability": item.after_probability,
            }
            for item in found.changed
        ],
        "candidate_ms": found.candidate_ms,
        "reference_ms": found.reference_ms,
    }
