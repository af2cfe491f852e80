"""What workers say of themselves, and what may be concluded from it: readiness, throughput, waiting time.

Owns the figures behind "position in the queue" and "time remaining": both come from measured work, not from guesses.
Refuses to promise: without a measurement there is no estimate.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from config.queues import QUEUE_BATCH, QUEUE_INTERACTIVE, TASK_CLASSIFY
from db.clock import database_now
from db.jobs import Job, JobSlice, WorkItem
from db.queries.checkpoints import serving
from db.states import ITEM_OPEN, ItemState, JobState, Priority, SliceState
from db.upserts import insert_missing
from db.workers import WorkerHeartbeat

THROUGHPUT_WINDOW = timedelta(minutes=30)
THROUGHPUT_ITEMS = 60


def beat(
    session: Session,
    *,
    name: str,
    queues: list[str],
    engine: str,
    checkpoint_id: uuid.UUID | None,
    facts: dict[str, Any],
) -> None:
    """Records that a worker lives, by the database's clock."""
    now = database_now(session)
    insert_missing(session, WorkerHeartbeat, [{"name": name, "queues": queues, "started_at": now, "facts": {}}])
    row = session.get_one(WorkerHeartbeat, name)
    row.queues = queues
    row.engine = engine
    row.checkpoint_id = checkpoint_id
    row.facts = facts
    row.seen_at = now


def leave(session: Session, name: str) -> None:
    """Removes a worker that ends in an orderly way."""
    session.execute(delete(WorkerHeartbeat).where(WorkerHeartbeat.name == name))


def forget_older_than(session: Session, age_s: float) -> int:
    """Removes workers not seen for so long; returns how many."""
    old = session.scalars(
        select(WorkerHeartbeat.name).where(WorkerHeartbeat.seen_at < database_now(session) - timedelta(seconds=age_s))
    ).all()
    if old:
        session.execute(delete(WorkerHeartbeat).where(WorkerHeartbeat.name.in_(old)))
    return len(old)


def alive(session: Session, *, age_s: float) -> list[WorkerHeartbeat]:
    """Workers seen within the last `age_s` seconds."""
    return list(
        session.scalars(
            select(WorkerHeartbeat)
            .where(WorkerHeartbeat.seen_at >= database_now(session) - timedelta(seconds=age_s))
            .order_by(WorkerHeartbeat.name)
        )
    )


def ready_workers(session: Session, *, age_s: float) -> list[WorkerHeartbeat]:
    """Living classify workers that have the serving checkpoint loaded."""
    current = serving(session)
    if current is None:
        return []
    return [
        worker
        for worker in alive(session, age_s=age_s)
        if worker.checkpoint_id == current.id and QUEUE_INTERACTIVE in worker.queues
    ]


@dataclass(frozen=True)
class Throughput:
    """Measured speed of classification.

    Attributes:
        slices_per_s: Of all living classify workers together; None when nothing was measured recently.
        slices_per_s_worker: Of one worker while it works.
        workers: Living classify workers.
        items: Work items measured.
    """

    slices_per_s: float | None
    slices_per_s_worker: float | None
    workers: int
    items: int


def throughput(session: Session, *, worker_age_s: float = 20.0) -> Throughput:
    """Speed over the most recently finished classify items (at most 60, of the last half hour)."""
    rows = session.execute(
        select(WorkItem.slices, WorkItem.started_at, WorkItem.finished_at)
        .where(
            WorkItem.task == TASK_CLASSIFY,
            WorkItem.state == ItemState.DONE,
            WorkItem.error_code == "",
            WorkItem.slices > 0,
            WorkItem.finished_at >= database_now(session) - THROUGHPUT_WINDOW,
        )
        .order_by(WorkItem.finished_at.desc())
        .limit(THROUGHPUT_ITEMS)
    ).all()
    slices = sum(row.slices for row in rows)
    busy_s = sum(_seconds(row.started_at, row.finished_at) for row in rows)
    workers = sum(QUEUE_BATCH in worker.queues for worker in alive(session, age_s=worker_age_s))
    each = slices / busy_s if slices and busy_s > 0 else None
    return Throughput(each * max(1, workers) if each else None, each, workers, len(rows))


@dataclass(frozen=True)
class Waiting:
    """How long a job will take from now.

    Attributes:
        jobs_ahead: Jobs that will be finished earlier.
        slices_ahead: Slices that will be done before this job's last one, its own not counted.
        slices_left: Its own slices not done yet; None while its files are still being opened.
        seconds: Estimated time until it is finished; None without a measurement or while it is being opened.
    """

    jobs_ahead: int
    slices_ahead: int
    slices_left: int | None
    seconds: float | None


def waiting(session: Session, job_id: uuid.UUID, *, worker_age_s: float = 20.0) -> Waiting | None:
    """Position and time remaining of a job; None when it has ended or does not exist.

    The same order as `claims.claim_next`: lane, then urgency; jobs of equal standing are served in turn, so that of
    each of them as many slices go first as this job has itself, at most. (The starvation guard is left out: it
    shortens the wait of old jobs, never lengthens this estimate by more than one chunk of each.)
    """
    job = session.get(Job, job_id)
    if job is None or JobState(job.state) not in (JobState.RECEIVED, JobState.OPENING, JobState.CLASSIFYING):
        return None
    standings = _standings(session)
    mine = standings.pop(job_id, None)
    if mine is None:
        mine = _Standing(1, Priority(job.priority).rank, 0)
        opened = False
    else:
        opened = True
    jobs_ahead = slices_ahead = 0
    for other in standings.values():
        if (other.lane, other.rank) < (mine.lane, mine.rank) or (not opened and other.rank <= mine.rank):
            jobs_ahead += 1
            slices_ahead += other.slices
        elif (other.lane, other.rank) == (mine.lane, mine.rank):
            jobs_ahead += other.slices < mine.slices
            slices_ahead += min(other.slices, mine.slices)
    if not opened:
        return Waiting(jobs_ahead, slices_ahead, None, None)
    speed = throughput(session, worker_age_s=worker_age_s).slices_per_s
    seconds = (slices_ahead + mine.slices) / speed if speed else None
    return Waiting(jobs_ahead, slices_ahead, mine.slices, seconds)


@dataclass(frozen=True)
class QueueFacts:
    """One queue as the database sees it."""

    waiting: int
    running: int
    oldest_wait_s: float


def queue_facts(session: Session) -> dict[str, QueueFacts]:
    """Depth and age of every queue that has open items: what health and metrics are judged by."""
    now = database_now(session)
    facts: dict[str, QueueFacts] = {}
    rows = session.execute(
        select(WorkItem.queue, WorkItem.state, func.count(), func.min(WorkItem.created_at))
        .where(WorkItem.state.in_(ITEM_OPEN))
        .group_by(WorkItem.queue, WorkItem.state)
    ).all()
    for queue, state, count, oldest in rows:
        before = facts.get(queue, QueueFacts(0, 0, 0.0))
        if state == ItemState.PENDING:
            facts[queue] = QueueFacts(count, before.running, _seconds(oldest, now))
        else:
            facts[queue] = QueueFacts(before.waiting, count, before.oldest_wait_s)
    return facts


@dataclass(frozen=True)
class _Standing:
    lane: int
    rank: int
    slices: int


def _standings(session: Session) -> dict[uuid.UUID, _Standing]:
    """Jobs being classified, by lane (0 interactive), urgency and pending slices."""
    rows = session.execute(
        select(JobSlice.job_id, Job.priority, func.count(), func.min(WorkItem.queue), func.max(WorkItem.queue))
        .join(Job, Job.id == JobSlice.job_id)
        .outerjoin(WorkItem, WorkItem.id == JobSlice.work_item_id)
        .where(JobSlice.state == SliceState.PENDING, Job.state == JobState.CLASSIFYING)
        .group_by(JobSlice.job_id, Job.priority)
    ).all()
    return {
        job_id: _Standing(0 if lowest == highest == QUEUE_INTERACTIVE else 1, Priority(priority).rank, count)
        for job_id, priority, count, lowest, highest in rows
    }


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0
