"""The registry of checkpoints and which of them serves.

Owns registering by digest, promotion by digest, and the answer to "which checkpoint do new jobs use". Refuses to
promote what is not registered, and to read an artefact: whoever registers has loaded and verified it.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint, Promotion
from db.upserts import insert_missing


class UnknownCheckpoint(Exception):
    """No checkpoint of that digest is registered; the message says what to do."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What the registry keeps of a verified artefact."""

    name: str
    digest: str
    location: str
    network: str
    class_names: tuple[str, ...]
    manifest: dict[str, Any]
    model_card: str = ""


def register(session: Session, facts: CheckpointFacts) -> Checkpoint:
    """The checkpoint of this digest, made when it is new. A known one gets its newest location."""
    insert_missing(
        session,
        Checkpoint,
        [
            {
                "id": uuid.uuid4(),
                "name": facts.name[:128],
                "digest": facts.digest,
                "location": facts.location,
                "network": facts.network[:64],
                "class_names": list(facts.class_names),
                "manifest": facts.manifest,
                "model_card": facts.model_card,
            }
        ],
    )
    checkpoint = session.scalars(select(Checkpoint).where(Checkpoint.digest == facts.digest)).one()
    if checkpoint.location != facts.location:
        checkpoint.location = facts.location
        session.flush()
    return checkpoint


def promote(session: Session, digest: str, *, by: uuid.UUID | None, reason: str) -> Promotion:
    """From the commit on, new jobs use the checkpoint of this digest; running jobs keep theirs.

    Args:
        session: In a write transaction.
        digest: SHA-256 of the artefact.
        by: The user; None for the system itself.
        reason: For the history.

    Raises:
        UnknownCheckpoint: When no such checkpoint is registered.
    """
    checkpoint = session.scalars(select(Checkpoint).where(Checkpoint.digest == digest)).one_or_none()
    if checkpoint is None:
        raise UnknownCheckpoint(
            f"received the digest {digest[:80]!r}, which is not registered; expected the SHA-256 of a registered "
            "checkpoint: put its artefact into the models folder and wait for housekeeping to register it"
        )
    promotion = Promotion(checkpoint_id=checkpoint.id, promoted_by_id=by, reason=reason)
    session.add(promotion)
    session.flush()
    return promotion


def serving(session: Session) -> Checkpoint | None:
    """The checkpoint of the newest promotion; None before the first."""
    return session.scalars(
        select(Checkpoint)
        .join(Promotion, Promotion.checkpoint_id == Checkpoint.id)
        .order_by(Promotion.created_at.desc(), Promotion.id.desc())
        .limit(1)
    ).one_or_none()


def by_id(session: Session, checkpoint_id: uuid.UUID) -> Checkpoint | None:
    """The checkpoint of this id."""
    return session.get(Checkpoint, checkpoint_id)


def known_digests(session: Session) -> set[str]:
    """Digests of all registered checkpoints."""
    return set(session.scalars(select(Checkpoint.digest)))


def history(session: Session, limit: int = 50) -> list[Promotion]:
    """The newest promotions first."""
    return list(
        session.scalars(select(Promotion).order_by(Promotion.created_at.desc(), Promotion.id.desc()).limit(limit))
    )
