"""Withdrawals: results of a checkpoint that are not to be relied on, and what has become of them.

Owns marking a checkpoint as withdrawn and lifting that, the marks that pages, CSV and API show, and the list of
everything a withdrawn checkpoint said. Refuses to change or remove a result: a recall marks, it never rewrites.
"""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint
from db.clock import database_now
from db.jobs import Job
from db.predictions import Prediction
from db.queries import stale
from db.queries.refusals import RegistryRefused, clean_reason
from db.queries.visibility import shown_predictions
from db.registry import Withdrawal
from db.studies import Instance, Series, Study, StudyIdentity
from db.users import User

STUDIES_A_PAGE = 50
CSV_COLUMNS = (
    "study_id",
    "study_instance_uid",
    "accession_number",
    "slice_id",
    "sop_instance_uid",
    "path",
    "frame",
    "series_description",
    "prediction_id",
    "prediction",
    "probability",
    "predicted_at",
    "job_id",
    "job_title",
    "sent_by",
    "repeated_by_serving",
)


def withdraw(session: Session, checkpoint: Checkpoint, *, by: uuid.UUID | None, reason: str) -> Withdrawal:
    """Marks every result of a checkpoint, past and to come.

    Args:
        session: In a write transaction; the caller has seen that the checkpoint does not serve.
        checkpoint: Whose results.
        by: The user.
        reason: For everybody who meets one of its results.

    Raises:
        RegistryRefused: `reason_missing`, or `withdrawn_already`.
    """
    text = clean_reason(reason)
    if checkpoint.id in marks(session, [checkpoint.id]):
        raise RegistryRefused("withdrawn_already", "This model is withdrawn already; nothing was changed.")
    row = Withdrawal(checkpoint_id=checkpoint.id, withdrawn_by_id=by, reason=text)
    session.add(row)
    session.flush()
    stale.mark_with_checkpoint(session, checkpoint.id)
    return row


def lift(session: Session, checkpoint: Checkpoint, *, by: uuid.UUID | None) -> list[Withdrawal]:
    """Removes the mark from a checkpoint's results; the history keeps that there was one.

    Raises:
        RegistryRefused: `not_withdrawn`.
    """
    rows = list(
        session.scalars(
            select(Withdrawal)
            .where(Withdrawal.checkpoint_id == checkpoint.id, Withdrawal.lifted_at.is_(None))
            .with_for_update()
        )
    )
    if not rows:
        raise RegistryRefused("not_withdrawn", "This model is not withdrawn; nothing was changed.")
    now = database_now(session)
    for row in rows:
        row.lifted_at, row.lifted_by_id = now, by
    session.flush()
    stale.mark_with_checkpoint(session, checkpoint.id)
    return rows


def marks(session: Session, checkpoint_ids: Collection[uuid.UUID | None]) -> dict[uuid.UUID, Withdrawal]:
    """Those of the checkpoints that are withdrawn at this moment, each with its newest withdrawal."""
    wanted = [number for number in checkpoint_ids if number is not None]
    if not wanted:
        return {}
    rows = session.scalars(
        select(Withdrawal)
        .where(Withdrawal.checkpoint_id.in_(wanted), Withdrawal.lifted_at.is_(None))
        .order_by(Withdrawal.created_at)
    )
    return {row.checkpoint_id: row for row in rows}


def history(session: Session, checkpoint_id: uuid.UUID) -> list[tuple[Withdrawal, str, str]]:
    """(withdrawal, who withdrew, who lifted it) of a checkpoint, the newest first."""
    rows = session.scalars(
        select(Withdrawal).where(Withdrawal.checkpoint_id == checkpoint_id).order_by(Withdrawal.created_at.desc())
    ).all()
    people = {number for row in rows for number in (row.withdrawn_by_id, row.lifted_by_id) if number}
    names = {user.id: user.username for user in session.scalars(select(User).where(User.id.in_(people)))}
    return [(row, _name(names, row.withdrawn_by_id), _name(names, row.lifted_by_id)) for row in rows]


@dataclass(frozen=True)
class AffectedStudy:
    """One study that holds results of a checkpoint.

    Attributes:
        slices: How many of its slices have such a result.
        repeated: How many of these have one of the serving checkpoint too.
        first_at: When the first of them was made.
        last_at: When the last was.
        jobs: (job, who sent it) by which they were made.
    """

    study: Study
    slices: int
    repeated: int
    first_at: datetime
    last_at: datetime
    jobs: list[tuple[Job, str]]


@dataclass(frozen=True)
class Affected:
    """What a checkpoint said, by study; one page of it."""

    studies: list[AffectedStudy]
    total_studies: int
    total_slices: int
    repeated_slices: int
    """Of all studies: slices that have a result of the serving checkpoint too."""
    number: int
    pages: int


def affected(session: Session, checkpoint_id: uuid.UUID, serving_id: uuid.UUID | None, number: int = 1) -> Affected:
    """Every study with results of a checkpoint, the newest result first.

    Args:
        session: For reading.
        checkpoint_id: Whose results; those of shadow runs are left out, they were never shown.
        serving_id: The checkpoint that serves now.
        number: Page, from 1.
    """
    ours = (Prediction.checkpoint_id == checkpoint_id, shown_predictions())
    studies, slices = session.execute(
        select(func.count(func.distinct(Instance.study_id)), func.count())
        .select_from(Prediction)
        .join(Instance, Instance.id == Prediction.instance_id)
        .where(*ours)
    ).one()
    pages = max(1, -(-studies // STUDIES_A_PAGE))
    page = min(max(1, number), pages)
    last = func.max(Prediction.created_at)
    found = session.execute(
        select(Instance.study_id, func.count(), func.min(Prediction.created_at), last)
        .join(Instance, Instance.id == Prediction.instance_id)
        .where(*ours)
        .group_by(Instance.study_id)
        .order_by(last.desc(), Instance.study_id)
        .limit(STUDIES_A_PAGE)
        .offset((page - 1) * STUDIES_A_PAGE)
    ).all()
    ids = [row[0] for row in found]
    named = {study.id: study for study in session.scalars(select(Study).where(Study.id.in_(ids)))}
    again = select(Prediction.instance_id).where(Prediction.checkpoint_id == serving_id, shown_predictions())
    repeats = {
        row[0]: row[1]
        for row in session.execute(
            select(Instance.study_id, func.count())
            .select_from(Prediction)
            .join(Instance, Instance.id == Prediction.instance_id)
            .where(*ours, Instance.study_id.in_(ids), Prediction.instance_id.in_(again))
            .group_by(Instance.study_id)
        )
    }
    jobs: dict[uuid.UUID, list[tuple[Job, str]]] = {}
    pairs = (
        select(Instance.study_id, Prediction.job_id)
        .join(Instance, Instance.id == Prediction.instance_id)
        .where(*ours, Instance.study_id.in_(ids))
        .distinct()
        .subquery()
    )
    for study_id, job, username in session.execute(
        select(pairs.c.study_id, Job, User.username)
        .join(Job, Job.id == pairs.c.job_id)
        .outerjoin(User, User.id == Job.created_by_id)
        .order_by(Job.created_at)
    ):
        jobs.setdefault(study_id, []).append((job, username or ""))
    repeated = session.scalar(
        select(func.count()).select_from(Prediction).where(*ours, Prediction.instance_id.in_(again))
    )
    return Affected(
        [
            AffectedStudy(named[number], count, repeats.get(number, 0), first, latest, jobs.get(number, []))
            for number, count, first, latest in found
        ],
        studies,
        slices,
        repeated or 0,
        page,
        pages,
    )


def affected_rows(session: Session, checkpoint_id: uuid.UUID, serving_id: uuid.UUID | None) -> Iterator[dict[str, Any]]:
    """Every single result of a checkpoint that was ever shown; keys of `CSV_COLUMNS`. For clinicians and admins."""
    again = set(
        session.scalars(
            select(Prediction.instance_id).where(Prediction.checkpoint_id == serving_id, shown_predictions())
        )
    )
    rows = session.execute(
        select(
            Study.id.label("study_id"),
            Study.study_instance_uid,
            StudyIdentity.accession_number,
            Instance.id.label("slice_id"),
            Instance.sop_instance_uid,
            Instance.path,
            Instance.frame_index.label("frame"),
            Series.description.label("series_description"),
            Prediction.id.label("prediction_id"),
            Prediction.class_name.label("prediction"),
            Prediction.probability,
            Prediction.created_at.label("predicted_at"),
            Prediction.job_id,
            Job.title.label("job_title"),
            User.username.label("sent_by"),
        )
        .join(Instance, Instance.id == Prediction.instance_id)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .outerjoin(StudyIdentity, StudyIdentity.study_id == Study.id)
        .outerjoin(Job, Job.id == Prediction.job_id)
        .outerjoin(User, User.id == Job.created_by_id)
        .where(Prediction.checkpoint_id == checkpoint_id, shown_predictions())
        .order_by(Study.id, Instance.series_id, Instance.sort_key, Instance.id)
    )
    for row in rows.mappings():
        yield {
            **row,
            "probability": f"{row['probability']:.6f}",
            "predicted_at": row["predicted_at"].isoformat(),
            "repeated_by_serving": "yes" if row["slice_id"] in again else "no",
        }


def _name(names: dict[uuid.UUID, str], user_id: uuid.UUID | None) -> str:
    return names.get(user_id, "") if user_id else ""
