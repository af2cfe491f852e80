"""Health: is this process alive, can the whole system do its work, and what exactly is wrong.

Owns `/health/live`, `/health/ready` and `/health/status`. Readiness is judged by what is done, not by what runs:
database, broker, a worker that has the serving model loaded, and whether due work is being taken. The first two are
for everybody and name no version; details are for admins.
"""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, Response, jsonify
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from config.queues import QUEUE_HOUSEKEEPING
from config.version import code_version
from db import migrate
from db.queries import heartbeats, operations
from db.queries.checkpoints import serving
from db.states import Role
from web.access import public, requires
from web.services import Services, services

blueprint = Blueprint("health", __name__, url_prefix="/health")


@dataclass(frozen=True)
class Check:
    """One condition of readiness."""

    ok: bool
    detail: str


def init_app(app: Flask) -> None:
    """Adds the routes."""
    app.register_blueprint(blueprint)


@blueprint.get("/live")
@public
def live() -> Response:
    """This process answers."""
    return jsonify({"status": "ok"})


@blueprint.get("/ready")
@public
def ready() -> tuple[Response, int]:
    """200 when a study sent now would be classified, else 503; either way each check and what is missing."""
    checks = readiness(services())
    ok = all(check.ok for check in checks.values())
    body = {
        "status": "ok" if ok else "not_ready",
        "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()},
    }
    return jsonify(body), 200 if ok else 503


@blueprint.get("/status")
@requires(Role.ADMIN)
def status() -> Response:
    """Everything an administrator wants to know at a glance."""
    return jsonify(details(services()))


def readiness(parts: Services) -> dict[str, Check]:
    """Every condition, judged now."""
    checks = {"database": _database(parts), "broker": _broker(parts)}
    if not checks["database"].ok:
        unknown = Check(False, "not known while the database does not answer")
        return {**checks, "worker": unknown, "queue": unknown}
    settings = parts.settings
    with parts.database.read() as db:
        model = serving(db)
        workers = heartbeats.ready_workers(db, age_s=settings.worker_ready_age_s)
        backlog = operations.backlog(db, stuck_after_s=settings.resend_after_s * 2)
    if model is None:
        checks["worker"] = Check(False, "no model is promoted yet")
    elif not workers:
        checks["worker"] = Check(False, "no worker with the serving model was seen lately")
    else:
        checks["worker"] = Check(True, f"{len(workers)} with the serving model")
    if backlog.stuck:
        checks["queue"] = Check(False, f"work has been waiting for {backlog.oldest_due_s:.0f} s and none is taken")
    else:
        checks["queue"] = Check(True, f"oldest waiting work: {backlog.oldest_due_s:.0f} s")
    return checks


def details(parts: Services) -> dict[str, Any]:
    """The state of everything, for admins and for the doctor; no patient data."""
    settings = parts.settings
    checks = readiness(parts)
    report: dict[str, Any] = {
        "code_version": code_version(),
        "environment": settings.environment,
        "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()},
        "messages": parts.doorbell.waiting() if checks["broker"].ok else None,
    }
    if not checks["database"].ok:
        return report
    with parts.database.read() as db:
        model = serving(db)
        speed = heartbeats.throughput(db, worker_age_s=settings.worker_ready_age_s)
        report |= {
            "database": parts.database.engine.dialect.name,
            "serving": {"name": model.name, "digest": model.digest, "network": model.network} if model else None,
            "workers": [
                {
                    "name": worker.name,
                    "queues": worker.queues,
                    "engine": worker.engine,
                    "has_serving_model": model is not None and worker.checkpoint_id == model.id,
                    "started_at": worker.started_at.isoformat(),
                    "seen_at": worker.seen_at.isoformat(),
                    "facts": worker.facts,
                }
                for worker in heartbeats.alive(db, age_s=settings.worker_ready_age_s * 3)
            ],
            "queues": {
                name: {
                    "waiting": facts.waiting,
                    "running": facts.running,
                    "oldest_wait_s": round(facts.oldest_wait_s, 1),
                }
                for name, facts in heartbeats.queue_facts(db).items()
            },
            "jobs": operations.jobs_by_state(db),
            "slices": operations.slices_by_state(db),
            "slices_per_s": speed.slices_per_s,
        }
    return report


def _database(parts: Services) -> Check:
    try:
        with parts.database.read() as db:
            at = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        return Check(False, f"does not answer ({type(error.orig).__name__})")
    head = migrate.head()
    if at != head:
        return Check(False, f"is at revision {at}, this code expects {head}: run `make migrate`")
    return Check(True, parts.database.engine.dialect.name)


def _broker(parts: Services) -> Check:
    if not parts.settings.broker_url:
        return Check(False, "no broker is configured (NEUROSIGHT_BROKER_URL)")
    if parts.doorbell.waiting((QUEUE_HOUSEKEEPING,)) is None:
        return Check(False, "does not answer; jobs wait and are started when it is back")
    return Check(True, "answers")
