"""Clinicians' decisions about slices: written one after another, never over one another, and gathered for training.

Owns the rule that the newest row of a slice stands, the check that whoever decides has seen the decision before his,
and the choice of reviewed slices for a data set. Refuses to change or remove a row.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from db.base import utc_now
from db.reviews import NOT_ASSESSABLE, WITHDRAWN, SliceLabel
from db.studies import Instance, Series, Study, StudyIdentity
from db.users import User

NOTE_LIMIT = 500


@dataclass(frozen=True)
class Decision:
    """One row of a slice's history.

    Attributes:
        id: To be sent back with the next decision: "I have seen this one".
        label: A class name, `NOT_ASSESSABLE` or `WITHDRAWN`.
        by: Who, for people.
        note: What was said with it.
        at: When.
    """

    id: uuid.UUID
    label: str
    by: str
    note: str
    at: datetime

    @property
    def stands(self) -> bool:
        """Whether it is a decision, and not the withdrawal of one."""
        return self.label != WITHDRAWN


class DecidedMeanwhile(Exception):
    """Somebody decided about the slice since the asker looked at it.

    Attributes:
        newest: The decision he has not seen.
    """

    def __init__(self, newest: Decision) -> None:
        super().__init__("the slice was decided about meanwhile; look at that decision first")
        self.newest = newest


class NothingToUndo(Exception):
    """There is no decision to take back."""


@dataclass(frozen=True)
class Filter:
    """Which reviewed slices a data set holds.

    Attributes:
        since: Decided at or after this moment.
        until: Decided before this moment.
        classes: Labels that count; empty: all.
    """

    since: datetime | None = None
    until: datetime | None = None
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `TrainingDataset.origin` keeps it."""
        return {
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, origin: Mapping[str, Any]) -> Self:
        """From `TrainingDataset.origin`."""
        since, until = (
            datetime.fromisoformat(origin[name]) if origin.get(name) else None for name in ("since", "until")
        )
        return cls(since, until, tuple(origin.get("classes") or ()))


@dataclass(frozen=True)
class ReviewedSlice:
    """A slice with the label that stands."""

    instance_id: uuid.UUID
    content_sha256: str
    frame_index: int
    plane: str
    label: str
    patient_key: str
    """Equal for slices of one patient; holds identity, so it is for grouping in memory only."""


@dataclass(frozen=True)
class Gathered:
    """What a data set of reviewed slices would hold."""

    slices: int
    patients: int
    classes: Mapping[str, int]


def decide(
    session: Session,
    instance_id: uuid.UUID,
    label: str,
    *,
    by: uuid.UUID,
    seen: uuid.UUID | None,
    note: str = "",
) -> SliceLabel:
    """Writes a decision.

    Args:
        session: In a write transaction.
        instance_id: The slice.
        label: A class name, or `NOT_ASSESSABLE`; which names there are is the caller's matter.
        by: Who.
        seen: The newest row when he looked; None: there was none.
        note: Free text, shortened to `NOTE_LIMIT`.

    Raises:
        DecidedMeanwhile: There is a newer one by somebody else.
    """
    newest = _locked_newest(session, instance_id)
    if newest is not None and newest.id != seen and newest.decided_by_id != by:
        raise DecidedMeanwhile(_decision(newest, session.get(User, newest.decided_by_id)))
    return _add(session, instance_id, label, by, note.strip()[:NOTE_LIMIT], newest)


def undo(session: Session, instance_id: uuid.UUID, *, by: uuid.UUID, seen: uuid.UUID | None) -> SliceLabel:
    """Takes the standing decision back by a newer row: what stood before it stands again, or nothing does.

    Raises:
        DecidedMeanwhile: There is a newer one by somebody else.
        NothingToUndo: Nothing stands.
    """
    newest = _locked_newest(session, instance_id)
    if newest is None or newest.label == WITHDRAWN:
        raise NothingToUndo("there is no decision about this slice to take back")
    if newest.id != seen and newest.decided_by_id != by:
        raise DecidedMeanwhile(_decision(newest, session.get(User, newest.decided_by_id)))
    before = session.scalars(
        select(SliceLabel)
        .where(SliceLabel.instance_id == instance_id)
        .order_by(SliceLabel.created_at.desc(), SliceLabel.id.desc())
        .offset(1)
        .limit(1)
    ).one_or_none()
    return _add(session, instance_id, before.label if before else WITHDRAWN, by, "", newest)


def newest_of(session: Session, instance_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Decision]:
    """The standing decision of each of these slices that has one."""
    found: dict[uuid.UUID, Decision] = {}
    for start in range(0, len(instance_ids), 500):
        query = _standing().where(SliceLabel.instance_id.in_(instance_ids[start : start + 500]))
        for row in session.execute(query):
            if row.SliceLabel.label != WITHDRAWN:
                found[row.SliceLabel.instance_id] = _decision(row.SliceLabel, row.User)
    return found


def newest_of_study(session: Session, study_id: uuid.UUID) -> dict[uuid.UUID, Decision]:
    """The standing decision of each slice of a study that has one; one query, however many slices there are."""
    query = _standing().join(Instance, Instance.id == SliceLabel.instance_id).where(Instance.study_id == study_id)
    return {
        row.SliceLabel.instance_id: _decision(row.SliceLabel, row.User)
        for row in session.execute(query)
        if row.SliceLabel.label != WITHDRAWN
    }


def history(session: Session, instance_id: uuid.UUID) -> list[Decision]:
    """Every decision about a slice, the newest first."""
    rows = session.execute(
        select(SliceLabel, User)
        .outerjoin(User, User.id == SliceLabel.decided_by_id)
        .where(SliceLabel.instance_id == instance_id)
        .order_by(SliceLabel.created_at.desc(), SliceLabel.id.desc())
    )
    return [_decision(row.SliceLabel, row.User) for row in rows]


def reviewed_slices(session: Session, wanted: Filter) -> list[ReviewedSlice]:
    """Slices whose standing label is a class that the filter asks for, in a stable order."""
    query = (
        _standing()
        .add_columns(Instance, Series.plane.label("series_plane"), StudyIdentity.patient_id)
        .join(Instance, Instance.id == SliceLabel.instance_id)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .outerjoin(StudyIdentity, StudyIdentity.study_id == Study.id)
        .where(SliceLabel.label.not_in((NOT_ASSESSABLE, WITHDRAWN)))
        .order_by(SliceLabel.label, Instance.study_id, Instance.series_id, Instance.sort_key, Instance.id)
    )
    if wanted.since is not None:
        query = query.where(SliceLabel.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(SliceLabel.created_at < wanted.until)
    if wanted.classes:
        query = query.where(SliceLabel.label.in_(wanted.classes))
    return [
        ReviewedSlice(
            row.Instance.id,
            row.Instance.content_sha256,
            row.Instance.frame_index,
            row.Instance.plane or row.series_plane or "",
            row.SliceLabel.label,
            f"id:{row.patient_id}" if row.patient_id else f"study:{row.Instance.study_id}",
        )
        for row in session.execute(query)
    ]


def gathered(session: Session, wanted: Filter) -> Gathered:
    """What a data set of these slices would hold."""
    found = reviewed_slices(session, wanted)
    return Gathered(
        len(found), len({item.patient_key for item in found}), dict(sorted(Counter(i.label for i in found).items()))
    )


def _standing() -> Select[Any, *tuple[Any, ...]]:
    """The newest row of each slice, with who wrote it."""
    newer = aliased(SliceLabel)
    later = or_(
        newer.created_at > SliceLabel.created_at,
        and_(newer.created_at == SliceLabel.created_at, newer.id > SliceLabel.id),
    )
    return (
        select(SliceLabel, User)
        .outerjoin(User, User.id == SliceLabel.decided_by_id)
        .where(~exists(select(newer.id).where(newer.instance_id == SliceLabel.instance_id, later)))
    )


def _locked_newest(session: Session, instance_id: uuid.UUID) -> SliceLabel | None:
    """The newest row; the slice is held, so that of two people the second sees what the first wrote."""
    session.execute(select(Instance.id).where(Instance.id == instance_id).with_for_update())
    return session.scalars(
        select(SliceLabel)
        .where(SliceLabel.instance_id == instance_id)
        .order_by(SliceLabel.created_at.desc(), SliceLabel.id.desc())
        .limit(1)
    ).one_or_none()


def _add(
    session: Session, instance_id: uuid.UUID, label: str, by: uuid.UUID, note: str, newest: SliceLabel | None
) -> SliceLabel:
    now = utc_now()
    if newest is not None:  # clocks of two machines may differ; the order of the rows may not
        now = max(now, newest.created_at + timedelta(microseconds=1))
    row = SliceLabel(instance_id=instance_id, label=label, decided_by_id=by, note=note, created_at=now)
    session.add(row)
    session.flush()
    return row


def _decision(row: SliceLabel, user: User | None) -> Decision:
    return Decision(row.id, row.label, (user.display_name or user.username) if user else "", row.note, row.created_at)
