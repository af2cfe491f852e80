"""Sweeps, their runs, and what the runs reported.

Owns the truth about training: which scenarios were asked for, how far each run is, and every number it gave. States
change through `db.states.check` in the queries. Refuses to hold weights: those are blobs, named by their digest.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId, utc_now
from db.datasets import TrainingDataset
from db.states import RunState, SweepState


class Sweep(WithId, Base):
    """A set of scenarios to be trained on one data set."""

    __tablename__ = "sweep"
    __table_args__ = (Index("ix_sweep_state_created", "state", "created_at"),)

    name: Mapped[str] = mapped_column(String(128))
    created_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("training_dataset.id"), index=True)
    scenario_file: Mapped[str] = mapped_column(String(128), default="")
    """Name in `config/scenarios`, when it was chosen and not written."""
    scenario_text: Mapped[str] = mapped_column(Text)
    """The YAML, as given."""
    state: Mapped[SweepState] = mapped_column(String(16), default=SweepState.PLANNING)
    problems: Mapped[list[Any]] = mapped_column(default=list)
    """Why it was refused: one entry {line, field, value, expected, message} a mistake."""
    code_version: Mapped[str] = mapped_column(String(64), default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    dataset: Mapped[TrainingDataset] = relationship()


class TrainingRun(WithId, Base):
    """One training of one scenario."""

    __tablename__ = "training_run"
    __table_args__ = (
        UniqueConstraint("sweep_id", "name"),
        Index("ix_training_run_sweep_state", "sweep_id", "state"),
        Index("ix_training_run_work_item", "work_item_id"),
    )

    sweep_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("sweep.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    name: Mapped[str] = mapped_column(String(128))
    scenario: Mapped[dict[str, Any]]
    scenario_digest: Mapped[str] = mapped_column(String(64))
    group_key: Mapped[str] = mapped_column(String(64), default="")
    """Runs of one sweep with equal keys share their work."""
    work_item_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("work_item.id", ondelete="SET NULL"))
    state: Mapped[RunState] = mapped_column(String(16), default=RunState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    """How often a worker began or took it up again."""
    epochs_planned: Mapped[int]
    epochs_done: Mapped[int] = mapped_column(default=0)
    best_epoch: Mapped[int | None]
    """Counted from 0."""
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """For leaderboards: `PART.NAME` (such as `test.accuracy`) -> {value, low, high}."""
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Environment: versions, processor, threads, device; the split's counts; the test part's digest."""
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    wall_s: Mapped[float] = mapped_column(default=0.0)
    images_per_s: Mapped[float | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    code_version: Mapped[str] = mapped_column(String(64), default="")
    weights_sha256: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Blob of the best weights (`.npz` by Keras path); empty before the run is finished."""
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id", ondelete="SET NULL"))
    """The artefact that was made of it."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    sweep: Mapped[Sweep] = relationship()


class RunEpoch(Base):
    """What one run reported at the end of one epoch; written once, whatever is done again."""

    __tablename__ = "run_epoch"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("training_run.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    """Counted from 0."""
    facts: Mapped[dict[str, Any]]
    """Numbers by name: loss, validation_loss, validation_accuracy, images_per_s, epoch_s, ..."""
    recorded_at: Mapped[datetime] = mapped_column(default=utc_now)


class RunReport(Base):
    """The whole report of a finished run; its layout is in docs/run-report.md."""

    __tablename__ = "run_report"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("training_run.id", ondelete="CASCADE"), primary_key=True)
    report: Mapped[dict[str, Any]]


class RunMistake(WithId, Base):
    """One of the mistakes of which a run was surest, with what it saw and where it looked."""

    __tablename__ = "run_mistake"
    __table_args__ = (UniqueConstraint("run_id", "part", "rank"),)

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("training_run.id", ondelete="CASCADE"))
    part: Mapped[str] = mapped_column(String(16))
    rank: Mapped[int]
    facts: Mapped[dict[str, Any]]
    """file, label, prediction, probability, plane."""
    picture_png: Mapped[bytes] = mapped_column(LargeBinary)
    """The prepared slice, grey."""
    heatmap_png: Mapped[bytes] = mapped_column(LargeBinary)
    """Grad-CAM of the prediction, grey, at the network's grid; it covers the prepared slice."""
