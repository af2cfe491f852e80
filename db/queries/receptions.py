"""Instances that arrive one by one become submissions, a study each.

Owns the grouping: what one sender sends of one study is put into one open upload, and when nothing of it came for a
while, that upload becomes a job by the same function as everybody's (`submissions.complete`). Keeping an instance is
part of one transaction: when it has committed, the instance will be worked on, whoever dies next. Completing is done
by housekeeping, so that a listener that is gone for good leaves nothing behind.

Refuses to lose one of two different files of one name: the second gets a number, and intake judges both.
"""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.settings import Settings
from db.clock import database_now
from db.queries import accounts, audit, submissions
from db.queries.audit import Actor
from db.queries.submissions import TITLE_LIMIT, Sent
from db.receptions import Reception
from db.states import Priority, Role
from db.uploads import Upload, UploadFile
from db.upserts import insert_missing
from db.users import User

WAY_DICOM, WAY_STOW = "dicom", "stow"

_TRIES = 5
"""A row that housekeeping completes between our two looks at it is made anew; that does not happen twice in a row."""


class UnknownSender(Exception):
    """The account that is to own what arrives cannot: the message says why and what is expected."""


@dataclass(frozen=True)
class Sender:
    """From whom a study arrives.

    Attributes:
        way: `WAY_DICOM` or `WAY_STOW`.
        name: Tells senders of one way apart: a calling AE title, a user's id.
        title: Of the job to be.
        user_id: Who owns it.
    """

    way: str
    name: str
    title: str
    user_id: uuid.UUID


def service_user(session: Session, username: str) -> User:
    """The account that owns what a device sends.

    Raises:
        UnknownSender: When there is none of this name, it is disabled, or is more than a submitter.
    """
    user = accounts.find_user(session, username)
    if user is None or user.disabled_at is not None:
        state = "does not exist" if user is None else "is disabled"
        raise UnknownSender(
            f"the account {username!r} {state}; make one of the role submitter for the device "
            f"(`python -m web accounts create {username}`)"
        )
    if Role(user.role) is not Role.SUBMITTER:
        raise UnknownSender(f"the account {username!r} is of the role {user.role}; a device's must be submitter")
    return user


def keep(session: Session, sender: Sender, study_uid: str, files: Sequence[Sent], settings: Settings) -> int:
    """Puts files of one study into its open upload, which is opened when there is none.

    An upload that can take no more is completed, and the study goes on in another one.

    Args:
        session: In a write transaction.
        sender: From whom.
        study_uid: StudyInstanceUID.
        files: Their blobs are in the store.
        settings: Limits of an upload.

    Returns:
        How many of them are new; the others were there already, byte for byte.
    """
    key = group_key(sender, study_uid)
    now = database_now(session)
    new = 0
    for sent in files:
        row = _open(session, sender, key, settings)
        fits = row.files < settings.max_upload_files and row.size_bytes + sent.size_bytes <= settings.max_upload_bytes
        if row.files and not fits:
            _complete(session, row, settings)
            row = _open(session, sender, key, settings)
        new += _add(session, row, sent)
        row.received_at = now
    session.flush()
    return new


def complete_quiet(session: Session, settings: Settings, limit: int = 50) -> list[uuid.UUID]:
    """Makes jobs of the studies of which nothing came for `study_quiet_s`; one transaction.

    Returns:
        The jobs' ids; their work items wait to be rung for.
    """
    quiet = session.scalars(
        select(Reception)
        .where(Reception.received_at < database_now(session) - timedelta(seconds=settings.study_quiet_s))
        .order_by(Reception.received_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    return [_complete(session, row, settings) for row in quiet]


def arriving(session: Session) -> int:
    """How many studies are arriving."""
    return session.scalar(select(func.count()).select_from(Reception)) or 0


def group_key(sender: Sender, study_uid: str) -> str:
    """The digest under which files belong together."""
    return hashlib.sha256("\0".join((sender.way, sender.name, study_uid)).encode()).hexdigest()


def _open(session: Session, sender: Sender, key: str, settings: Settings) -> Reception:
    """The open reception of this study, locked."""
    find = select(Reception).where(Reception.group_key == key).with_for_update()
    for _ in range(_TRIES):
        row = session.scalars(find).one_or_none()
        if row is None:
            # Another connection may be making the same row: whoever comes second waits here, and finds it.
            fresh = {"id": uuid.uuid4(), "group_key": key, "way": sender.way, "files": 0, "size_bytes": 0}
            insert_missing(session, Reception, [fresh])
            row = session.scalars(find).one_or_none()
        if row is not None:
            if row.upload_id is None:
                upload = submissions.open_upload(
                    session,
                    sender.user_id,
                    title=sender.title[:TITLE_LIMIT],
                    priority=Priority.NORMAL,
                    expiry_s=settings.upload_expiry_s,
                )
                row.upload_id = upload.id
                session.flush()
            return row
    raise RuntimeError("a reception vanished again and again while it was opened; expected it to stay while locked")


def _add(session: Session, row: Reception, sent: Sent) -> bool:
    path, number = sent.path, 1
    while True:
        digest = hashlib.sha256(path.encode()).hexdigest()
        there = session.scalar(
            select(UploadFile.sha256).where(UploadFile.upload_id == row.upload_id, UploadFile.path_digest == digest)
        )
        if there == sent.sha256:
            return False
        if there is None:
            break
        number += 1
        path = f"{sent.path} ({number})"
    session.add(
        UploadFile(
            upload_id=row.upload_id,
            path=path,
            path_digest=digest,
            sha256=sent.sha256,
            size_bytes=sent.size_bytes,
        )
    )
    row.files += 1
    row.size_bytes += sent.size_bytes
    return True


def _complete(session: Session, row: Reception, settings: Settings) -> uuid.UUID:
    upload = session.get_one(Upload, row.upload_id)
    submitted = submissions.complete(session, upload, max_attempts=settings.max_attempts)
    owner = session.get_one(User, upload.created_by_id)
    audit.record(
        session,
        Actor(owner.id, owner.username),
        "job.submit",
        object_kind="job",
        object_id=submitted.job_id,
        detail={"way": row.way, "files": row.files},
    )
    session.delete(row)
    session.flush()
    return submitted.job_id
