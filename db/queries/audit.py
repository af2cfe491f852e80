"""The audit trail: who did what to which object, and whether it was allowed.

Owns writing and reading its rows. Refuses to change or remove one, and to hold patient data: an object is named by
its id, a detail is a short machine-readable fact.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit_chain
from db.base import utc_now
from db.users import AuditEvent

OK, DENIED, FAILED = "ok", "denied", "failed"

SYSTEM_NAME = "system"


@dataclass(frozen=True)
class Actor:
    """Who acts, and from where."""

    user_id: uuid.UUID | None
    name: str
    remote_address: str = ""


SYSTEM = Actor(None, SYSTEM_NAME)


def record(
    session: Session,
    actor: Actor,
    action: str,
    *,
    object_kind: str = "",
    object_id: object = "",
    outcome: str = OK,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Adds one row, in the caller's transaction: what it describes and the row are kept together or not at all.

    Args:
        session: In a write transaction.
        actor: Who.
        action: What, as `object.verb`, e.g. `study.view`.
        object_kind: `study`, `job`, `user`, ...
        object_id: Its id.
        outcome: `ok`, `denied` or `failed`.
        detail: Short facts without identity.
    """
    row = AuditEvent(
        actor_id=actor.user_id,
        actor_name=actor.name[:64],
        action=action[:64],
        object_kind=object_kind[:32],
        object_id=str(object_id)[:64],
        outcome=outcome,
        remote_address=actor.remote_address[:64],
        detail=dict(detail or {}),
    )
    session.add(row)
    session.flush()
    audit_chain.remember(session, row)


def seen_lately(session: Session, actor: Actor, action: str, object_id: object, *, within_s: float) -> bool:
    """Whether the same actor's same allowed action on the same object was recorded within the last `within_s`."""
    return (
        session.scalar(
            select(AuditEvent.id)
            .where(
                AuditEvent.object_id == str(object_id),
                AuditEvent.action == action,
                AuditEvent.actor_id == actor.user_id,
                AuditEvent.outcome == OK,
                AuditEvent.occurred_at >= utc_now() - timedelta(seconds=within_s),
            )
            .limit(1)
        )
        is not None
    )


def newest(
    session: Session,
    *,
    limit: int = 100,
    before_id: int | None = None,
    action_prefix: str = "",
    outcome: str = "",
    object_id: str = "",
) -> list[AuditEvent]:
    """The newest rows first; `before_id` continues a list."""
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(AuditEvent.id < before_id)
    if action_prefix:
        query = query.where(AuditEvent.action.startswith(action_prefix, autoescape=True))
    if outcome:
        query = query.where(AuditEvent.outcome == outcome)
    if object_id:
        query = query.where(AuditEvent.object_id == object_id)
    return list(session.scalars(query))
