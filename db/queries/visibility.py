"""Who may see which rows.

Owns the one rule of visibility, as conditions to put into any query: clinicians and admins see everything; a
submitter sees the jobs he sent, the studies these contributed to, and of each study only the slices whose bytes he
sent himself (so that nobody reads another's results by sending a file that names the other's study).

Results of a shadow run are shown to nobody but on the page of that run, which is for admins; its job is theirs too.

Refuses to know HTTP: `web.objects` turns "not visible" into an answer and an audit row.
"""

import uuid
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from db.jobs import Job, JobSlice, JobStudy, ReceivedFile
from db.predictions import Prediction
from db.registry import ShadowRun
from db.states import Purpose, Role
from db.studies import Instance, Study


@dataclass(frozen=True)
class Viewer:
    """Who asks."""

    user_id: uuid.UUID
    role: Role

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from this viewer."""
        return self.role.includes(Role.CLINICIAN)


def visible_jobs(viewer: Viewer) -> ColumnElement[bool]:
    """Condition on `Job`: the viewer may see it."""
    if viewer.role.includes(Role.ADMIN):
        return true()
    if viewer.sees_all:
        return Job.purpose != Purpose.SHADOW
    return and_(Job.created_by_id == viewer.user_id, Job.purpose.in_((Purpose.SUBMISSION, Purpose.SELECTION)))


def shown_predictions() -> ColumnElement[bool]:
    """Condition on `Prediction`: it was not made by a shadow run, or was asked for by another job since.

    When a job asks for a result that a shadow run has made before, it takes it over (`db.queries.shown.adopt`), so
    that the job of a prediction says it all.
    """
    # Each shadow job has its row there, and there are few: jobs are many and would have to be searched.
    return or_(Prediction.job_id.is_(None), Prediction.job_id.not_in(select(ShadowRun.job_id)))


def visible_studies(viewer: Viewer) -> ColumnElement[bool]:
    """Condition on `Study`: the viewer may see it (of its slices, those of `visible_instances`)."""
    if viewer.sees_all:
        return true()
    mine = aliased(Job)
    return exists(
        select(JobStudy.study_id)
        .join(mine, mine.id == JobStudy.job_id)
        .where(
            JobStudy.study_id == Study.id,
            mine.created_by_id == viewer.user_id,
            mine.purpose == Purpose.SUBMISSION,
        )
    )


def visible_instances(viewer: Viewer) -> ColumnElement[bool]:
    """Condition on `Instance`: the viewer may see it and its predictions."""
    if viewer.sees_all:
        return true()
    mine = aliased(Job)
    asked = select(JobSlice.id).join(mine, mine.id == JobSlice.job_id)
    sent = select(ReceivedFile.id).join(mine, mine.id == ReceivedFile.job_id)
    return or_(
        exists(
            asked.where(
                JobSlice.instance_id == Instance.id,
                mine.created_by_id == viewer.user_id,
                mine.purpose == Purpose.SUBMISSION,
            )
        ),
        exists(
            sent.where(
                ReceivedFile.sha256 == Instance.content_sha256,
                ReceivedFile.study_id == Instance.study_id,
                mine.created_by_id == viewer.user_id,
            )
        ),
    )


def may_see_identity(session: Session, viewer: Viewer, study_id: uuid.UUID) -> bool:
    """Whether the viewer may see who a study is of.

    A submitter may when his was the first job that contributed to the study: the identity on record is then what he
    sent himself.
    """
    if viewer.sees_all:
        return True
    first = session.scalar(
        select(Job.created_by_id)
        .join(JobStudy, JobStudy.job_id == Job.id)
        .where(JobStudy.study_id == study_id)
        .order_by(Job.created_at, Job.id)
        .limit(1)
    )
    return first == viewer.user_id


def identity_visible_studies(session: Session, viewer: Viewer, study_ids: list[uuid.UUID]) -> set[uuid.UUID]:
    """Those of `study_ids` whose identity the viewer may see; for lists, in one query."""
    if viewer.sees_all or not study_ids:
        return set(study_ids)
    place = func.row_number().over(partition_by=JobStudy.study_id, order_by=(Job.created_at, Job.id)).label("place")
    ranked = (
        select(JobStudy.study_id, Job.created_by_id, place)
        .join(Job, Job.id == JobStudy.job_id)
        .where(JobStudy.study_id.in_(study_ids))
        .subquery()
    )
    return set(
        session.scalars(select(ranked.c.study_id).where(ranked.c.place == 1, ranked.c.created_by_id == viewer.user_id))
    )
