"""API: the models that may serve."""

from typing import Any

from sqlalchemy import select

from db.checkpoints import Checkpoint
from db.queries.checkpoints import serving
from db.states import Role
from web.access import requires
from web.api import schemas
from web.api.routing import ApiBlueprint
from web.services import services

blueprint = ApiBlueprint("checkpoints", __name__, description="Models")


@blueprint.at("GET", "/checkpoints")
@blueprint.gives(200, schemas.CheckpointList)
@requires(Role.SUBMITTER)
def checkpoints() -> dict[str, Any]:
    """All registered models with digest and metrics, the serving one first."""
    with services().database.read() as db:
        current = serving(db)
        found = db.scalars(select(Checkpoint).order_by(Checkpoint.created_at.desc())).all()
    rows = [
        {
            "id": item.id,
            "name": item.name,
            "digest": item.digest,
            "network": item.network,
            "class_names": item.class_names,
            "metrics": item.manifest.get("metrics") or {},
            "serving": current is not None and item.id == current.id,
            "created_at": item.created_at,
        }
        for item in found
    ]
    return {"checkpoints": sorted(rows, key=lambda row: not row["serving"])}
