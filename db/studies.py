"""Studies, series, instances, and who they are of.

Owns what was received and understood. Identity (name, patient ID, birth date, accession number) lies in a table of
its own, so that results can be shown, exported and deleted without it.

A row of `Instance` is one 2-D slice: a single-frame DICOM instance, one frame of a multi-frame one, or an image file.
"""

import uuid
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId


class Study(WithId, Base):
    """One examination of one patient, or one folder of images without such knowledge."""

    __tablename__ = "study"

    study_key: Mapped[str] = mapped_column(String(160), unique=True)
    """`dicom:` + Study Instance UID, or `files:` + SHA-256 over the sorted digests of the folder's images."""
    study_instance_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    study_date: Mapped[str] = mapped_column(String(8), default="")
    """YYYYMMDD as in DICOM (0008,0020), or empty."""
    description: Mapped[str] = mapped_column(String(200), default="")
    title: Mapped[str] = mapped_column(String(200), default="")
    """What is shown where identity is not: the description, or the folder's name."""
    deidentified: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its files were de-identified before they were kept; see docs/privacy.md."""

    identity: Mapped["StudyIdentity | None"] = relationship(back_populates="study", passive_deletes=True)
    series: Mapped[list["Series"]] = relationship(back_populates="study", passive_deletes=True)


class StudyIdentity(Base):
    """Who a study is of; visible by role only."""

    __tablename__ = "study_identity"

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    patient_name: Mapped[str] = mapped_column(String(320), default="")
    patient_id: Mapped[str] = mapped_column(String(128), default="", index=True)
    birth_date: Mapped[str] = mapped_column(String(8), default="")
    sex: Mapped[str] = mapped_column(String(16), default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)

    study: Mapped[Study] = relationship(back_populates="identity")


class Series(WithId, Base):
    """One acquisition of a study, or one folder's images."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_key"),)

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    series_key: Mapped[str] = mapped_column(String(160))
    series_instance_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    number: Mapped[int | None]
    description: Mapped[str] = mapped_column(String(200), default="")
    modality: Mapped[str] = mapped_column(String(16), default="")
    plane: Mapped[str | None] = mapped_column(String(16))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Non-identifying acquisition facts: manufacturer, field strength, sequence tags, spacing."""
    chosen: Mapped[bool] = mapped_column(default=True, server_default=true())
    """Whether its slices are to be classified."""
    chosen_by: Mapped[str] = mapped_column(String(200), default="", server_default="")
    """The rule of the settings that decided; `user` when somebody did; empty when no rule held, or none was asked."""

    study: Mapped[Study] = relationship(back_populates="series")


class Instance(WithId, Base):
    """One 2-D slice."""

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("study_id", "content_sha256", "frame_index"),
        Index("ix_instance_sop", "study_id", "sop_instance_uid", "frame_index"),
        Index("ix_instance_order", "series_id", "sort_key"),
    )

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    series_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"))
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    content_sha256: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of the file's bytes; also its key in the blob store."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(8))
    """`dicom`, `png`, `jpeg`, `tiff` or `bmp`."""
    path: Mapped[str] = mapped_column(Text)
    """The name under which it was received, cleaned for display."""
    frame_index: Mapped[int] = mapped_column(default=0)
    instance_number: Mapped[int | None]
    rows: Mapped[int]
    columns: Mapped[int]
    plane: Mapped[str | None] = mapped_column(String(16))
    position_mm: Mapped[float | None]
    sort_key: Mapped[float] = mapped_column(default=0.0)
    """Order within the series: position along the normal, else instance number, else order of names."""
    text_risk: Mapped[str] = mapped_column(String(24), default="", server_default="")
    """Why a name may be written into its pixels, a value of `imaging.text_risk.TextRisk`; empty: no sign of it."""

    series: Mapped[Series] = relationship()
    study: Mapped[Study] = relationship()
