"""The worklist: studies that wait for a clinician, the most urgent first, and who shall read them.

Owns its filters, its order, the next study to read, and assignment. It reads standing rows, so that it takes the same
time whatever the number of slices. For people who may see every study; whether they may is the caller's matter.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from db.checkpoints import Checkpoint
from db.queries import standings, withdrawals
from db.queries.views import PAGE_ROWS, Page
from db.registry import Withdrawal
from db.standings import ReviewState, StudyStanding
from db.states import Role
from db.studies import Study, StudyIdentity
from db.users import User

WAITING: Final = (ReviewState.OPEN, ReviewState.BEGUN, ReviewState.CHANGED)
"""States of studies that somebody has to read."""
ORDERS: Final = ("urgency", "oldest", "newest")
ANYBODY, NOBODY = "", "nobody"


@dataclass(frozen=True)
class Wanted:
    """What a worklist shows.

    Attributes:
        text: Part of the title or patient name, or a whole Study Instance UID, patient ID or accession number.
        state: A `ReviewState`, `waiting` for all that wait, or `all`.
        finding: A value of `Finding`; empty: any.
        class_name: The leading class; empty: any.
        checkpoint_id: Whose results are shown.
        assigned: A user's id, `NOBODY` or `ANYBODY`.
        reviewer: Who decided about the study last.
        since: Received at or after.
        until: Received before.
        order: One of `ORDERS`.
    """

    text: str = ""
    state: str = "waiting"
    finding: str = ""
    class_name: str = ""
    checkpoint_id: uuid.UUID | None = None
    assigned: uuid.UUID | str = ANYBODY
    reviewer: uuid.UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    order: str = "urgency"


@dataclass(frozen=True)
class WorklistRow:
    """One study of the list."""

    study: Study
    identity: StudyIdentity | None
    standing: StudyStanding
    assigned_to: str
    reviewed_by: str
    withdrawal: Withdrawal | None


@dataclass(frozen=True)
class Taken:
    """What became of an assignment: how many studies were assigned, and whose the others are."""

    studies: list[uuid.UUID]
    held_by: list[str]


def page(session: Session, wanted: Wanted, number: int = 1) -> Page[WorklistRow]:
    """One page of the worklist."""
    query = _narrowed(select(StudyStanding.study_id).join(Study, Study.id == StudyStanding.study_id), wanted)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    pages = max(1, -(-total // PAGE_ROWS))
    at = min(max(1, number), pages)
    ids = session.scalars(query.order_by(*_order(wanted.order)).limit(PAGE_ROWS).offset((at - 1) * PAGE_ROWS)).all()
    return Page(_rows(session, ids), at, pages, total)


def next_study(
    session: Session, user_id: uuid.UUID, after: uuid.UUID | None, *, backwards: bool = False, by_age: bool = False
) -> uuid.UUID | None:
    """The study to read after another one: the next in the worklist's order that is this user's or nobody's.

    Args:
        session: For reading.
        user_id: Who reads.
        after: The study that is open now; None, or one that is gone: the first of the list.
        backwards: The one before instead.
        by_age: In the order of `oldest` instead of by urgency.

    Returns:
        None when no other study waits. After the last comes the first again.
    """
    row = StudyStanding
    key = (row.received_at, row.study_id) if by_age else (row.urgency, row.received_at, row.study_id)
    ours = (row.review_state.in_(WAITING), or_(row.assigned_to_id.is_(None), row.assigned_to_id == user_id))
    order = [part.desc() if backwards else part.asc() for part in key]
    query = select(row.study_id).where(*ours).order_by(*order).limit(1)
    here = session.execute(select(*key).where(row.study_id == after)).one_or_none() if after else None
    if here is None:
        return session.scalar(query)
    place, values = tuple_(*key), tuple_(*here)
    beyond = session.scalar(query.where(place < values if backwards else place > values))
    return beyond or session.scalar(query.where(row.study_id != after))


def counts(session: Session, user_id: uuid.UUID) -> dict[str, int]:
    """How many studies wait: `waiting` in all, `mine` of them assigned to this user, `nobody` to nobody."""
    rows = session.execute(
        select(StudyStanding.assigned_to_id, func.count())
        .where(StudyStanding.review_state.in_(WAITING))
        .group_by(StudyStanding.assigned_to_id)
    ).all()
    found: dict[uuid.UUID | None, int] = {row[0]: row[1] for row in rows}
    return {"waiting": sum(found.values()), "mine": found.get(user_id, 0), "nobody": found.get(None, 0)}


def assign(
    session: Session, study_ids: Sequence[uuid.UUID], to: uuid.UUID | None, *, only_free_for: uuid.UUID | None = None
) -> Taken:
    """Says who shall read studies.

    Args:
        session: In a write transaction.
        study_ids: The studies; unknown ones are left out.
        to: Who; None: nobody.
        only_free_for: When set, studies that are assigned to somebody else than this user stay as they are.
    """
    rows = session.execute(
        select(StudyStanding, User)
        .outerjoin(User, User.id == StudyStanding.assigned_to_id)
        .where(StudyStanding.study_id.in_(study_ids))
        .order_by(StudyStanding.study_id)
        .with_for_update(of=StudyStanding)
        .execution_options(populate_existing=True)
    ).all()
    done, others = [], []
    for row in rows:
        if only_free_for is not None and row.StudyStanding.assigned_to_id not in (None, only_free_for):
            others.append(_name(row.User))
        elif row.StudyStanding.assigned_to_id != to:
            row.StudyStanding.assigned_to_id = to
            done.append(row.StudyStanding.study_id)
    session.flush()
    return Taken(done, sorted(set(others)))


def readers(session: Session) -> list[User]:
    """Everybody to whom a study may be assigned, by name."""
    users = session.scalars(select(User).where(User.disabled_at.is_(None)).order_by(User.username)).all()
    return [user for user in users if Role(user.role).includes(Role.CLINICIAN)]


def models(session: Session) -> list[Checkpoint]:
    """Every checkpoint whose results some study shows, by name."""
    # One probe of the index a checkpoint: there are few of them and many studies.
    used = select(StudyStanding.study_id).where(StudyStanding.checkpoint_id == Checkpoint.id).exists()
    return list(session.scalars(select(Checkpoint).where(used).order_by(Checkpoint.name, Checkpoint.digest)))


def _narrowed(query: Select[Any], wanted: Wanted) -> Select[Any]:
    row = StudyStanding
    if wanted.state == "waiting":
        query = query.where(row.review_state.in_(WAITING))
    elif wanted.state in set(ReviewState):
        query = query.where(row.review_state == wanted.state)
    conditions: list[ColumnElement[bool] | None] = [
        row.finding == wanted.finding if wanted.finding else None,
        row.leading_class == wanted.class_name if wanted.class_name else None,
        row.checkpoint_id == wanted.checkpoint_id if wanted.checkpoint_id else None,
        row.reviewed_by_id == wanted.reviewer if wanted.reviewer else None,
        row.received_at >= wanted.since if wanted.since else None,
        row.received_at < wanted.until if wanted.until else None,
    ]
    if wanted.assigned == NOBODY:
        conditions.append(row.assigned_to_id.is_(None))
    elif isinstance(wanted.assigned, uuid.UUID):
        conditions.append(row.assigned_to_id == wanted.assigned)
    if wanted.text:
        text = wanted.text
        query = query.outerjoin(StudyIdentity, StudyIdentity.study_id == Study.id)
        conditions.append(
            or_(
                func.lower(Study.title).contains(text.lower(), autoescape=True),
                func.lower(StudyIdentity.patient_name).contains(text.lower(), autoescape=True),
                Study.study_instance_uid == text,
                StudyIdentity.patient_id == text,
                StudyIdentity.accession_number == text,
            )
        )
    return query.where(*(item for item in conditions if item is not None))


def _order(order: str) -> tuple[Any, ...]:
    row = StudyStanding
    if order == "newest":
        return row.received_at.desc(), row.study_id
    return (row.received_at, row.study_id) if order == "oldest" else (row.urgency, row.received_at, row.study_id)


def _rows(session: Session, ids: Sequence[uuid.UUID]) -> list[WorklistRow]:
    standing = standings.of(session, ids)
    assigned, reviewer = aliased(User), aliased(User)
    marked = withdrawals.marks(session, {row.checkpoint_id for row in standing.values()})
    found = {
        row.Study.id: row
        for row in session.execute(
            select(Study, StudyIdentity, assigned, reviewer)
            .join(StudyStanding, StudyStanding.study_id == Study.id)
            .outerjoin(StudyIdentity, StudyIdentity.study_id == Study.id)
            .outerjoin(assigned, assigned.id == StudyStanding.assigned_to_id)
            .outerjoin(reviewer, reviewer.id == StudyStanding.reviewed_by_id)
            .where(Study.id.in_(ids))
        )
    }
    rows = []
    for study_id in ids:
        study, identity, whose, by = found[study_id]
        row = standing[study_id]
        withdrawal = marked.get(row.checkpoint_id) if row.checkpoint_id else None
        rows.append(WorklistRow(study, identity, row, _name(whose), _name(by), withdrawal))
    return rows


def _name(user: User | None) -> str:
    return (user.display_name or user.username) if user else ""
