"""Of several checkpoints that predicted a study: which one's results its page shows, and which others there are.

Owns the rule. Results of a shadow run are never among them. Of the rest: not withdrawn before withdrawn; then those of
which nothing of the study waits in a re-classification (its results are shown when the study is done, not half); then
the checkpoint of the newest job. Refuses to count classes: `db.queries.summaries` does, for the checkpoint given.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice
from db.predictions import Prediction
from db.queries import withdrawals
from db.queries.visibility import shown_predictions
from db.registry import ShadowRun, Withdrawal
from db.states import Purpose, SliceState
from db.studies import Instance


@dataclass(frozen=True)
class StudyCheckpoint:
    """One checkpoint that predicted slices of a study.

    Attributes:
        slices: How many of its slices.
        newest_at: When the newest of these results was made.
        withdrawal: Set when its results are withdrawn.
    """

    checkpoint: Checkpoint
    slices: int
    newest_at: datetime
    withdrawal: Withdrawal | None


def study_checkpoints(session: Session, study_id: uuid.UUID) -> list[StudyCheckpoint]:
    """Every checkpoint with results of a study, the one to be shown first; empty without results."""
    rows = session.execute(
        select(Prediction.checkpoint_id, func.count(), func.max(Prediction.created_at))
        .join(Instance, Instance.id == Prediction.instance_id)
        .where(Instance.study_id == study_id, shown_predictions())
        .group_by(Prediction.checkpoint_id)
    ).all()
    ids = [row[0] for row in rows]
    marked = withdrawals.marks(session, ids)
    named = {item.id: item for item in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(ids)))}
    found = [StudyCheckpoint(named[row[0]], row[1], row[2], marked.get(row[0])) for row in rows]
    if len(found) < 2:
        return found
    newest, unfinished = _jobs(session, study_id)

    def rank(item: StudyCheckpoint) -> tuple[bool, bool, float]:
        asked_at = newest.get(item.checkpoint.id, item.newest_at)
        return item.withdrawal is not None, item.checkpoint.id in unfinished, -asked_at.timestamp()

    return sorted(found, key=rank)


def adopt(
    session: Session, job_id: uuid.UUID, checkpoint_id: uuid.UUID, instance_ids: Sequence[uuid.UUID] | None = None
) -> None:
    """Makes results that a shadow run has made before those of a job that asks for them now; no effect on others.

    Args:
        session: In the write transaction that marks the job's slices as done.
        job_id: The job; nothing happens when it is a shadow run itself.
        checkpoint_id: Its checkpoint.
        instance_ids: Which slices; None: all that the job asks for.
    """
    if session.scalar(select(Job.purpose).where(Job.id == job_id)) == Purpose.SHADOW:
        return
    wanted = (
        Prediction.instance_id.in_(select(JobSlice.instance_id).where(JobSlice.job_id == job_id))
        if instance_ids is None
        else Prediction.instance_id.in_(instance_ids)
    )
    session.execute(
        update(Prediction)
        .where(
            Prediction.checkpoint_id == checkpoint_id,
            Prediction.job_id.in_(select(ShadowRun.job_id)),
            wanted,
        )
        .values(job_id=job_id)
        .execution_options(synchronize_session=False)
    )


def _jobs(session: Session, study_id: uuid.UUID) -> tuple[dict[uuid.UUID, datetime], set[uuid.UUID]]:
    """(When each checkpoint was last asked for this study, those of which a re-classification is not done with it)."""
    waiting = func.sum(case((JobSlice.state == SliceState.PENDING, 1), else_=0))
    rows = session.execute(
        select(Job.checkpoint_id, Job.purpose, Job.created_at, waiting)
        .join(JobSlice, JobSlice.job_id == Job.id)
        .join(Instance, Instance.id == JobSlice.instance_id)
        .where(
            Instance.study_id == study_id,
            # Who asks for further slices under an older checkpoint does not put it before the newer one.
            Job.purpose.not_in((Purpose.SHADOW, Purpose.SELECTION)),
            Job.checkpoint_id.is_not(None),
        )
        .group_by(Job.id, Job.checkpoint_id, Job.purpose, Job.created_at)
    ).all()
    newest: dict[uuid.UUID, datetime] = {}
    unfinished: set[uuid.UUID] = set()
    for checkpoint_id, purpose, created_at, left in rows:
        newest[checkpoint_id] = max(created_at, newest.get(checkpoint_id, created_at))
        if purpose == Purpose.RECLASSIFICATION and left:
            unfinished.add(checkpoint_id)
    return newest, unfinished
