"""Deleting studies for good: what goes, what stays, and which bytes nobody may need any more.

Owns the rule. With a study go its identity, series, slices, every result of every model (also those of shadow runs)
with its heatmap, every decision, and the slices' places in jobs. Submissions of which no study is left go whole, with
their receipts and the names of their files; of others the names of this study's files and of refused files go, for
these may name the patient too, and the archives they came in. A data set keeps its pictures (it holds no name and is
what a model was trained on); its link to the slice is cut. Bytes are removed by housekeeping when no row names them.

Refuses to take work away from a running job: it is to end, or to be cancelled, first. Refuses reasons in words, for the
audit trail keeps what is said here, and words may name a person.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from db.clock import database_now
from db.datasets import DatasetSample, TrainingDataset
from db.jobs import Job, JobStudy, ReceivedFile
from db.predictions import Prediction
from db.queries import audit
from db.queries.audit import Actor
from db.queries.housekeeping import unnamed
from db.queries.originals import REMOVED_NAME, forget_names, forget_retrieved, mark
from db.reviews import SliceLabel, StudyDecision
from db.states import JOB_ENDED, Purpose, UploadState
from db.studies import Instance, Series, Study
from db.uploads import ErasedBlob, Upload, UploadFile

STUDY_DELETED = "study_deleted"
"""Reason in the receipt's line of a file whose study was deleted; the sentence stands in `web.sentences`."""


class EraseReason(StrEnum):
    """Why a study is deleted; all that the audit trail says of it."""

    REQUESTED = "requested"
    """The patient, or the department, asked for it."""
    MISTAKE = "mistake"
    """It was sent by mistake."""
    TEST = "test"
    """It was sent to try the system."""
    OTHER = "other"
    RETENTION = "retention"
    """It was older than the settings allow."""


class StudyInUse(Exception):
    """A job that has not ended works on the study.

    Attributes:
        job_id: One of them.
    """

    def __init__(self, job_id: uuid.UUID) -> None:
        super().__init__(f"job {job_id} works on this study; expected one whose jobs have ended")
        self.job_id = job_id


class NoSuchStudy(Exception):
    """There is no study of this id (any more)."""


@dataclass(frozen=True)
class Extent:
    """What goes with a study.

    Attributes:
        predictions: Of all models, those of shadow runs included.
        decisions: Rows of the history of decisions.
        jobs: Submissions and re-classifications that go whole, because no other study is in them.
        samples: Pictures of data sets that were made from it, and stay.
    """

    series: int
    slices: int
    predictions: int
    decisions: int
    jobs: int
    samples: int

    def to_json(self) -> dict[str, int]:
        """For the audit trail and for programs."""
        return asdict(self)


def extent(session: Session, study_id: uuid.UUID) -> Extent:
    """What would go with a study. Raises NoSuchStudy."""
    if session.get(Study, study_id) is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    slices = select(Instance.id).where(Instance.study_id == study_id)

    def count(model: type, condition: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count()).select_from(model).where(condition)) or 0

    return Extent(
        series=count(Series, Series.study_id == study_id),
        slices=count(Instance, Instance.study_id == study_id),
        predictions=count(Prediction, Prediction.instance_id.in_(slices)),
        decisions=count(SliceLabel, SliceLabel.instance_id.in_(slices))
        + count(StudyDecision, StudyDecision.study_id == study_id),
        jobs=len(_only_of(session, study_id)),
        samples=count(DatasetSample, DatasetSample.instance_id.in_(slices)),
    )


def datasets_with(session: Session, study_id: uuid.UUID) -> list[TrainingDataset]:
    """Data sets that hold pictures made from a study's slices."""
    samples = (
        select(DatasetSample.dataset_id)
        .join(Instance, Instance.id == DatasetSample.instance_id)
        .where(Instance.study_id == study_id)
    )
    return list(
        session.scalars(select(TrainingDataset).where(TrainingDataset.id.in_(samples)).order_by(TrainingDataset.name))
    )


def erase(session: Session, study_id: uuid.UUID, *, by: Actor, reason: EraseReason) -> Extent:
    """Deletes a study for good and writes so into the audit trail, without a word of whose it was.

    Args:
        session: In a write transaction.
        study_id: The study.
        by: Who deletes it.
        reason: Why.

    Returns:
        What went with it.

    Raises:
        NoSuchStudy: There is none.
        StudyInUse: A job of it has not ended.
    """
    if session.get_bind().dialect.name == "sqlite":
        # Else what was deleted stays readable in unused pages of the file.
        session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
    jobs = session.scalars(
        select(Job)
        .join(JobStudy, JobStudy.job_id == Job.id)
        .where(JobStudy.study_id == study_id)
        .order_by(Job.id)
        .with_for_update(of=Job)
        .execution_options(populate_existing=True)
    ).all()
    found = extent(session, study_id)
    for job in jobs:
        if job.state not in JOB_ENDED:
            raise StudyInUse(job.id)
    alone = _only_of(session, study_id)
    digests = set(session.scalars(select(Instance.content_sha256).where(Instance.study_id == study_id).distinct()))
    for job in jobs:
        if job.id not in alone and job.purpose == Purpose.SUBMISSION:
            digests.update(_strip(session, job, study_id))
    uploads = [job.upload_id for job in jobs if job.id in alone and job.upload_id]
    digests.update(
        session.scalars(select(UploadFile.sha256).where(UploadFile.upload_id.in_(uploads)).distinct())
        if uploads
        else ()
    )
    forget_retrieved(session, Job.id.in_([job.id for job in jobs]))
    # Slices first and by themselves: each of their rows is found by an index, whatever else hangs on a study.
    session.execute(delete(Instance).where(Instance.study_id == study_id))
    session.execute(delete(Study).where(Study.id == study_id))
    session.execute(delete(Job).where(Job.id.in_(alone)))
    session.execute(delete(Upload).where(Upload.id.in_(uploads)))
    mark(session, digests)
    audit.record(
        session,
        by,
        "study.delete",
        object_kind="study",
        object_id=study_id,
        detail={"reason": str(reason), **found.to_json()},
    )
    session.expire_all()
    return found


def unneeded(session: Session, limit: int = 2000) -> tuple[list[str], list[str]]:
    """Marked bytes: (those that no row names, those that one does)."""
    marked = session.scalars(select(ErasedBlob.sha256).order_by(ErasedBlob.erased_at).limit(limit)).all()
    free = unnamed(session, marked)
    return free, sorted(set(marked) - set(free))


def settled(session: Session, digests: Sequence[str]) -> None:
    """Forgets marks: these bytes are gone, or are named by a row that was not deleted."""
    for start in range(0, len(digests), 500):
        session.execute(delete(ErasedBlob).where(ErasedBlob.sha256.in_(digests[start : start + 500])))


def outdated(session: Session, keep_days: int, *, limit: int) -> list[uuid.UUID]:
    """Studies last sent more than `keep_days` ago on which no job works, the oldest first.

    Args:
        session: For reading.
        keep_days: Days that a study is kept after it was last sent; at least 1.
        limit: Most studies.
    """
    if keep_days < 1:
        raise ValueError(f"received {keep_days} days to keep studies; expected at least 1")
    return list(
        session.scalars(
            select(Study.id).where(*_outdated(session, keep_days)).order_by(Study.created_at, Study.id).limit(limit)
        )
    )


def outdated_counts(session: Session, keep_days: int) -> Mapping[str, int]:
    """How many `studies`, `slices` and `empty_jobs` (without a study) are due to be deleted.

    `waiting` counts studies that are as old, but on which a job works.
    """
    since = database_now(session) - timedelta(days=keep_days)
    due = select(Study.id).where(*_outdated(session, keep_days))
    old = select(Study.id).where(*_outdated(session, keep_days)[:2])
    studies = session.scalar(select(func.count()).select_from(due.subquery())) or 0
    return {
        "studies": studies,
        "slices": session.scalar(select(func.count()).select_from(Instance).where(Instance.study_id.in_(due))) or 0,
        "empty_jobs": session.scalar(select(func.count()).select_from(Job).where(*_empty(since))) or 0,
        "waiting": (session.scalar(select(func.count()).select_from(old.subquery())) or 0) - studies,
    }


def forget_empty_jobs(session: Session, keep_days: int, *, limit: int) -> int:
    """Deletes ended submissions without a study, and uploads that never became one, older than `keep_days`.

    Their receipts and titles may name a patient although nothing of theirs could be used. One audit row for each job.

    Returns:
        How many went.
    """
    since = database_now(session) - timedelta(days=keep_days)
    jobs = session.scalars(
        select(Job).where(*_empty(since)).order_by(Job.id).limit(limit).with_for_update(skip_locked=True)
    ).all()
    uploads = [job.upload_id for job in jobs if job.upload_id]
    for job in jobs:
        detail = {"reason": str(EraseReason.RETENTION)}
        audit.record(session, audit.SYSTEM, "job.delete", object_kind="job", object_id=job.id, detail=detail)
    uploads += session.scalars(
        select(Upload.id).where(Upload.state == UploadState.ABANDONED, Upload.created_at < since).limit(limit)
    ).all()
    mark(session, session.scalars(select(UploadFile.sha256).where(UploadFile.upload_id.in_(uploads)).distinct()))
    session.execute(delete(Job).where(Job.id.in_([job.id for job in jobs])))
    session.execute(delete(Upload).where(Upload.id.in_(uploads)))
    session.expire_all()
    return len(jobs)


def _empty(since: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.purpose == Purpose.SUBMISSION,
        Job.state.in_(JOB_ENDED),
        Job.created_at < since,
        ~exists().where(JobStudy.job_id == Job.id),
    )


def _outdated(session: Session, keep_days: int) -> tuple[ColumnElement[bool], ...]:
    since = database_now(session) - timedelta(days=keep_days)
    jobs = select(JobStudy.job_id).join(Job, Job.id == JobStudy.job_id).where(JobStudy.study_id == Study.id)
    return (
        Study.created_at < since,
        ~exists(jobs.where(Job.purpose == Purpose.SUBMISSION, Job.created_at >= since)),
        ~exists(jobs.where(Job.state.not_in(JOB_ENDED))),
    )


def _only_of(session: Session, study_id: uuid.UUID) -> list[uuid.UUID]:
    """Jobs in which there is no other study. A shadow run stays: its page says what it was."""
    another = aliased(JobStudy)
    other = exists().where(another.job_id == Job.id, another.study_id != study_id)
    return list(
        session.scalars(
            select(Job.id)
            .join(JobStudy, JobStudy.job_id == Job.id)
            .where(JobStudy.study_id == study_id, Job.purpose != Purpose.SHADOW, ~other)
        )
    )


def _strip(session: Session, job: Job, study_id: uuid.UUID) -> set[str]:
    """Takes out of a submission that has other studies what may say whose this one was; returns bytes left over."""
    ours = ReceivedFile.study_id == study_id
    session.execute(
        update(ReceivedFile)
        .where(ReceivedFile.job_id == job.id, ours)
        .values(path=REMOVED_NAME, sha256=None, reason=STUDY_DELETED, detail={})
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(ReceivedFile)
        .where(ReceivedFile.job_id == job.id, ReceivedFile.study_id.is_(None))
        .values(path=REMOVED_NAME, sha256=None)
        .execution_options(synchronize_session=False)
    )
    job.title = ""
    if job.upload_id is None:
        return set()
    kept = (
        select(Instance.content_sha256)
        .join(JobStudy, JobStudy.study_id == Instance.study_id)
        .where(JobStudy.job_id == job.id, JobStudy.study_id != study_id)
    )
    return forget_names(session, job.upload_id, UploadFile.sha256.not_in(kept))
