"""Jobs: submissions, their receipts, their claimable work, and the state of each slice.

Owns the rows that ARE the work; a broker message is only a doorbell for a row of `WorkItem`.
States change through `db.states.check` in the queries, never by hand.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId
from db.checkpoints import Checkpoint
from db.states import ItemState, JobState, Priority, Purpose, SliceState


class Job(WithId, Base):
    """One submission."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_state_created", "state", "created_at"),)

    upload_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("upload.id", ondelete="SET NULL"), unique=True)
    created_by_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL"), index=True
    )
    title: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[Priority] = mapped_column(String(16), default=Priority.NORMAL)
    purpose: Mapped[Purpose] = mapped_column(String(24), default=Purpose.SUBMISSION, server_default=Purpose.SUBMISSION)
    state: Mapped[JobState] = mapped_column(String(16), default=JobState.RECEIVED)
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id"))
    """Pinned when the job is cut into slices: one job, one checkpoint."""
    content_digest: Mapped[str] = mapped_column(String(64), default="", index=True)
    """SHA-256 over the sorted digests of the files sent: recognises the same submission."""
    duplicate_of_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    cancel_requested_at: Mapped[datetime | None]
    last_claimed_at: Mapped[datetime | None]
    """When a work item of this job was last claimed: the round robin between jobs."""
    opened_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    deidentified: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its files are de-identified before they are kept; decided when they are first opened."""

    checkpoint: Mapped[Checkpoint | None] = relationship()


class JobStudy(Base):
    """A study to which a job contributed (or which it sent again)."""

    __tablename__ = "job_study"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class ReceivedFile(WithId, Base):
    """One line of the batch receipt: a file that was sent, and what became of it."""

    __tablename__ = "received_file"
    __table_args__ = (Index("ix_received_file_job_sequence", "job_id", "sequence"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(24))
    """A value of `imaging.outcomes.Outcome`."""
    reason: Mapped[str] = mapped_column(String(64), default="")
    """Key of the sentence in `imaging.outcomes.SENTENCES`."""
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The sentence's parameters."""
    slices: Mapped[int] = mapped_column(default=0)
    """Slices this file contributed."""
    study_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("study.id", ondelete="SET NULL"), index=True)
    instance_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("instance.id", ondelete="SET NULL"), index=True)
    """The (first) slice it became; for a duplicate, the slice that was there before."""


class WorkItem(WithId, Base):
    """A piece of work that one worker claims at a time."""

    __tablename__ = "work_item"
    __table_args__ = (
        Index("ix_work_item_claim", "state", "queue", "created_at"),
        Index("ix_work_item_lease", "state", "lease_until"),
        Index("ix_work_item_job", "job_id", "state"),
    )

    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    """The submission it belongs to; none for training and the registry."""
    sweep_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("sweep.id", ondelete="CASCADE"), index=True)
    """The sweep it belongs to, if any."""
    task: Mapped[str] = mapped_column(String(64))
    """A name of `config.queues.TASKS`."""
    queue: Mapped[str] = mapped_column(String(24))
    priority_rank: Mapped[int] = mapped_column(default=1)
    sequence: Mapped[int] = mapped_column(default=0)
    """Order among the items of one job."""
    arguments: Mapped[dict[str, Any]] = mapped_column(default=dict)
    slices: Mapped[int] = mapped_column(default=0)
    state: Mapped[ItemState] = mapped_column(String(16), default=ItemState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    """Counted when claimed, before any work, so that a killed worker counts."""
    max_attempts: Mapped[int]
    deferrals: Mapped[int] = mapped_column(default=0)
    """How often it was put off for a fault of the surroundings (database, blob store, no model yet)."""
    progress: Mapped[int] = mapped_column(default=0)
    """Files (intake) or slices (classify) finished in the running attempt, as last reported; for people to watch."""
    lease_token: Mapped[uuid.UUID | None]
    lease_until: Mapped[datetime | None]
    worker_name: Mapped[str] = mapped_column(String(128), default="")
    not_before: Mapped[datetime | None]
    enqueued_at: Mapped[datetime | None]
    """When its message was last sent; empty: not yet."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str] = mapped_column(String(64), default="")
    error_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)

    job: Mapped[Job | None] = relationship()


class JobSlice(WithId, Base):
    """One slice that a job asks to have classified, and how far that is."""

    __tablename__ = "job_slice"
    __table_args__ = (
        UniqueConstraint("job_id", "instance_id"),
        Index("ix_job_slice_job_state", "job_id", "state"),
        Index("ix_job_slice_work_item", "work_item_id"),
        Index("ix_job_slice_instance", "instance_id"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    instance_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("instance.id", ondelete="CASCADE"))
    work_item_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("work_item.id", ondelete="SET NULL"))
    state: Mapped[SliceState] = mapped_column(String(16), default=SliceState.PENDING)
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]
