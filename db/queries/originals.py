"""Forgetting what was sent: the names of files, and the bytes that then nobody may need any more.

Owns marking bytes for removal in the transaction that takes their names away, so that no crash forgets them. Refuses to
remove bytes itself: `db.retention` does, when no row names them.
"""

import uuid
from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, exists, or_, select, true, update
from sqlalchemy.orm import Session

from db.clock import database_now
from db.exchange import Retrieval, RetrievalLine, RetrievedStudy
from db.jobs import Job
from db.states import JOB_ENDED
from db.uploads import ErasedBlob, Upload, UploadFile
from db.upserts import insert_missing

REMOVED_NAME = "[removed]"
"""Stands where the name of a file was."""
_NO_UID = "removed "


def forget(session: Session, job: Job) -> None:
    """Forgets title, names and original bytes of a job whose files are de-identified; in a write transaction."""
    job.title = ""
    if job.upload_id is not None:
        mark(session, forget_names(session, job.upload_id, true()))


def forget_ended(session: Session, *, all_unopened: bool, limit: int = 20) -> int:
    """Forgets what was sent with jobs that are to be de-identified and ended before it was done.

    Args:
        session: In a write transaction.
        all_unopened: Whether jobs that ended before they were opened count, too: de-identifying is switched on.
        limit: Most jobs.

    Returns:
        How many there were.
    """
    wanted = Job.deidentified.is_(True)
    jobs = session.scalars(
        select(Job)
        .where(
            Job.state.in_(JOB_ENDED),
            or_(wanted, Job.opened_at.is_(None)) if all_unopened else wanted,
            exists().where(UploadFile.upload_id == Job.upload_id, UploadFile.sha256 != ""),
        )
        .order_by(Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        job.deidentified = True
        forget(session, job)
    session.flush()
    return len(jobs)


def forget_retrieved(session: Session, jobs: ColumnElement[bool], *, limit: int = 500) -> int:
    """Forgets by which accession number and UID studies were fetched from an archive, once their line has ended.

    The title of the list goes with them, since it may name whose they are.

    Args:
        session: In a write transaction.
        jobs: Condition on `Job`: what the studies became.
        limit: Most studies in one call.

    Returns:
        How many studies it was.
    """
    rows = session.execute(
        select(RetrievedStudy.id, RetrievedStudy.line_id, RetrievalLine.retrieval_id)
        .join(Job, Job.id == RetrievedStudy.job_id)
        .join(RetrievalLine, RetrievalLine.id == RetrievedStudy.line_id)
        .where(jobs, RetrievalLine.finished_at.is_not(None), ~RetrievedStudy.study_instance_uid.startswith(_NO_UID))
        .order_by(RetrievedStudy.id)
        .limit(limit)
    ).all()
    if rows:
        lines = {row.line_id for row in rows}
        lists = {row.retrieval_id for row in rows}
        session.execute(update(Retrieval), [{"id": list_id, "title": ""} for list_id in sorted(lists)])
        session.execute(update(RetrievalLine), [{"id": line_id, "accession_number": ""} for line_id in sorted(lines)])
        changes = [{"id": row.id, "study_instance_uid": f"{_NO_UID}{row.id.hex}"} for row in rows]
        session.execute(update(RetrievedStudy), changes)
    return len(rows)


def can_be_opened_again(session: Session, job: Job) -> bool:
    """Whether the files that a job was sent with are still there."""
    held = and_(UploadFile.upload_id == job.upload_id, UploadFile.sha256 != "")
    return session.scalar(select(UploadFile.id).where(held).limit(1)) is not None


def mark(session: Session, digests: Iterable[str]) -> None:
    """Remembers bytes that a deletion may have left without a name, for `unneeded`; in the same transaction."""
    now = database_now(session)
    wanted = sorted(set(digests) - {""})
    for start in range(0, len(wanted), 500):
        rows = [{"sha256": digest, "erased_at": now} for digest in wanted[start : start + 500]]
        insert_missing(session, ErasedBlob, rows)


def forget_names(session: Session, upload_id: uuid.UUID, which: ColumnElement[bool]) -> set[str]:
    """Takes name and bytes from files of an upload; how many there were stays. Returns the digests they had."""
    rows = session.execute(
        select(UploadFile.id, UploadFile.sha256).where(UploadFile.upload_id == upload_id, which)
    ).all()
    session.execute(update(Upload).where(Upload.id == upload_id).values(title=""))
    changes = [
        # The digest of a name is as good as the name to whoever guesses it.
        {"id": row.id, "path": REMOVED_NAME, "path_digest": row.id.hex, "sha256": "", "size_bytes": 0}
        for row in rows
    ]
    if changes:
        session.execute(update(UploadFile), changes)
    return {row.sha256 for row in rows} - {""}
