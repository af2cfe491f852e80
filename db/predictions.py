"""Predictions, heatmaps, and repeats of a prediction made to check it.

Owns the results. One prediction per (instance, checkpoint), whatever was delivered twice: the unique key says so.
"""

import uuid
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId
from db.checkpoints import Checkpoint
from db.studies import Instance


class Prediction(WithId, Base):
    """What one checkpoint said of one slice."""

    __tablename__ = "prediction"
    __table_args__ = (UniqueConstraint("instance_id", "checkpoint_id"),)

    instance_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("instance.id", ondelete="CASCADE"))
    checkpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"), index=True)
    """The job whose work item wrote it."""
    class_name: Mapped[str] = mapped_column(String(64))
    probability: Mapped[float]
    """Calibrated probability of `class_name`, in [0, 1]."""
    probabilities: Mapped[dict[str, Any]]
    """Class name -> calibrated probability; they add up to 1."""
    scores: Mapped[list[Any]]
    """Scores before the softmax or sigmoid, in the checkpoint's order of classes."""
    input_sha256: Mapped[str] = mapped_column(String(64))
    """Digest of the file that was read."""
    abstention: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """Why the model does not answer, a value of `inference.guard.Abstention`; empty when it does. What it says of the
    slice is then no result: it is neither shown nor counted, and there is no heatmap."""
    guard: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """Check of the guard -> its number as a share of its limit; empty for a model without a guard."""
    head_share: Mapped[float | None]
    """Share of the heatmap that lies on the head, in [0, 1]; None for results older than this measure."""
    heatmap_warning: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """What is wrong with the heatmap, a value of `inference.attention.HeatmapWarning`; empty when nothing is."""
    engine: Mapped[str] = mapped_column(String(64))
    code_version: Mapped[str] = mapped_column(String(64))

    instance: Mapped[Instance] = relationship()
    checkpoint: Mapped[Checkpoint] = relationship()


class Heatmap(Base):
    """The Grad-CAM of a prediction: a greyscale PNG at the network's own grid, and where it lies in the slice."""

    __tablename__ = "heatmap"

    prediction_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("prediction.id", ondelete="CASCADE"), primary_key=True)
    png: Mapped[bytes] = mapped_column(LargeBinary)
    box_x0: Mapped[float]
    box_y0: Mapped[float]
    box_x1: Mapped[float]
    box_y1: Mapped[float]
    """Crop that the network saw, in pixels of the slice; may reach beyond its edge."""


class Reproduction(WithId, Base):
    """A prediction computed again from the stored file, and how far it agreed."""

    __tablename__ = "reproduction"

    prediction_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("prediction.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(16), default="pending")
    """`pending`, `equal` (to the bit), `close` (within tolerance), `different` or `failed`."""
    largest_difference: Mapped[float | None]
    """Largest absolute difference of a probability."""
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
