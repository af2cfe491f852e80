"""How a job moves on as a whole: cut into work items, ended, cancelled, retried.

Owns every change of `Job.state` after submission, so that "succeeded" is never shown before the results are there.

Locks are taken in one order everywhere, work items before the job, so that workers, housekeeping and web never wait
for each other in a circle.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from config.queues import QUEUE_BATCH, QUEUE_INTAKE, QUEUE_INTERACTIVE, TASK_CLASSIFY, TASK_INTAKE
from config.settings import Settings
from db.clock import database_now
from db.jobs import Job, JobSlice, WorkItem
from db.queries import originals, sendings, standings
from db.states import ITEM_OPEN, JOB_ENDED, ItemState, JobState, Priority, Purpose, SliceState, check
from db.studies import Instance, Series


def cut(session: Session, job: Job, slice_ids: Sequence[uuid.UUID], settings: Settings, *, first: int = 1) -> int:
    """Makes work items of a job's pending slices, in the order given.

    Args:
        session: In a write transaction.
        job: The job.
        slice_ids: Pending `JobSlice` ids, in the order in which they shall be done.
        settings: Sizes of chunks and of the interactive lane.
        first: Sequence number of the first item.

    Returns:
        How many items were made.
    """
    # What the store holds already never goes before what somebody has just sent and waits for.
    asked = job.purpose in (Purpose.SUBMISSION, Purpose.SELECTION)
    quick = asked and len(slice_ids) <= settings.interactive_slices
    queue = QUEUE_INTERACTIVE if quick else QUEUE_BATCH
    size = settings.chunk_slices
    chunks = [slice_ids[start : start + size] for start in range(0, len(slice_ids), size)]
    for place, chunk in enumerate(chunks):
        add_item(session, job, chunk, queue=queue, sequence=first + place, max_attempts=settings.max_attempts)
    return len(chunks)


def add_item(
    session: Session, job: Job, slice_ids: Sequence[uuid.UUID], *, queue: str, sequence: int, max_attempts: int
) -> WorkItem:
    """Makes one classify item that covers the given slices."""
    item = WorkItem(
        job_id=job.id,
        task=TASK_CLASSIFY,
        queue=queue,
        priority_rank=Priority(job.priority).rank,
        sequence=sequence,
        slices=len(slice_ids),
        max_attempts=max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    session.execute(
        update(JobSlice)
        .where(JobSlice.id.in_(slice_ids))
        .values(work_item_id=item.id)
        .execution_options(synchronize_session=False)
    )
    return item


def divide(session: Session, item: WorkItem, *, attempts_each: int) -> int:
    """Replaces a classify item that was lost repeatedly by one item a pending slice; returns how many.

    Args:
        session: In the write transaction that ended `item`.
        item: The item; its state is the caller's matter.
        attempts_each: Attempts of each new item.
    """
    job = session.get_one(Job, item.job_id)
    slice_ids = session.scalars(
        select(JobSlice.id)
        .join(Instance, Instance.id == JobSlice.instance_id)
        .where(JobSlice.work_item_id == item.id, JobSlice.state == SliceState.PENDING)
        .order_by(Instance.sort_key, JobSlice.id)
    ).all()
    for slice_id in slice_ids:
        add_item(session, job, [slice_id], queue=item.queue, sequence=item.sequence, max_attempts=attempts_each)
    return len(slice_ids)


def fail_slices(session: Session, item_id: uuid.UUID, code: str, detail: dict[str, object]) -> int:
    """Marks the pending slices of a dead item as failed; returns how many."""
    slice_ids = session.scalars(
        select(JobSlice.id).where(JobSlice.work_item_id == item_id, JobSlice.state == SliceState.PENDING)
    ).all()
    if slice_ids:
        session.execute(
            update(JobSlice)
            .where(JobSlice.id.in_(slice_ids))
            .values(
                state=check(SliceState.PENDING, SliceState.FAILED),
                failure_code=code,
                failure_detail=detail,
                finished_at=database_now(session),
            )
            .execution_options(synchronize_session=False)
        )
        standings.changed_with_item(session, item_id)
    return len(slice_ids)


def settle(session: Session, job_id: uuid.UUID | None) -> JobState | None:
    """Ends a job that is being classified when none of its slices is pending any more.

    Call it in the transaction that wrote the last results. The job's row is locked before counting, so that of two
    workers that finish at the same moment the second one sees what the first one wrote.

    Returns:
        The state the job ended in now; None when it goes on or had ended before, or when there is no job.
    """
    job = _locked(session, job_id) if job_id else None
    if job is None or job.state != JobState.CLASSIFYING:
        return None
    counts = _slice_counts(session, job.id)
    if counts.get(SliceState.PENDING):
        return None
    job.state = check(JobState.CLASSIFYING, end_state(counts))
    job.finished_at = database_now(session)
    if job.state == JobState.FAILED:
        job.failure_code = "every_slice_failed"
    session.flush()
    sendings.request_automatic(session, job)
    return JobState(job.state)


def end_state(counts: dict[SliceState, int]) -> JobState:
    """The state in which a job without pending slices ends."""
    done = counts.get(SliceState.DONE, 0)
    others = counts.get(SliceState.FAILED, 0) + counts.get(SliceState.CANCELLED, 0)
    if not others:
        return JobState.SUCCEEDED  # also when every slice was left out: all is done that was to be done
    if done:
        return JobState.PARTIAL
    return JobState.FAILED


def fail_job(session: Session, job_id: uuid.UUID, code: str, detail: dict[str, object]) -> None:
    """Ends a job whose files could not be taken in; no effect when it has ended before."""
    job = _locked(session, job_id)
    if job is None or JobState(job.state) in JOB_ENDED:
        return
    job.state = check(JobState(job.state), JobState.FAILED)
    job.failure_code = code
    job.failure_detail = detail
    job.finished_at = database_now(session)
    session.flush()


def cancel(session: Session, job_id: uuid.UUID) -> bool:
    """Cancels a job that has not ended.

    Takes every open work item away from its worker in the same transaction: the fence is gone, so nothing can be
    written for this job after the commit, whatever a worker is doing at this moment. Workers notice between small
    batches and turn to other work.

    Returns:
        Whether there was something to cancel.
    """
    items = session.scalars(
        select(WorkItem)
        .where(
            WorkItem.job_id == job_id, WorkItem.state.in_(ITEM_OPEN), WorkItem.task.in_((TASK_INTAKE, TASK_CLASSIFY))
        )
        .order_by(WorkItem.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    job = _locked(session, job_id)
    if job is None or JobState(job.state) in JOB_ENDED:
        return False
    now = database_now(session)
    for item in items:
        item.state = check(ItemState(item.state), ItemState.CANCELLED)
        item.lease_token = None
        item.lease_until = None
        item.finished_at = now
    session.execute(
        update(JobSlice)
        .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.PENDING)
        .values(state=check(SliceState.PENDING, SliceState.CANCELLED), finished_at=now)
        .execution_options(synchronize_session=False)
    )
    job.state = check(JobState(job.state), JobState.CANCELLED)
    job.cancel_requested_at = now
    job.finished_at = now
    session.flush()
    standings.changed_with_job(session, job_id)
    return True


def retry(session: Session, job_id: uuid.UUID, settings: Settings) -> list[WorkItem]:
    """Takes up again what failed or was cancelled in a job that has ended.

    Slices that have their result keep it. A job that failed before it had slices is opened again from its files.

    Returns:
        The new work items, for the caller to ring after the commit; empty when there is nothing to retry.
    """
    job = _locked(session, job_id)
    if job is None or JobState(job.state) not in JOB_ENDED:
        return []
    before = JobState(job.state)
    if job.opened_at is None:
        if before == JobState.SUCCEEDED or not originals.can_be_opened_again(session, job):
            return []
        item = WorkItem(
            job_id=job.id,
            task=TASK_INTAKE,
            queue=QUEUE_INTAKE,
            priority_rank=Priority(job.priority).rank,
            max_attempts=settings.max_attempts,
            state=ItemState.PENDING,
        )
        session.add(item)
        after = JobState.RECEIVED
    else:
        again = session.execute(
            select(JobSlice.id, JobSlice.state)
            .join(Instance, Instance.id == JobSlice.instance_id)
            .join(Series, Series.id == Instance.series_id)
            .where(JobSlice.job_id == job_id, JobSlice.state.in_((SliceState.FAILED, SliceState.CANCELLED)))
            .order_by(Instance.study_id, Series.number, Instance.series_id, Instance.sort_key, JobSlice.id)
        ).all()
        if not again:
            return []
        for state in {row.state for row in again}:
            check(SliceState(state), SliceState.PENDING)
        slice_ids = [row.id for row in again]
        for start in range(0, len(slice_ids), 500):
            session.execute(
                update(JobSlice)
                .where(JobSlice.id.in_(slice_ids[start : start + 500]))
                .values(state=SliceState.PENDING, failure_code="", failure_detail={}, finished_at=None)
                .execution_options(synchronize_session=False)
            )
        last = session.scalar(select(func.max(WorkItem.sequence)).where(WorkItem.job_id == job_id)) or 0
        cut(session, job, slice_ids, settings, first=last + 1)
        after = JobState.CLASSIFYING
    job.state = check(before, after)
    job.cancel_requested_at = None
    job.finished_at = None
    job.failure_code = ""
    job.failure_detail = {}
    session.flush()
    standings.changed_with_job(session, job_id)
    return list(session.scalars(select(WorkItem).where(WorkItem.job_id == job_id, WorkItem.state == ItemState.PENDING)))


def _locked(session: Session, job_id: uuid.UUID) -> Job | None:
    return session.scalar(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    )


def _slice_counts(session: Session, job_id: uuid.UUID) -> dict[SliceState, int]:
    rows = session.execute(
        select(JobSlice.state, func.count()).where(JobSlice.job_id == job_id).group_by(JobSlice.state)
    )
    return {SliceState(state): count for state, count in rows}
