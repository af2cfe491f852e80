"""Archives of the hospital: which there are, what was sent to them, and what was fetched from them.

Owns the rows of peers, of sendings with the answer to every single object, and of retrievals with one line an accession
number. Nothing is sent because a row is here: a sending is asked for by a person, or by a peer's `automatic`, which is
off unless an admin sets it.

An accession number in a retrieval's line is identity, as in `db.studies.StudyIdentity`: it is shown to whoever asked
and to clinicians, and is forgotten by housekeeping (`db.queries.retrievals.forget_numbers`).
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, WithId
from db.checkpoints import Checkpoint
from db.states import Priority, RequestState


class PeerKind(StrEnum):
    """How an archive is spoken with."""

    DIMSE = "dimse"  # DICOM's own network protocol: AE title, host, port
    DICOMWEB = "dicomweb"  # STOW-RS, QIDO-RS and WADO-RS below one address


class Content(StrEnum):
    """What of a study's results is sent."""

    BOTH = "both"
    REPORT = "report"
    CAPTURES = "captures"


class ObjectState(StrEnum):
    """What became of one object of a sending."""

    WAITING = "waiting"
    STORED = "stored"
    REFUSED = "refused"


class Peer(WithId, Base):
    """An archive."""

    __tablename__ = "peer"

    name: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[PeerKind] = mapped_column(String(16))
    ae_title: Mapped[str] = mapped_column(String(16), default="")
    host: Mapped[str] = mapped_column(String(255), default="")
    port: Mapped[int | None]
    tls: Mapped[bool] = mapped_column(default=False)
    url: Mapped[str] = mapped_column(String(500), default="")
    secret_name: Mapped[str] = mapped_column(String(64), default="")
    """Names an entry of the setting `peer_secrets`; the secret itself is in no row."""
    automatic: Mapped[bool] = mapped_column(default=False)
    """Whether the results of every submission that ends well are sent by themselves."""

    @property
    def address(self) -> str:
        """Where it is, for people."""
        if self.kind == PeerKind.DICOMWEB:
            return self.url
        return f"{self.ae_title}@{self.host}:{self.port}"


class Sending(WithId, Base):
    """Results of one study under one checkpoint, on their way to one peer."""

    __tablename__ = "sending"

    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    peer_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("peer.id", ondelete="SET NULL"), index=True)
    peer_name: Mapped[str] = mapped_column(String(64))
    checkpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoint.id"))
    content: Mapped[Content] = mapped_column(String(16))
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    """None: sent by itself (`Peer.automatic`)."""
    work_item_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("work_item.id", ondelete="SET NULL"), index=True)
    state: Mapped[RequestState] = mapped_column(String(16), default=RequestState.PENDING)
    """`done` when the peer has stored every object."""
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined", innerjoin=True)


class SentObject(WithId, Base):
    """One SOP instance of a sending and the peer's answer."""

    __tablename__ = "sent_object"
    __table_args__ = (UniqueConstraint("sending_id", "sop_instance_uid"),)

    sending_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("sending.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    """`report` or `capture`."""
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    state: Mapped[ObjectState] = mapped_column(String(16), default=ObjectState.WAITING)
    status: Mapped[str] = mapped_column(String(16), default="")
    """As the peer answered: `0x0000` of DIMSE and STOW-RS, or `HTTP 415`."""
    comment: Mapped[str] = mapped_column(String(200), default="")
    answered_at: Mapped[datetime | None]


class Retrieval(WithId, Base):
    """A list of accession numbers to be fetched from a peer."""

    __tablename__ = "retrieval"

    peer_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("peer.id", ondelete="SET NULL"), index=True)
    peer_name: Mapped[str] = mapped_column(String(64))
    requested_by_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL"), index=True
    )
    title: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[Priority] = mapped_column(String(16), default=Priority.NORMAL)
    """Of the jobs that its studies become; `off_peak` also fetches at off-peak hours only."""


class RetrievalLine(WithId, Base):
    """One accession number and what became of it."""

    __tablename__ = "retrieval_line"
    __table_args__ = (Index("ix_retrieval_line_retrieval_sequence", "retrieval_id", "sequence"),)

    retrieval_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("retrieval.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    accession_number: Mapped[str] = mapped_column(String(64))
    """Empty when it was forgotten."""
    work_item_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("work_item.id", ondelete="SET NULL"), index=True)
    state: Mapped[RequestState] = mapped_column(String(16), default=RequestState.PENDING)
    failure_code: Mapped[str] = mapped_column(String(64), default="")
    failure_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]

    studies: Mapped[list["RetrievedStudy"]] = relationship(
        order_by="RetrievedStudy.sequence", passive_deletes=True, lazy="selectin"
    )


class RetrievedStudy(WithId, Base):
    """A study that the peer knows under an accession number, and the submission it becomes."""

    __tablename__ = "retrieved_study"
    __table_args__ = (UniqueConstraint("line_id", "study_instance_uid"),)

    line_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("retrieval_line.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    expected: Mapped[int | None]
    """Instances that the peer listed; None: not asked yet."""
    fetched: Mapped[int] = mapped_column(default=0)
    upload_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("upload.id", ondelete="SET NULL"))
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"), index=True)
