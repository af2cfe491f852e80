"""Marking the rows in which studies stand as stale: what they are derived from has changed.

Owns the marks alone, so that whatever changes something may use it. Computing the rows is `db.queries.standings`.
Rows are taken in the order of their studies.
"""

import uuid

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from db.jobs import JobStudy
from db.predictions import Prediction
from db.queries.visibility import shown_predictions
from db.standings import StudyStanding
from db.studies import Instance
from db.upserts import insert_missing


def begin(session: Session, study_id: uuid.UUID) -> None:
    """Makes the row of a study that is new; of one that is not, marks it."""
    insert_missing(session, StudyStanding, [{"study_id": study_id}])
    mark(session, StudyStanding.study_id == study_id)


def mark(session: Session, which: ColumnElement[bool]) -> None:
    """Marks rows as stale.

    Args:
        session: In a write transaction.
        which: Condition on `StudyStanding`.
    """
    fresh = select(StudyStanding.study_id).where(which, StudyStanding.stale.is_(False))
    ids = session.scalars(fresh.order_by(StudyStanding.study_id).with_for_update()).all()
    for start in range(0, len(ids), 500):
        session.execute(
            update(StudyStanding)
            .where(StudyStanding.study_id.in_(ids[start : start + 500]))
            .values(stale=True)
            .execution_options(synchronize_session=False)
        )


def mark_with_job(session: Session, job_id: uuid.UUID) -> None:
    """Marks every study to which a job contributed."""
    mark(session, StudyStanding.study_id.in_(select(JobStudy.study_id).where(JobStudy.job_id == job_id)))


def mark_with_checkpoint(session: Session, checkpoint_id: uuid.UUID) -> None:
    """Marks every study with results of a checkpoint; for withdrawals, whatever their number."""
    with_results = (
        select(Instance.study_id)
        .join(Prediction, Prediction.instance_id == Instance.id)
        .where(Prediction.checkpoint_id == checkpoint_id, shown_predictions())
    )
    mark(session, StudyStanding.study_id.in_(with_results))
