"""Which slices of a study one look at its page shows: a page of the filmstrip, or a single slice.

Owns the order of a study's slices and finding the page that holds a slice, without reading the slices themselves: a
study may hold ten thousand. Refuses to load pictures or to know what is shown of a slice.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import ColumnElement, and_, func, or_, select, true, tuple_
from sqlalchemy.orm import Session

from db.jobs import Job, JobSlice
from db.predictions import Prediction
from db.queries.summaries import NO_TUMOUR_CLASSES
from db.queries.visibility import shown_predictions
from db.states import SliceState
from db.studies import Instance, Series

PAGE_SLICES: Final = 200
"""Most slices of one page."""

Show = Literal["all", "tumour", "abstained", "failed"]

ORDER: Final = (
    Series.number,
    Series.description,
    Series.id,
    Instance.sort_key,
    Instance.path,
    Instance.frame_index,
)
"""Series by series, each in anatomical order."""


@dataclass(frozen=True)
class Window:
    """Which slices are wanted.

    Attributes:
        holding: A slice that must be among them, unless `number` is given.
        number: Page, from 1; None: the one of `holding`, else the one of the most suspicious slice.
        show: All slices, those with a tumour class, those for which the model does not answer, or those that failed.
        alone: Nothing but `holding`; without one, no slice at all.
    """

    holding: uuid.UUID | None = None
    number: int | None = None
    show: Show = "all"
    alone: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nobody asked for a certain page or slice."""
        return self.holding is None and self.number is None and not self.alone


@dataclass(frozen=True)
class Strip:
    """One page of slices.

    Attributes:
        ids: In order.
        number: Page, from 1.
        pages: How many there are.
        total: Slices on all of them.
    """

    ids: Sequence[uuid.UUID]
    number: int
    pages: int
    total: int

    @property
    def before(self) -> int:
        """Slices on the pages before this one."""
        return (self.number - 1) * PAGE_SLICES


def strip(
    session: Session,
    study_id: uuid.UUID,
    checkpoint_id: uuid.UUID | None,
    visible: ColumnElement[bool],
    window: Window,
    series: Sequence[tuple[uuid.UUID, int]],
) -> Strip:
    """Finds the page; one beyond the end is the last one.

    Args:
        session: For reading.
        study_id: The study.
        checkpoint_id: Whose results count.
        visible: Condition on `Instance`.
        window: Which slices.
        series: Every series of the study in the order of `ORDER`, with how many visible slices it has.
    """
    query = select(Instance.id).join(Series, Series.id == Instance.series_id)
    if window.alone:
        of_study = (Instance.study_id == study_id, visible, Instance.id == window.holding)
        found = session.scalars(query.where(*of_study)).all() if window.holding else []
        return Strip(found, 1, 1, len(found))
    if window.show != "all":
        query = query.outerjoin(Prediction, _result(checkpoint_id))
        query = query.where(Instance.study_id == study_id, visible, _shown(window.show, checkpoint_id))
        total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
        pages, number = _bounded(total, window.number)
        ids = session.scalars(query.order_by(*ORDER).limit(PAGE_SLICES).offset((number - 1) * PAGE_SLICES)).all()
        return Strip(ids, number, pages, total)
    total = sum(slices for _, slices in series)
    wanted = window.number
    if wanted is None and window.holding and total > PAGE_SLICES:
        wanted = _page_of(session, window.holding, visible, series)
    pages, number = _bounded(total, wanted)
    # Only the series that reach into the page are read and sorted.
    before, start = 0, (number - 1) * PAGE_SLICES
    reaching: list[uuid.UUID] = []
    skipped = 0
    for series_id, slices in series:
        if before + slices <= start:
            skipped += slices
        elif before < start + PAGE_SLICES:
            reaching.append(series_id)
        before += slices
    ids = session.scalars(
        query.where(Instance.series_id.in_(reaching), visible)
        .order_by(*ORDER)
        .limit(PAGE_SLICES)
        .offset(start - skipped)
    ).all()
    return Strip(ids, number, pages, total)


def leading(
    session: Session, study_id: uuid.UUID, checkpoint_id: uuid.UUID, class_name: str, visible: ColumnElement[bool]
) -> uuid.UUID | None:
    """The slice with the highest probability of a class, among those on which it is the likeliest."""
    return session.scalar(
        select(Instance.id)
        .join(Series, Series.id == Instance.series_id)
        .join(Prediction, _result(checkpoint_id))
        .where(Instance.study_id == study_id, visible, Prediction.class_name == class_name, Prediction.abstention == "")
        .order_by(Prediction.probability.desc(), *ORDER)
        .limit(1)
    )


def without_answer(
    session: Session, study_id: uuid.UUID, checkpoint_id: uuid.UUID, visible: ColumnElement[bool]
) -> uuid.UUID | None:
    """The first slice for which the model does not answer."""
    return session.scalar(
        select(Instance.id)
        .join(Series, Series.id == Instance.series_id)
        .join(Prediction, _result(checkpoint_id))
        .where(Instance.study_id == study_id, visible, Prediction.abstention != "")
        .order_by(*ORDER)
        .limit(1)
    )


def _bounded(total: int, wanted: int | None) -> tuple[int, int]:
    """(pages, the wanted page as far as there is one)."""
    pages = max(1, -(-total // PAGE_SLICES))
    return pages, min(max(1, wanted or 1), pages)


def _page_of(
    session: Session, slice_id: uuid.UUID, visible: ColumnElement[bool], series: Sequence[tuple[uuid.UUID, int]]
) -> int | None:
    """The page on which a slice is; None when it is none of these series."""
    found = session.execute(
        select(Instance.series_id, Instance.sort_key, Instance.path, Instance.frame_index).where(
            Instance.id == slice_id
        )
    ).one_or_none()
    place = 0
    for series_id, slices in series:
        if found is not None and series_id == found.series_id:
            earlier = tuple_(Instance.sort_key, Instance.path, Instance.frame_index) < tuple_(
                found.sort_key, found.path, found.frame_index
            )
            place += session.scalar(select(func.count()).where(Instance.series_id == series_id, visible, earlier)) or 0
            return place // PAGE_SLICES + 1
        place += slices
    return None


def _result(checkpoint_id: uuid.UUID | None) -> ColumnElement[bool]:
    return and_(Prediction.instance_id == Instance.id, Prediction.checkpoint_id == checkpoint_id, shown_predictions())


def _shown(show: Show, checkpoint_id: uuid.UUID | None) -> ColumnElement[bool]:
    if show == "tumour":
        return and_(Prediction.class_name.not_in(NO_TUMOUR_CLASSES), Prediction.abstention == "")
    if show == "abstained":
        return Prediction.abstention != ""
    if show == "failed":
        failed = (
            select(JobSlice.id)
            .join(Job, Job.id == JobSlice.job_id)
            .where(
                JobSlice.instance_id == Instance.id,
                JobSlice.state == SliceState.FAILED,
                or_(Job.checkpoint_id == checkpoint_id, Job.checkpoint_id.is_(None)),
            )
        )
        return and_(Prediction.id.is_(None), failed.exists())
    return true()
