"""From received files to a job, for the API and the pages alike.

Owns the order that makes a 202 a promise: bytes into the blob store, then one transaction with all rows, then the
doorbell. A doorbell that nobody hears changes nothing: the job waits, and housekeeping rings again.
"""

import contextlib
import uuid
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.base import utc_now
from db.queries import audit, claims, submissions
from db.queries.submissions import SubmissionRefused, Submitted
from db.states import Priority
from db.uploads import Upload
from web.access import actor, the_user
from web.objects import find_upload
from web.problems import Problem
from web.reception import Received
from web.services import services


def submit(received: Received, *, title: str, priority: Priority) -> uuid.UUID:
    """Makes a job of a body that has arrived whole.

    Returns:
        The job's id; committed.

    Raises:
        Problem: 400 when there is no file, 413 when they are too large together.
    """
    parts = services()
    settings = parts.settings
    if not received.files:
        raise _as_problem(SubmissionRefused("empty", ""))
    total = sum(spooled.size_bytes for spooled in received.files)
    if total > settings.max_upload_bytes:
        raise _as_problem(SubmissionRefused("too_large", "", settings.max_upload_bytes))
    files = received.store(parts.blobs)
    with parts.database.write() as db:
        upload = submissions.open_upload(
            db, the_user().id, title=title, priority=priority, expiry_s=settings.upload_expiry_s
        )
        submissions.add_files(db, upload, files)
        submitted = submissions.complete(db, upload, max_attempts=settings.max_attempts)
        audit.record(db, actor(), "job.submit", object_kind="job", object_id=submitted.job_id)
    ring(submitted)
    return submitted.job_id


def add(upload_id: uuid.UUID, received: Received) -> bool:
    """Adds received files to an open upload; returns whether anything is new.

    Raises:
        Problem: 404, 409, 413.
    """
    parts = services()
    settings = parts.settings
    with parts.database.read() as db:
        find_upload(db, upload_id, receiving=True)
    files = received.store(parts.blobs)
    new = False
    with parts.database.write() as db:
        upload = find_upload(db, upload_id, receiving=True, lock=True)
        for sent in files:
            try:
                new |= submissions.add_file(
                    db,
                    upload,
                    sent,
                    max_files=settings.max_upload_files,
                    max_bytes=settings.max_upload_bytes,
                    expiry_s=settings.upload_expiry_s,
                )
            except SubmissionRefused as refused:
                raise _as_problem(refused) from refused
    return new


def complete(upload_id: uuid.UUID) -> uuid.UUID:
    """Makes a job of an upload; asked again, names the same job.

    Raises:
        Problem: 400 empty, 404, 409 abandoned.
    """
    parts = services()
    with parts.database.write() as db:
        upload = find_upload(db, upload_id, lock=True)
        submitted = _complete(db, upload)
    ring(submitted)
    return submitted.job_id


def ring(submitted: Submitted) -> None:
    """Tells the workers, after the commit; remembers that they were told."""
    if submitted.ring is None:
        return
    ring_for([submitted.ring])


def ring_for(items: Sequence[tuple[str, str, uuid.UUID]]) -> None:
    """Tells the workers of committed (task, queue, work item)s. One message a queue wakes them; the rest they find."""
    parts = services()
    rung: list[uuid.UUID] = []
    heard: dict[str, bool] = {}
    for task, queue, item_id in items:
        if queue not in heard:
            heard[queue] = parts.doorbell.ring(task, queue, item_id)
            if heard[queue]:
                rung.append(item_id)
    if rung:
        # The job is accepted already: a database that is busy now only means that housekeeping rings once more.
        with contextlib.suppress(DBAPIError), parts.database.write() as db:
            claims.mark_sent(db, rung, utc_now())


def _complete(db: Session, upload: Upload) -> Submitted:
    try:
        submitted = submissions.complete(db, upload, max_attempts=services().settings.max_attempts)
    except SubmissionRefused as refused:
        raise _as_problem(refused) from refused
    if submitted.ring is not None:
        audit.record(db, actor(), "job.submit", object_kind="job", object_id=submitted.job_id)
    return submitted


def _as_problem(refused: SubmissionRefused) -> Problem:
    if refused.code == "empty":
        return Problem(
            400,
            "empty_submission",
            "Received no file. Send at least one image (DICOM, PNG, JPEG, TIFF, BMP), folder or zip archive.",
        )
    if refused.code == "too_many_files":
        return Problem(
            413,
            "too_many_files",
            "Received more than %(limit_files)s files; send the rest as another submission, or as a zip archive.",
            facts={"limit_files": refused.limit},
        )
    if refused.code == "too_large":
        return Problem(
            413,
            "too_large",
            "All files together are larger than the %(limit_bytes)s bytes accepted in one submission.",
            facts={"limit_bytes": refused.limit},
        )
    return Problem(409, "upload_closed", "This upload takes no more files. Start a new one.")
