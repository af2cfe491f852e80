"""Which slices of a study one look at its page shows: a page of the filmstrip, or a single slice.

Owns the order of a study's slices and finding the page that holds a slice, without reading the slices themselves: a
study may hold ten thousand. Refuses to load pictures or to know what is shown of a slice.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
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
) -> Strip:
    """Finds the page; one beyond the end is the last one."""
    query = (
        select(Instance.id)
        .join(Series, Series.id == Instance.series_id)
        .outerjoin(Prediction, _result(checkpoint_id))
        .where(Instance.study_id == study_id, visible, _shown(window.show, checkpoint_id))
    )
    if window.alone:
        found = session.scalars(query.where(Instance.id == window.holding)).all() if window.holding else []
        return Strip(found, 1, 1, len(found))
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    pages = max(1, -(-total // PAGE_SLICES))
    number = window.number
    if number is None and window.holding and pages > 1:
        number = _page_of(session, query, window.holding)
    number = min(max(1, number or 1), pages)
    ids = session.scalars(query.order_by(*ORDER).limit(PAGE_SLICES).offset((number - 1) * PAGE_SLICES)).all()
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


def _page_of(session: Session, query: Select[Any], slice_id: uuid.UUID) -> int | None:
    """The page on which a slice of the query is; None when it is not among them."""
    placed = query.add_columns(func.row_number().over(order_by=ORDER).label("place")).subquery()
    place = session.scalar(select(placed.c.place).where(placed.c.id == slice_id))
    return None if place is None else (place - 1) // PAGE_SLICES + 1


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
