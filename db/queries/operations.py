"""How the system is doing: what health checks and metrics are judged by.

Owns the rule by which work counts as stuck, and the counts behind `/metrics`. Refuses identity of any kind: what it
returns may be shown to a monitoring system.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.orm import Session

from config.queues import QUEUE_REGISTRY, QUEUE_TRAINING
from db.checkpoints import Checkpoint
from db.clock import database_now
from db.jobs import Job, JobSlice, WorkItem
from db.predictions import Prediction
from db.states import ItemState, JobState, RunState, SliceState
from db.sweeps import TrainingRun


@dataclass(frozen=True)
class Backlog:
    """How long due work has been waiting, and whether anybody takes any.

    Attributes:
        oldest_due_s: Age of the oldest item that could be claimed now, seconds; 0 when nothing waits.
        last_claim_s: Time since any item was claimed, seconds; None when none ever was.
        stuck: Work has been due for longer than the limit and nothing was claimed or finished during that time.
    """

    oldest_due_s: float
    last_claim_s: float | None
    stuck: bool


def backlog(session: Session, *, stuck_after_s: float) -> Backlog:
    """Judges by rows, not by processes: a worker that runs but claims nothing is not working."""
    now = database_now(session)
    due_since = func.coalesce(WorkItem.not_before, WorkItem.created_at)
    oldest = session.scalar(
        select(func.min(due_since)).where(
            WorkItem.state == ItemState.PENDING,
            WorkItem.queue.not_in((QUEUE_REGISTRY, QUEUE_TRAINING)),  # studies do not wait for these
            or_(WorkItem.not_before.is_(None), WorkItem.not_before <= now),
        )
    )
    moved = session.execute(
        select(func.max(WorkItem.started_at), func.max(WorkItem.finished_at)).where(
            or_(
                WorkItem.started_at >= now - timedelta(days=1),
                and_(WorkItem.finished_at.is_not(None), WorkItem.finished_at >= now - timedelta(days=1)),
            )
        )
    ).one()
    moments = [moment for moment in moved if moment is not None]
    last_s = max(0.0, (now - max(moments)).total_seconds()) if moments else None
    oldest_s = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    stuck = oldest_s > stuck_after_s and (last_s is None or last_s > stuck_after_s)
    return Backlog(oldest_s, last_s, stuck)


def jobs_by_state(session: Session) -> dict[str, int]:
    """How many jobs are in each state."""
    counts = {state.value: 0 for state in JobState}
    for state, count in session.execute(select(Job.state, func.count()).group_by(Job.state)):
        counts[str(state)] = count
    return counts


def runs_by_state(session: Session) -> dict[str, int]:
    """How many training runs are in each state."""
    counts = {state.value: 0 for state in RunState}
    for state, count in session.execute(select(TrainingRun.state, func.count()).group_by(TrainingRun.state)):
        counts[str(state)] = count
    return counts


def slices_by_state(session: Session) -> dict[str, int]:
    """How many slices of jobs are in each state."""
    counts = {state.value: 0 for state in SliceState}
    for state, count in session.execute(select(JobSlice.state, func.count()).group_by(JobSlice.state)):
        counts[str(state)] = count
    return counts


def predictions_by_class(session: Session) -> list[tuple[str, str, int]]:
    """(class name, or `abstained`; checkpoint digest; predictions): a shift in these is the first sign of drift."""
    said = case((Prediction.abstention == "", Prediction.class_name), else_="abstained").label("said")
    rows = session.execute(
        select(said, Checkpoint.digest, func.count())
        .join(Checkpoint, Checkpoint.id == Prediction.checkpoint_id)
        .group_by(said, Checkpoint.digest)
        .order_by(Checkpoint.digest, said)
    )
    return [(class_name, digest, count) for class_name, digest, count in rows]
