"""Where each study stands: one row a study, so that lists of thousands of studies are read from one table.

Owns the row. All but the assignment is derived: from the shown checkpoint's results, from decisions about slices and
about the study (`db.queries.standings` computes it, in the transactions that change what it is derived from). Refuses
to be a source: where it differs from the rows it is derived from, these are right and the row is written again.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, utc_now


class ReviewState(StrEnum):
    """How far people are with a study."""

    OPEN = "open"  # nobody has decided anything
    BEGUN = "begun"  # some decision was made, none about the study as a whole
    SIGNED = "signed"  # a clinician has signed it off
    CHANGED = "changed"  # signed off, but the results are others since


class StudyStanding(Base):
    """One study in the lists."""

    __tablename__ = "study_standing"
    __table_args__ = (
        Index("ix_study_standing_worklist", "review_state", "urgency", "received_at", "study_id"),
        Index("ix_study_standing_stale", "stale"),
    )

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    stale: Mapped[bool] = mapped_column(default=True)
    """Whether something changed since the row was computed; whoever shows it computes it afresh."""
    version: Mapped[int] = mapped_column(default=0)
    """Raised by every change of the row's other columns and by every decision: "I have seen this one"."""
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    """Whose results are shown."""
    received_at: Mapped[datetime] = mapped_column(default=utc_now)
    """When the study was first received."""
    finding: Mapped[str] = mapped_column(String(16), default="none")
    """A value of `db.queries.summaries.Finding`."""
    leading_class: Mapped[str] = mapped_column(String(64), default="")
    other_classes: Mapped[list[Any]] = mapped_column(default=list)
    peak_probability: Mapped[float | None]
    """Highest probability of the leading class, else of any tumour class, in [0, 1]."""
    slices: Mapped[int] = mapped_column(default=0)
    analysed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    waiting: Mapped[int] = mapped_column(default=0)
    not_asked: Mapped[int] = mapped_column(default=0)
    left_out: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """Reason -> slices that were not to be classified."""
    abstained: Mapped[int] = mapped_column(default=0, server_default="0")
    """Slices for which the model does not answer; not among `analysed`."""
    newest_result_at: Mapped[datetime | None]
    decided: Mapped[int] = mapped_column(default=0)
    """Slices about which a decision stands."""
    disagreed: Mapped[int] = mapped_column(default=0)
    """Those of them where it is another class than the shown checkpoint's."""
    review_state: Mapped[ReviewState] = mapped_column(String(16), default=ReviewState.OPEN)
    reviewed_by_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL"), index=True
    )
    """Who decided about the study last."""
    urgency: Mapped[float] = mapped_column(default=0.0)
    """Lower is more urgent; `db.queries.standings.urgency` says how."""
    assigned_to_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL"), index=True
    )
    """Who shall read it; set by people, derived from nothing."""

    @property
    def total(self) -> int:
        """All slices of the study that were received."""
        with_result = self.analysed + self.abstained
        return with_result + self.failed + self.waiting + self.not_asked + self.not_classified

    @property
    def not_classified(self) -> int:
        """Slices that were left out, whatever the reason."""
        return sum(self.left_out.values())
