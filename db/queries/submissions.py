"""Submissions: files arrive in an upload, and one transaction makes a job of it.

Owns the promise behind a 202: when `complete` has committed, the job, its files and the work item that will open them
are rows, and every file's bytes lay in the blob store before. Ring the doorbell after the commit; if nobody hears it,
housekeeping rings again.

Refuses a name as it came: it is cleaned for display here and never becomes a path on disk.
"""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.queues import QUEUE_INTAKE, TASK_INTAKE
from db.clock import database_now
from db.jobs import Job, WorkItem
from db.states import ItemState, JobState, Priority, UploadState, check
from db.uploads import Upload, UploadFile

PATH_LIMIT = 1024
TITLE_LIMIT = 200


class SubmissionRefused(ValueError):
    """A submission that cannot become a job.

    Attributes:
        code: `empty`, `closed`, `too_many_files` or `too_large`.
        limit: The limit that was met; None for others.
    """

    def __init__(self, code: str, message: str, limit: int | None = None) -> None:
        super().__init__(message)
        self.code, self.limit = code, limit


@dataclass(frozen=True)
class Sent:
    """One file whose bytes are in the blob store."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Submitted:
    """What became of an upload.

    Attributes:
        job_id: The job.
        ring: (task, queue, work item) to ring for after the commit; None when the job was there before.
    """

    job_id: uuid.UUID
    ring: tuple[str, str, uuid.UUID] | None


def open_upload(
    session: Session,
    user_id: uuid.UUID,
    *,
    title: str,
    priority: Priority,
    expiry_s: float,
    upload_id: uuid.UUID | None = None,
) -> Upload:
    """Begins an upload.

    Args:
        session: In a write transaction.
        user_id: Who sends.
        title: As wished; may be empty, then the files' common folder is taken when it is completed.
        priority: Urgency of the job to be.
        expiry_s: An upload in which nothing happens for so long is swept, seconds.
        upload_id: For whoever has to find the upload again after a kill; None: a new one.
    """
    upload = Upload(
        id=upload_id or uuid.uuid4(),
        created_by_id=user_id,
        title=title[:TITLE_LIMIT],
        priority=priority,
        expires_at=database_now(session) + timedelta(seconds=expiry_s),
    )
    session.add(upload)
    session.flush()
    return upload


def add_file(session: Session, upload: Upload, sent: Sent, *, max_files: int, max_bytes: int, expiry_s: float) -> bool:
    """Records one received file; the same path sent again replaces what was there.

    Args:
        session: In a write transaction.
        upload: Open and locked by the caller.
        sent: The file; its blob is in the store.
        max_files: Most files of one upload.
        max_bytes: Most bytes of one upload.
        expiry_s: The upload lives for so long from now, seconds.

    Returns:
        Whether anything changed: False when the same bytes were there already under this path.

    Raises:
        SubmissionRefused: `closed`, `too_many_files` or `too_large`.
    """
    if upload.state != UploadState.RECEIVING:
        raise SubmissionRefused("closed", f"the upload is {upload.state}; expected one that is receiving")
    key = hashlib.sha256(sent.path.encode()).hexdigest()
    old = session.scalars(
        select(UploadFile).where(UploadFile.upload_id == upload.id, UploadFile.path_digest == key)
    ).one_or_none()
    upload.expires_at = database_now(session) + timedelta(seconds=expiry_s)
    if old is not None and old.sha256 == sent.sha256:
        return False
    files, size = session.execute(
        select(func.count(), func.coalesce(func.sum(UploadFile.size_bytes), 0)).where(UploadFile.upload_id == upload.id)
    ).one()
    files, size = files - (old is not None), size - (old.size_bytes if old else 0)
    if files + 1 > max_files:
        raise SubmissionRefused("too_many_files", f"received file {files + 1}; expected at most {max_files}", max_files)
    if size + sent.size_bytes > max_bytes:
        raise SubmissionRefused(
            "too_large", f"received {size + sent.size_bytes} bytes in all; expected at most {max_bytes}", max_bytes
        )
    if old is None:
        session.add(_row(upload, sent, key))
    else:
        old.sha256, old.size_bytes = sent.sha256, sent.size_bytes
    session.flush()
    return True


def add_files(session: Session, upload: Upload, files: list[Sent]) -> None:
    """Records all files of a submission that came in one request; a path that came twice gets a number."""
    taken: set[str] = set()
    for sent in files:
        path, number = sent.path, 1
        while path in taken:
            number += 1
            path = f"{sent.path} ({number})"
        taken.add(path)
        key = hashlib.sha256(path.encode()).hexdigest()
        session.add(_row(upload, Sent(path, sent.sha256, sent.size_bytes), key))
    session.flush()


def files_of(session: Session, upload_id: uuid.UUID) -> list[Sent]:
    """What has arrived, by path."""
    rows = session.execute(
        select(UploadFile.path, UploadFile.sha256, UploadFile.size_bytes)
        .where(UploadFile.upload_id == upload_id)
        .order_by(UploadFile.path)
    )
    return [Sent(path, sha256, size_bytes) for path, sha256, size_bytes in rows]


def job_of(session: Session, upload_id: uuid.UUID) -> uuid.UUID | None:
    """The job that an upload became."""
    return session.scalar(select(Job.id).where(Job.upload_id == upload_id))


def complete(session: Session, upload: Upload, *, max_attempts: int) -> Submitted:
    """Makes the job of an upload; asked again, names the same job.

    Args:
        session: In a write transaction.
        upload: Locked by the caller.
        max_attempts: Attempts of the work item that opens the files.

    Raises:
        SubmissionRefused: `empty`, or `closed` when it was abandoned.
    """
    job_id = job_of(session, upload.id)
    if job_id is not None:
        return Submitted(job_id, None)
    if upload.state != UploadState.RECEIVING:
        raise SubmissionRefused("closed", f"the upload is {upload.state}; expected one that is receiving")
    paths = session.scalars(
        select(UploadFile.path).where(UploadFile.upload_id == upload.id).order_by(UploadFile.path).limit(2000)
    ).all()
    if not paths:
        raise SubmissionRefused("empty", "received no file; expected at least one image, folder or zip archive")
    upload.state = check(UploadState(upload.state), UploadState.COMPLETED)
    job = Job(
        upload_id=upload.id,
        created_by_id=upload.created_by_id,
        title=upload.title or title_of(list(paths)),
        priority=upload.priority,
        state=JobState.RECEIVED,
    )
    session.add(job)
    session.flush()
    item = WorkItem(
        job_id=job.id,
        task=TASK_INTAKE,
        queue=QUEUE_INTAKE,
        priority_rank=Priority(job.priority).rank,
        max_attempts=max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    return Submitted(job.id, (item.task, item.queue, item.id))


def abandon(session: Session, upload: Upload) -> None:
    """Gives an upload up. Raises IllegalTransition when it is completed."""
    if upload.state != UploadState.ABANDONED:
        upload.state = check(UploadState(upload.state), UploadState.ABANDONED)
        upload.expires_at = database_now(session)
        session.flush()


def title_of(paths: list[str]) -> str:
    """A title for files without one: their common folder, or the first one's name."""
    folders = {path.split("/", 1)[0] for path in paths if "/" in path}
    if len(folders) == 1 and all("/" in path for path in paths):
        return folders.pop()[:TITLE_LIMIT]
    first = paths[0].rpartition("/")[2]
    return (first if len(paths) == 1 else f"{first} + {len(paths) - 1}")[:TITLE_LIMIT]


def _row(upload: Upload, sent: Sent, key: str) -> UploadFile:
    return UploadFile(
        upload_id=upload.id, path=sent.path, path_digest=key, sha256=sent.sha256, size_bytes=sent.size_bytes
    )
