"""Checkpoints that may serve, and which of them served when.

Owns the registry rows and the promotion history; the serving checkpoint is the one of the newest promotion.
Refuses to hold weights: the artefact is a file, named here by its digest.
"""

import uuid
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId


class Checkpoint(WithId, Base):
    """One artefact: weights and all that is needed to reuse them."""

    __tablename__ = "checkpoint"

    name: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the whole artefact file; the name by which it is promoted."""
    location: Mapped[str] = mapped_column(String(512))
    """Blob key (`blob:KEY`), as housekeeping registers it, or a file name in the models folder (`models:NAME`)."""
    network: Mapped[str] = mapped_column(String(64))
    class_names: Mapped[list[Any]]
    manifest: Mapped[dict[str, Any]]
    model_card: Mapped[str] = mapped_column(Text, default="")
    """Markdown, for people."""


class Promotion(WithId, Base):
    """From `created_at` on, new jobs use this checkpoint."""

    __tablename__ = "promotion"

    checkpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    promoted_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    reason: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(16), default="promotion", server_default="promotion")
    """`promotion`, or `rollback` to a checkpoint that served before."""
    choices: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """What was accepted explicitly, such as other classes than those of the checkpoint before."""

    checkpoint: Mapped[Checkpoint] = relationship()
