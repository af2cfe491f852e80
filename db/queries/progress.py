"""How far a job is: the figures that page, API and client show while it runs and when it has ended.

Owns one snapshot per question, taken in one transaction, so that the counts in it agree with each other and with the
state. Refuses to guess: without a measurement there is no time remaining.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.queues import QUEUE_BATCH, QUEUE_INTAKE, QUEUE_INTERACTIVE, TASK_INTAKE
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, JobStudy, ReceivedFile, WorkItem
from db.queries import heartbeats
from db.queries.checkpoints import serving
from db.queries.visibility import Viewer, visible_jobs, visible_studies
from db.states import JOB_ENDED, ItemState, JobState, Priority, Purpose, SliceState
from db.studies import Study
from db.uploads import UploadFile
from db.users import User


@dataclass(frozen=True)
class Progress:
    """One job at one moment.

    Attributes:
        files_sent: Files as they were sent, an archive counts as one.
        files_opened: Files (members of archives too) that the running intake has looked at; None when it is over.
        outcomes: Receipt lines by outcome.
        slices: Slices by state.
        studies: (id, title) of the studies it contributed to.
        checkpoint_digest: The model that the job pinned; empty before.
        duplicate_of_id: An earlier job with the same content that the viewer may see.
        jobs_ahead: Jobs that will be finished earlier; None when it has ended.
        seconds_left: Estimated from measured speed; None when not known.
        waits_for: `worker`, `model`, `turn`; empty when it is being worked on or has ended.
    """

    id: uuid.UUID
    title: str
    state: JobState
    priority: Priority
    purpose: Purpose
    sent_by: str
    created_at: datetime
    opened_at: datetime | None
    finished_at: datetime | None
    files_sent: int
    files_opened: int | None
    outcomes: dict[str, int]
    slices: dict[SliceState, int]
    studies: list[tuple[uuid.UUID, str]]
    checkpoint_digest: str
    duplicate_of_id: uuid.UUID | None
    failure_code: str
    failure_detail: dict[str, Any]
    jobs_ahead: int | None
    slices_ahead: int | None
    seconds_left: float | None
    waits_for: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in JOB_ENDED

    @property
    def slices_total(self) -> int:
        """All slices of the job."""
        return sum(self.slices.values())

    @property
    def fraction(self) -> float:
        """Part of the slices that is settled, in [0, 1]; 0 while files are being opened."""
        total = self.slices_total
        if not total:
            return 1.0 if self.ended else 0.0
        return 1.0 - self.slices[SliceState.PENDING] / total

    @property
    def may_cancel(self) -> bool:
        """Whether a cancellation would have an effect."""
        return not self.ended

    @property
    def may_retry(self) -> bool:
        """Whether something failed or was cancelled that can be taken up again."""
        if not self.ended or self.state == JobState.SUCCEEDED:
            return False
        if self.opened_at is None:
            return True
        return bool(self.slices[SliceState.FAILED] or self.slices[SliceState.CANCELLED])


def progress(session: Session, job_id: uuid.UUID, viewer: Viewer, settings: Settings) -> Progress | None:
    """The job at this moment; None when the viewer may not see it."""
    row = session.execute(
        select(Job, User.username, Checkpoint.digest)
        .outerjoin(User, User.id == Job.created_by_id)
        .outerjoin(Checkpoint, Checkpoint.id == Job.checkpoint_id)
        .where(Job.id == job_id, visible_jobs(viewer))
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        return None
    job, username, digest = row
    state = JobState(job.state)
    outcomes = session.execute(
        select(ReceivedFile.outcome, func.count()).where(ReceivedFile.job_id == job_id).group_by(ReceivedFile.outcome)
    )
    slices = dict.fromkeys(SliceState, 0)
    for slice_state, count in session.execute(
        select(JobSlice.state, func.count()).where(JobSlice.job_id == job_id).group_by(JobSlice.state)
    ):
        slices[SliceState(slice_state)] = count
    studies = session.execute(
        select(Study.id, Study.title)
        .join(JobStudy, JobStudy.study_id == Study.id)
        .where(JobStudy.job_id == job_id, visible_studies(viewer))
        .order_by(Study.title, Study.id)
    )
    duplicate = None
    if job.duplicate_of_id is not None:
        duplicate = session.scalar(select(Job.id).where(Job.id == job.duplicate_of_id, visible_jobs(viewer)))
    waiting = heartbeats.waiting(session, job_id, worker_age_s=settings.worker_ready_age_s)
    return Progress(
        id=job.id,
        title=job.title,
        state=state,
        priority=Priority(job.priority),
        purpose=Purpose(job.purpose),
        sent_by=username or "",
        created_at=job.created_at,
        opened_at=job.opened_at,
        finished_at=job.finished_at,
        files_sent=session.scalar(
            select(func.count()).select_from(UploadFile).where(UploadFile.upload_id == job.upload_id)
        )
        or 0,
        files_opened=_files_opened(session, job) if state in (JobState.RECEIVED, JobState.OPENING) else None,
        outcomes={str(outcome): int(count) for outcome, count in outcomes},
        slices=slices,
        studies=[(study_id, title) for study_id, title in studies],
        checkpoint_digest=digest or "",
        duplicate_of_id=duplicate,
        failure_code=job.failure_code,
        failure_detail=job.failure_detail,
        jobs_ahead=waiting.jobs_ahead if waiting else None,
        slices_ahead=waiting.slices_ahead if waiting else None,
        seconds_left=waiting.seconds if waiting else None,
        waits_for=_waits_for(session, job, state, settings),
    )


def list_jobs(
    session: Session,
    viewer: Viewer,
    *,
    states: list[JobState] | None = None,
    text: str = "",
    mine: bool = False,
    page: int = 1,
    page_size: int = 25,
) -> tuple[list[uuid.UUID], int]:
    """Ids of one page of jobs, the newest first, and how many there are in all.

    Args:
        session: Any.
        viewer: Who asks.
        states: Only jobs in these states.
        text: Only jobs whose title holds this text, whatever its case.
        mine: Only the viewer's own.
        page: From 1 on.
        page_size: Jobs a page.
    """
    condition = [visible_jobs(viewer)]
    if states:
        condition.append(Job.state.in_(states))
    if text:
        condition.append(Job.title.icontains(text, autoescape=True))
    if mine:
        condition.append(Job.created_by_id == viewer.user_id)
    total = session.scalar(select(func.count()).select_from(Job).where(*condition)) or 0
    ids = session.scalars(
        select(Job.id)
        .where(*condition)
        .order_by(Job.created_at.desc(), Job.id)
        .limit(page_size)
        .offset((page - 1) * page_size)
    ).all()
    return list(ids), total


def _files_opened(session: Session, job: Job) -> int:
    return (
        session.scalar(
            select(func.max(WorkItem.progress)).where(
                WorkItem.job_id == job.id, WorkItem.task == TASK_INTAKE, WorkItem.state == ItemState.RUNNING
            )
        )
        or 0
    )


def _waits_for(session: Session, job: Job, state: JobState, settings: Settings) -> str:
    """What keeps a job that has not ended from being worked on at this moment."""
    if state in JOB_ENDED:
        return ""
    running = session.scalar(
        select(WorkItem.id).where(WorkItem.job_id == job.id, WorkItem.state == ItemState.RUNNING).limit(1)
    )
    if running is not None:
        return ""
    if serving(session) is None:
        return "model"
    wanted = {QUEUE_INTAKE} if state in (JobState.RECEIVED, JobState.OPENING) else {QUEUE_INTERACTIVE, QUEUE_BATCH}
    alive = heartbeats.alive(session, age_s=settings.worker_ready_age_s)
    if not any(wanted & set(worker.queues) for worker in alive):
        return "worker"
    return "turn"
