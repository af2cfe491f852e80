"""What a shadow run found: a candidate and the serving checkpoint on the same slices, side by side.

Owns the figures of the page: agreement, changed slices, findings by study, time a slice. Refuses to show them where
results are shown: `db.queries.visibility.shown_predictions` keeps them out there.
"""

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from config.queues import TASK_CLASSIFY
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, WorkItem
from db.predictions import Prediction
from db.queries.summaries import Finding, Tally, summarise
from db.registry import ShadowRun
from db.states import ItemState, JobState, SliceState
from db.studies import Instance, Series, Study

CHANGED_SHOWN: Final = 200
ITEMS_MEASURED: Final = 200


@dataclass(frozen=True)
class ChangedSlice:
    """A slice on which the two do not agree."""

    study: Study
    instance: Instance
    before: str
    before_probability: float
    after: str
    after_probability: float


@dataclass(frozen=True)
class ShadowResult:
    """A shadow run as far as it is.

    Attributes:
        total: Slices it covers.
        done: Slices that both have judged.
        failed: Slices that the candidate could not judge.
        agreement: (reference's class, candidate's class) -> slices.
        changed: Slices of different classes, at most `CHANGED_SHOWN`, the surest change first.
        changed_total: How many there are.
        findings: (finding by the reference, by the candidate) -> studies of which every slice is done.
        candidate_ms: Mean time a slice took in the worker, milliseconds; None before the first chunk.
        reference_ms: The same of the reference's newest chunks.
    """

    run: ShadowRun
    candidate: Checkpoint
    reference: Checkpoint
    state: JobState
    total: int
    done: int
    failed: int
    agreement: dict[tuple[str, str], int]
    changed: list[ChangedSlice]
    changed_total: int
    findings: dict[tuple[Finding, Finding], int]
    candidate_ms: float | None
    reference_ms: float | None

    @property
    def agreed(self) -> int:
        """Slices of the same class."""
        return self.done - self.changed_total


def newest_run(session: Session, candidate_id: uuid.UUID) -> ShadowRun | None:
    """The newest shadow run of a candidate."""
    return session.scalars(
        select(ShadowRun)
        .where(ShadowRun.candidate_id == candidate_id)
        .order_by(ShadowRun.created_at.desc())
        .options(joinedload(ShadowRun.job))
        .limit(1)
    ).one_or_none()


def result(session: Session, run: ShadowRun) -> ShadowResult:
    """Compares what the candidate said so far with what the reference had said."""
    ours, theirs = aliased(Prediction), aliased(Prediction)
    rows = session.execute(
        select(
            Instance.study_id,
            JobSlice.instance_id,
            func.coalesce(Instance.plane, Series.plane).label("plane"),
            theirs.class_name.label("before"),
            theirs.probability.label("before_probability"),
            theirs.abstention.label("before_abstention"),
            ours.class_name.label("after"),
            ours.probability.label("after_probability"),
            ours.abstention.label("after_abstention"),
        )
        .join(Instance, Instance.id == JobSlice.instance_id)
        .join(Series, Series.id == Instance.series_id)
        .join(theirs, and_(theirs.instance_id == JobSlice.instance_id, theirs.checkpoint_id == run.reference_id))
        .outerjoin(ours, and_(ours.instance_id == JobSlice.instance_id, ours.checkpoint_id == run.candidate_id))
        .where(JobSlice.job_id == run.job_id)
    ).all()
    both = [row for row in rows if row.after is not None]
    different = sorted(
        (row for row in both if row.before != row.after),
        key=lambda row: (-min(row.before_probability, row.after_probability), row.instance_id),
    )
    instances = {
        item.id: item
        for item in session.scalars(
            select(Instance)
            .where(Instance.id.in_([row.instance_id for row in different[:CHANGED_SHOWN]]))
            .options(joinedload(Instance.study))
        )
    }
    unfinished = {row.study_id for row in rows if row.after is None}
    votes: dict[uuid.UUID, tuple[list[Tally], list[Tally]]] = {}
    for row in both:
        if row.study_id not in unfinished:
            before, after = votes.setdefault(row.study_id, ([], []))
            before.append(
                Tally.of_slice(row.plane, row.before, row.before_probability, answered=not row.before_abstention)
            )
            after.append(Tally.of_slice(row.plane, row.after, row.after_probability, answered=not row.after_abstention))
    states = Counter(session.scalars(select(JobSlice.state).where(JobSlice.job_id == run.job_id)))
    return ShadowResult(
        run=run,
        candidate=session.get_one(Checkpoint, run.candidate_id),
        reference=session.get_one(Checkpoint, run.reference_id),
        state=JobState(run.job.state),
        total=states.total(),
        done=len(both),
        failed=states[SliceState.FAILED],
        agreement=dict(Counter((row.before, row.after) for row in both)),
        changed=[
            ChangedSlice(
                instances[row.instance_id].study,
                instances[row.instance_id],
                row.before,
                row.before_probability,
                row.after,
                row.after_probability,
            )
            for row in different[:CHANGED_SHOWN]
        ],
        changed_total=len(different),
        findings=dict(Counter((summarise(a).finding, summarise(b).finding) for a, b in votes.values())),
        candidate_ms=_ms_a_slice(session, Job.id == run.job_id),
        reference_ms=_ms_a_slice(session, Job.checkpoint_id == run.reference_id),
    )


def _ms_a_slice(session: Session, condition: ColumnElement[bool]) -> float | None:
    """Mean time of a slice in the newest finished chunks, reading and writing included."""
    rows = session.execute(
        select(WorkItem.slices, WorkItem.started_at, WorkItem.finished_at)
        .join(Job, Job.id == WorkItem.job_id)
        .where(
            condition,
            WorkItem.task == TASK_CLASSIFY,
            WorkItem.state == ItemState.DONE,
            WorkItem.error_code == "",
            WorkItem.slices > 0,
        )
        .order_by(WorkItem.finished_at.desc())
        .limit(ITEMS_MEASURED)
    ).all()
    slices = sum(row.slices for row in rows)
    seconds = sum(_seconds(row.started_at, row.finished_at) for row in rows)
    return 1000 * seconds / slices if slices else None


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0
