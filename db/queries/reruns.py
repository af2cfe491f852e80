"""Classifying slices of the store again: re-classification under the serving checkpoint, and shadow runs.

Owns making such jobs out of studies that are there: nothing is received, so their receipt is empty. Results of the
checkpoint that exist are kept and not made twice. Refuses to touch what other checkpoints said: both stay readable.

A re-classification asks for whole studies, so that the study's page is whole under the new checkpoint: for all slices
that this checkpoint is to classify (`db.queries.selection.wanted`); of slices that wait for it already it makes no
second request. `further` asks for slices of one study that were left out.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from config.settings import Settings
from db.checkpoints import Checkpoint
from db.clock import database_now
from db.jobs import Job, JobSlice, JobStudy
from db.predictions import Prediction
from db.queries import selection, settle, standings
from db.queries.checkpoints import serving
from db.queries.refusals import RegistryRefused
from db.queries.visibility import shown_predictions
from db.registry import ShadowRun
from db.states import JobState, Priority, Purpose, SliceState
from db.studies import Instance, Series, Study
from db.upserts import insert_missing

SLICES_A_JOB: Final = 5000
"""One transaction makes one job: so many slices at most, unless a single study has more."""


@dataclass(frozen=True)
class Rerun:
    """One job that was made.

    Attributes:
        job_id: The job.
        slices: Slices it asks for.
        studies: Studies they are of.
        more: Whether studies are left for a further job.
    """

    job_id: uuid.UUID
    slices: int
    studies: int
    more: bool


def studies_with_results_of(checkpoint_id: uuid.UUID) -> ColumnElement[bool]:
    """Condition on `Study`: it holds results of a checkpoint that were shown."""
    return Study.id.in_(
        select(Instance.study_id)
        .join(Prediction, Prediction.instance_id == Instance.id)
        .where(Prediction.checkpoint_id == checkpoint_id, shown_predictions())
    )


def studies_received_between(since: datetime, until: datetime) -> ColumnElement[bool]:
    """Condition on `Study`: it was received in [since, until)."""
    return (Study.created_at >= since) & (Study.created_at < until)


def reclassify(
    session: Session,
    which: ColumnElement[bool],
    settings: Settings,
    *,
    by: uuid.UUID | None,
    title: str,
    priority: Priority,
) -> Rerun | None:
    """Makes one job that classifies studies again with the serving checkpoint.

    Args:
        session: In a write transaction.
        which: Condition on `Study`.
        settings: Sizes of chunks.
        by: The user.
        title: Of the job.
        priority: Urgency; off-peak work waits for everything else.

    Returns:
        The job; None when every slice of these studies has its result or waits for it already. When `more`, call again
        in a new transaction.

    Raises:
        RegistryRefused: `no_serving`.
    """
    checkpoint = serving(session)
    if checkpoint is None:
        raise RegistryRefused("no_serving", "No model serves; promote one first.")
    missing = (*_missing(which, checkpoint.id), selection.wanted(checkpoint))
    counts = session.execute(
        select(Instance.study_id, func.count())
        .join(Study, Study.id == Instance.study_id)
        .join(Series, Series.id == Instance.series_id)
        .where(*missing)
        .group_by(Instance.study_id, Study.created_at)
        .order_by(Study.created_at, Instance.study_id)
        .limit(SLICES_A_JOB + 1)
    ).all()
    if not counts:
        return None
    chosen: list[uuid.UUID] = []
    slices = 0
    for study_id, count in counts:
        if chosen and slices + count > SLICES_A_JOB:
            break
        chosen.append(study_id)
        slices += count
    job = _job(session, checkpoint, by, title, priority, Purpose.RECLASSIFICATION)
    insert_missing(session, JobStudy, [{"job_id": job.id, "study_id": study_id} for study_id in sorted(chosen)])
    instance_ids = _instances(session, (*missing, Instance.study_id.in_(chosen)))
    _cut(session, job, instance_ids, settings)
    standings.changed(session, chosen)
    return Rerun(job.id, slices, len(chosen), len(counts) > len(chosen))


def further(
    session: Session,
    study: Study,
    checkpoint: Checkpoint,
    which: ColumnElement[bool],
    settings: Settings,
    *,
    by: uuid.UUID | None,
) -> Rerun | None:
    """Makes one job that classifies further slices of a study, for somebody who asked.

    Args:
        session: In a write transaction.
        study: The study; its row is held, so that two who ask at once do not ask twice.
        checkpoint: The checkpoint whose results of the study are shown, or the serving one.
        which: Condition on `Instance` and `Series`.
        settings: Sizes of chunks.
        by: The user.

    Returns:
        The job; None when every one of these slices has its result or waits for it already.
    """
    session.execute(select(Study.id).where(Study.id == study.id).with_for_update())
    instance_ids = _instances(session, (*_missing(Study.id == study.id, checkpoint.id), which))
    if not instance_ids:
        return None
    job = _job(session, checkpoint, by, study.title or study.description, Priority.NORMAL, Purpose.SELECTION)
    insert_missing(session, JobStudy, [{"job_id": job.id, "study_id": study.id}])
    _cut(session, job, instance_ids, settings)
    standings.changed(session, [study.id])
    return Rerun(job.id, len(instance_ids), 1, more=False)


def askable(
    session: Session, study_id: uuid.UUID, checkpoint: Checkpoint, which: ColumnElement[bool]
) -> dict[str | None, int]:
    """How many slices `further` would ask for, by plane."""
    return {
        row[0]: row[1]
        for row in session.execute(
            select(Instance.plane, func.count())
            .join(Study, Study.id == Instance.study_id)
            .join(Series, Series.id == Instance.series_id)
            .where(*_missing(Study.id == study_id, checkpoint.id), which)
            .group_by(Instance.plane)
            .order_by(Instance.plane)
        )
    }


def shadow(
    session: Session, candidate: Checkpoint, studies: int, settings: Settings, *, by: uuid.UUID | None, title: str
) -> ShadowRun:
    """Makes one off-peak job that runs a candidate on the newest studies with results of the serving checkpoint.

    Args:
        session: In a write transaction.
        candidate: A checkpoint that does not serve.
        studies: How many studies, the newest first.
        settings: Sizes of chunks.
        by: The user.
        title: Of the job.

    Raises:
        RegistryRefused: `no_serving`, `serving_already`, `shadow_running` or `nothing_to_compare`.
    """
    reference = serving(session)
    if reference is None:
        raise RegistryRefused("no_serving", "No model serves; promote one first.")
    if reference.id == candidate.id:
        raise RegistryRefused("serving_already", "This model serves; a shadow run is for one that does not.")
    running = session.scalar(
        select(ShadowRun.id)
        .join(Job, Job.id == ShadowRun.job_id)
        .where(ShadowRun.candidate_id == candidate.id, Job.state == JobState.CLASSIFYING)
        .limit(1)
    )
    if running is not None:
        raise RegistryRefused("shadow_running", "A shadow run of this model is under way; wait for it, or cancel it.")
    newest = session.scalars(
        select(Study.id)
        .where(studies_with_results_of(reference.id))
        .order_by(Study.created_at.desc(), Study.id)
        .limit(studies)
    ).all()
    compared = select(Prediction.instance_id).where(Prediction.checkpoint_id == reference.id, shown_predictions())
    instance_ids = _instances(session, (Instance.study_id.in_(newest), Instance.id.in_(compared)))
    if not instance_ids:
        raise RegistryRefused(
            "nothing_to_compare", "The serving model has no results yet, so there is nothing to compare with."
        )
    job = _job(session, candidate, by, title, Priority.OFF_PEAK, Purpose.SHADOW)
    run = ShadowRun(
        candidate_id=candidate.id,
        reference_id=reference.id,
        job_id=job.id,
        requested_by_id=by,
        studies=len(newest),
    )
    session.add(run)
    _cut(session, job, instance_ids, settings)
    return run


def _missing(which: ColumnElement[bool], checkpoint_id: uuid.UUID) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `Instance` and `Study`: no (shown) result of the checkpoint, and none is under way."""
    known = select(Prediction.id).where(
        Prediction.instance_id == Instance.id, Prediction.checkpoint_id == checkpoint_id, shown_predictions()
    )
    asked = (
        select(JobSlice.id)
        .join(Job, Job.id == JobSlice.job_id)
        .where(
            JobSlice.instance_id == Instance.id,
            JobSlice.state == SliceState.PENDING,
            Job.checkpoint_id == checkpoint_id,
            Job.purpose != Purpose.SHADOW,
        )
    )
    return which, ~known.exists(), ~asked.exists()


def _job(
    session: Session, checkpoint: Checkpoint, by: uuid.UUID | None, title: str, priority: Priority, purpose: Purpose
) -> Job:
    job = Job(
        created_by_id=by,
        title=title[:200],
        priority=priority,
        purpose=purpose,
        state=JobState.CLASSIFYING,
        checkpoint_id=checkpoint.id,
        opened_at=database_now(session),
    )
    session.add(job)
    session.flush()
    return job


def _instances(session: Session, conditions: Sequence[Any]) -> list[uuid.UUID]:
    """Ids of slices, study by study in anatomical order."""
    return list(
        session.scalars(
            select(Instance.id)
            .join(Study, Study.id == Instance.study_id)
            .join(Series, Series.id == Instance.series_id)
            .where(*conditions)
            .order_by(Study.created_at, Instance.study_id, Series.number, Instance.series_id, Instance.sort_key)
        )
    )


def _cut(session: Session, job: Job, instance_ids: Sequence[uuid.UUID], settings: Settings) -> None:
    """Makes the job's slices and work items. Slices whose result a shadow run made are found when they are claimed."""
    ids = {instance_id: uuid.uuid4() for instance_id in instance_ids}
    insert_missing(
        session,
        JobSlice,
        [
            {
                "id": slice_id,
                "job_id": job.id,
                "instance_id": instance_id,
                "state": SliceState.PENDING,
                "failure_code": "",
                "failure_detail": {},
            }
            for instance_id, slice_id in ids.items()
        ],
    )
    settle.cut(session, job, list(ids.values()), settings)
