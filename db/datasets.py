"""Data sets that were registered for training, and their samples.

Owns what a training run may learn from, as it was on the day it was registered: the pictures' bytes lie in the blob
store under their SHA-256, so that nothing changes under a run when a folder does. Refuses to hold who a patient is:
`DatasetSample.patient` is the name the data set gives, or a pseudonym.
"""

import uuid
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, WithId
from db.states import DatasetState


class TrainingDataset(WithId, Base):
    """One registered data set."""

    __tablename__ = "training_dataset"

    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`folder` (one folder a class), `manifest` (manifest.csv) or `studies` (confirmed labels of the store)."""
    origin: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Where it was taken from: `folder` (its name below `datasets_dir`), `upload` (its id), or `since`, `until`,
    `classes` of reviewed slices."""
    state: Mapped[DatasetState] = mapped_column(String(16), default=DatasetState.REGISTERING)
    created_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    fingerprint: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 over file, bytes, label, patient and plane of every sample."""
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`classes`: label -> {slices, patients}; `planes`: plane -> slices; `sources`: source -> slices; `slices`;
    `patients`; `patients_known`: whether the data set names them, else every slice counts as one. While it is being
    read: `steps`, how many there are to do."""
    leaks: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the check for copies found; see docs/run-report.md."""
    problems: Mapped[list[Any]] = mapped_column(default=list)
    """Why it was refused, one entry {code, detail} a mistake; of a ready one, what to keep in mind when using it."""


class DatasetSample(Base):
    """One labelled slice of a data set."""

    __tablename__ = "dataset_sample"
    __table_args__ = (
        Index("ix_dataset_sample_label", "dataset_id", "label"),
        Index("ix_dataset_sample_sha256", "sha256"),
    )

    dataset_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("training_dataset.id", ondelete="CASCADE"), primary_key=True
    )
    sequence: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(String(64))
    patient: Mapped[str] = mapped_column(String(128), default="")
    plane: Mapped[str] = mapped_column(String(16), default="")
    source: Mapped[str] = mapped_column(String(64), default="")
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the file's bytes; also its key in the blob store."""
    frame_index: Mapped[int] = mapped_column(default=0)
    group_number: Mapped[int] = mapped_column(default=0)
    """Samples of one number are of one patient or are copies of one another: a split keeps them together."""
    box: Mapped[list[Any] | None]
    """Tumour box as fractions of the picture (centre x, centre y, width, height), to judge heatmaps; never an input."""
    instance_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("instance.id", ondelete="SET NULL"), index=True)
    """The slice of the store it was made from."""
