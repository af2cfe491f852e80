"""Studies that are arriving over the network, one instance at a time.

Owns which open upload the next instance of a study belongs to. A row lives from a study's first instance until it was
quiet for long enough; then its upload becomes a job, and the row is gone. What comes later begins another one.

Refuses to hold a UID: the key is a digest, so that a de-identifying installation keeps none here.
"""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, WithId, utc_now


class Reception(WithId, Base):
    """One study that is arriving from one sender."""

    __tablename__ = "reception"

    group_key: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 over way, sender and StudyInstanceUID."""
    way: Mapped[str] = mapped_column(String(16))
    """`dicom` or `stow`."""
    upload_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("upload.id", ondelete="CASCADE"), unique=True)
    """The open upload; empty only inside the transaction that makes the row."""
    files: Mapped[int] = mapped_column(default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    received_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    """When the last instance came, by the database's clock."""
