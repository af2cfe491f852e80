"""Uploads that arrive in several requests, and the files of every submission.

Owns what a user sent, before anything is opened. Refuses to use a client's file name as a path: bytes lie in the
blob store under their SHA-256.
"""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, WithId, utc_now
from db.states import Priority, UploadState


class Upload(WithId, Base):
    """A submission being sent; becomes a job when it is completed."""

    __tablename__ = "upload"

    created_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    state: Mapped[UploadState] = mapped_column(String(16), default=UploadState.RECEIVING)
    title: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[Priority] = mapped_column(String(16), default=Priority.NORMAL)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadFile(WithId, Base):
    """One file as it was sent (an archive counts as one here)."""

    __tablename__ = "upload_file"
    __table_args__ = (UniqueConstraint("upload_id", "path_digest"),)

    upload_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("upload.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(Text)
    """The client's name of it, cleaned for display; never used as a path on disk."""
    path_digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of `path`, so that long names stay unique on both databases."""
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class ErasedBlob(Base):
    """Bytes that were named by rows deleted for good, until housekeeping has removed them or seen another name."""

    __tablename__ = "erased_blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    erased_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
