"""Which slices of a study are classified: the series that rules or people choose, and the planes a model knows.

Owns applying the settings' rules to a study's series, and marking a job's slices as left out, with the reason. A series
that somebody chose, or left, by hand is never decided by rule again. A slice whose file says nothing of its plane is
classified; a scout picture is not.

Refuses to hide anything: what is left out is a slice of the job like any other, with a state and a reason, and can be
asked for (`further`). Nothing that has its result is classified twice.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from config import series_rules
from config.series_rules import SCOUT, Candidate
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.clock import database_now
from db.jobs import Job, JobSlice, JobStudy
from db.predictions import Prediction
from db.queries import settle, standings
from db.queries.visibility import shown_predictions
from db.states import Purpose, SliceState, check
from db.studies import Instance, Series

PLANE_NOT_TRAINED, SCOUT_PICTURE, SERIES_NOT_CHOSEN = "plane_not_trained", "scout", "series_not_chosen"
"""Why a slice was left out; the sentences stand in `web.sentences`."""

BY_USER: Final = "user"
PLANES: Final = ("axial", "coronal", "sagittal", "oblique")


def untrained_planes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Values of `Instance.plane` on which a checkpoint was not trained; scouts always.

    An artefact that names no plane (a foreign model) has not been trained on scouts, and that is all that is known.
    """
    trained = checkpoint.manifest.get("planes") or PLANES
    return (*(plane for plane in PLANES if plane not in trained), SCOUT)


def apply_rules(session: Session, job_id: uuid.UUID, settings: Settings) -> None:
    """Chooses among all series of the studies of a job, but for those that somebody decided about.

    Args:
        session: In a write transaction.
        job_id: The job.
        settings: The rules.
    """
    rules = series_rules.parse(settings.series_rules)
    counted = (
        select(Instance.series_id, func.count().label("slices"))
        .join(JobStudy, JobStudy.study_id == Instance.study_id)
        .where(JobStudy.job_id == job_id)
        .group_by(Instance.series_id)
        .subquery()
    )
    studies: dict[uuid.UUID, list[tuple[Series, int]]] = {}
    # Always in the same order: two jobs that conclude at once wait for each other's rows, never in a circle.
    for row in session.execute(
        select(Series, counted.c.slices)
        .join(counted, counted.c.series_id == Series.id)
        .order_by(Series.study_id, Series.number, Series.id)
        .with_for_update(of=Series)
    ):
        studies.setdefault(row.Series.study_id, []).append((row.Series, row.slices))
    for found in studies.values():
        candidates = [
            Candidate(str(series.id), series.facts.get("sequence") or "", series.plane or "", slices)
            for series, slices in found
        ]
        chosen, rule = series_rules.choose(rules, candidates)
        for series, _ in found:
            if series.chosen_by != BY_USER:
                series.chosen, series.chosen_by = str(series.id) in chosen, rule[:200]
    session.flush()


def leave_out(session: Session, job_id: uuid.UUID, checkpoint: Checkpoint) -> None:
    """Marks those waiting slices of a job that are not to be classified, each with its reason.

    Args:
        session: In the write transaction in which the job is cut; slices with a result are marked as done before.
        job_id: The job.
        checkpoint: The checkpoint that it pinned.
    """
    _leave(session, job_id, ~Series.chosen, SERIES_NOT_CHOSEN, {})
    for plane in untrained_planes(checkpoint):
        code = SCOUT_PICTURE if plane == SCOUT else PLANE_NOT_TRAINED
        detail = {} if plane == SCOUT else {"plane": plane}
        _leave(session, job_id, Instance.plane == plane, code, detail)


def choose(
    session: Session, study_id: uuid.UUID, chosen: Collection[uuid.UUID], among: Collection[uuid.UUID]
) -> list[Series]:
    """Writes somebody's choice of series; what waits of a series that is left is left out.

    Args:
        session: In a write transaction.
        study_id: The study.
        chosen: The series to be classified.
        among: Those that were offered; others are not touched.

    Returns:
        The series whose choice changed. What is missing of those now chosen is the caller's to ask for.
    """
    changed = []
    for series in session.scalars(
        select(Series).where(Series.study_id == study_id, Series.id.in_(among)).order_by(Series.id).with_for_update()
    ):
        if series.chosen != (series.id in chosen):
            series.chosen, series.chosen_by = series.id in chosen, BY_USER
            changed.append(series)
    session.flush()
    left = [series.id for series in changed if not series.chosen]
    if left:
        of_these = Instance.series_id.in_(left)
        waiting = and_(JobSlice.job_id == Job.id, JobSlice.state == SliceState.PENDING)
        jobs = session.scalars(
            select(Job.id)
            .join(JobSlice, waiting)
            .join(Instance, Instance.id == JobSlice.instance_id)
            .where(of_these, Job.checkpoint_id.is_not(None), Job.purpose != Purpose.SHADOW)
            .distinct()
            .order_by(Job.id)
        ).all()
        for job_id in jobs:
            _leave(session, job_id, of_these, SERIES_NOT_CHOSEN, {})
            settle.settle(session, job_id)
        standings.changed(session, [study_id])
    return changed


@dataclass(frozen=True)
class SeriesRow:
    """One series of a study as far as the viewer may see it.

    Attributes:
        slices: Its slices.
        analysed: Those of them with a result of the checkpoint.
        untrained: Slices in planes that the checkpoint does not know, by plane.
        untrained_left: Those of them that have no result.
    """

    series: Series
    slices: int
    analysed: int
    untrained: dict[str, int]
    untrained_left: int


def series_rows(
    session: Session, study_id: uuid.UUID, checkpoint: Checkpoint | None, visible: ColumnElement[bool]
) -> list[SeriesRow]:
    """The series of a study in the order of its page, with their counts; `checkpoint`: whose results count."""
    unknown = untrained_planes(checkpoint) if checkpoint else ()
    counts: dict[uuid.UUID, list[tuple[str | None, int, int]]] = {}
    for row in session.execute(
        select(
            Instance.series_id, Instance.plane, func.count().label("slices"), func.count(Prediction.id).label("done")
        )
        .outerjoin(
            Prediction,
            and_(
                Prediction.instance_id == Instance.id,
                Prediction.checkpoint_id == (checkpoint.id if checkpoint else None),
                shown_predictions(),
            ),
        )
        .where(Instance.study_id == study_id, visible)
        .group_by(Instance.series_id, Instance.plane)
    ):
        counts.setdefault(row.series_id, []).append((row.plane, row.slices, row.done))
    return [
        SeriesRow(
            series,
            sum(slices for _, slices, _ in counts[series.id]),
            sum(done for _, _, done in counts[series.id]),
            {plane: slices for plane, slices, _ in counts[series.id] if plane in unknown},
            sum(slices - done for plane, slices, done in counts[series.id] if plane in unknown),
        )
        for series in session.scalars(
            select(Series).where(Series.id.in_(counts)).order_by(Series.number, Series.description, Series.id)
        )
    ]


def left_out_of_chosen(checkpoint: Checkpoint) -> ColumnElement[bool]:
    """Condition on `Instance` and `Series`: in a chosen series, and left out or of a plane the checkpoint knows not."""
    left = select(JobSlice.id).where(JobSlice.instance_id == Instance.id, JobSlice.state == SliceState.LEFT_OUT)
    return and_(Series.chosen, or_(Instance.plane.in_(untrained_planes(checkpoint)), left.exists()))


def in_known_plane(checkpoint: Checkpoint) -> ColumnElement[bool]:
    """Condition on `Instance`: its plane is one that the checkpoint was trained on, or the file says nothing of it."""
    return or_(Instance.plane.is_(None), Instance.plane.not_in(untrained_planes(checkpoint)))


def wanted(checkpoint: Checkpoint) -> ColumnElement[bool]:
    """Condition on `Instance` (joined to `Series`): it is to be classified by a checkpoint, by choice and plane.

    Slices for which somebody asked by hand are wanted whatever their plane.
    """
    by_hand = (
        select(JobSlice.id)
        .join(Job, Job.id == JobSlice.job_id)
        .where(JobSlice.instance_id == Instance.id, Job.purpose == Purpose.SELECTION)
    )
    return and_(Series.chosen, or_(in_known_plane(checkpoint), by_hand.exists()))


def _leave(session: Session, job_id: uuid.UUID, which: ColumnElement[bool], code: str, detail: dict[str, str]) -> None:
    """Marks waiting slices of a job as left out; `which`: condition on `Instance` and `Series`."""
    of_these = (
        select(Instance.id)
        .join(Series, Series.id == Instance.series_id)
        .where(Instance.id == JobSlice.instance_id, which)
        .exists()
    )
    session.execute(
        update(JobSlice)
        .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.PENDING, of_these)
        .values(
            state=check(SliceState.PENDING, SliceState.LEFT_OUT),
            failure_code=code,
            failure_detail=detail,
            finished_at=database_now(session),
        )
        .execution_options(synchronize_session=False)
    )
