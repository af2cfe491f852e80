"""What happens to checkpoints besides serving: withdrawals, comparisons, shadow runs, imports.

Owns the rows by which a model can be recalled and by which a candidate is judged before it serves. Refuses to hold
results of its own: those are predictions, one for each (instance, checkpoint), like all others.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId
from db.checkpoints import Checkpoint
from db.jobs import Job
from db.states import RequestState


class Withdrawal(WithId, Base):
    """From `created_at` on, results of this checkpoint are marked as withdrawn, until `lifted_at`."""

    __tablename__ = "withdrawal"

    checkpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    withdrawn_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    reason: Mapped[str] = mapped_column(Text)
    lifted_at: Mapped[datetime | None]
    lifted_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))

    checkpoint: Mapped[Checkpoint] = relationship()


class Comparison(WithId, Base):
    """A candidate against another checkpoint on the same held-back slices."""

    __tablename__ = "comparison"
    __table_args__ = (Index("ix_comparison_pair", "candidate_id", "reference_id"),)

    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"))
    reference_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"))
    dataset_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("training_dataset.id", ondelete="SET NULL"))
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    state: Mapped[RequestState] = mapped_column(String(16), default=RequestState.PENDING)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Counts, accuracies with intervals, discordant pairs and McNemar's p; what is known of slices either was trained
    on."""
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]


class ShadowRun(WithId, Base):
    """A candidate on studies that were classified before; its results are kept apart from those that are shown."""

    __tablename__ = "shadow_run"

    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    reference_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"))
    """The checkpoint that served when it was asked for."""
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), unique=True)
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    studies: Mapped[int]
    """How many of the newest studies it covers."""

    job: Mapped[Job] = relationship()


class CheckpointImport(WithId, Base):
    """A file that somebody sent to become a checkpoint, and what became of it."""

    __tablename__ = "checkpoint_import"

    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    kind: Mapped[str] = mapped_column(String(16))
    """`artefact` (a whole .neurosight file) or `weights` (.weights.h5 or .npz for an architecture of our registry)."""
    file_name: Mapped[str] = mapped_column(String(200))
    """As sent, cleaned for display."""
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Of weights: network, head, class names, preprocessing, as stated by the user."""
    state: Mapped[RequestState] = mapped_column(String(16), default=RequestState.PENDING)
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id", ondelete="SET NULL"))
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]
