"""What people said of slices.

Owns confirmed labels, append-only: the newest row of a slice stands, older ones are its history. Refuses to overwrite.
"""

import uuid
from typing import Final

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
