"""What people said of slices, and of studies as a whole.

Owns confirmed labels and study decisions, append-only: the newest row of a slice or study stands, older ones are its
history. Refuses to overwrite.
"""

import uuid
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, WithId

NOT_ASSESSABLE: Final = ""
"""The label of a slice that shows too little to decide."""
WITHDRAWN: Final = "*"
"""The label of a row that takes the decision before it back, when there was none before that: nothing stands."""


class SliceLabel(WithId, Base):
    """One person's decision about one slice."""

    __tablename__ = "slice_label"
    __table_args__ = (Index("ix_slice_label_instance", "instance_id", "created_at"),)

    instance_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("instance.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(64))
    """A class name, `NOT_ASSESSABLE` or `WITHDRAWN`."""
    decided_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    note: Mapped[str] = mapped_column(Text, default="")


class DecisionKind(StrEnum):
    """What a decision about a study is."""

    OPINION = "opinion"  # committed before the network's answer was shown
    SIGN_OFF = "sign_off"
    REOPENED = "reopened"  # takes the sign-off before it back


class StudyDecision(WithId, Base):
    """One person's decision about a study."""

    __tablename__ = "study_decision"
    __table_args__ = (Index("ix_study_decision_study", "study_id", "created_at"),)

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    kind: Mapped[DecisionKind] = mapped_column(String(16))
    label: Mapped[str] = mapped_column(String(64))
    """A class name or `NOT_ASSESSABLE`; of `REOPENED`, `WITHDRAWN`."""
    note: Mapped[str] = mapped_column(Text, default="")
    decided_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    """Whose results were on record."""
    results: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the network said at that moment, as `db.queries.standings.results_of` gives it."""
