"""What clinicians decide about a study as a whole: an opinion before the network's answer, the sign-off, taken back.

Owns writing these rows one after another, and the check that whoever signs has seen what he signs: the version of the
study's standing row, raised by everything that changes. Refuses to change or remove a row.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.base import utc_now
from db.queries import standings
from db.queries.reviews import NOTE_LIMIT
from db.reviews import WITHDRAWN, DecisionKind, StudyDecision
from db.standings import ReviewState, StudyStanding
from db.users import User


class ChangedSince(Exception):
    """The study is not what the asker looked at: another decision, other results.

    Attributes:
        newest: The newest decision about it, if there is one.
    """

    def __init__(self, newest: "StudyOpinion | None") -> None:
        super().__init__("the study changed since it was looked at; look at it again")
        self.newest = newest


class NotDone(Exception):
    """Slices of the study are still being analysed: what would be signed is not there yet."""


class GivenBefore(Exception):
    """The user has committed an opinion about the study already."""


class NotSigned(Exception):
    """Nobody has signed the study off."""


@dataclass(frozen=True)
class StudyOpinion:
    """One row of a study's history, for people."""

    id: uuid.UUID
    kind: DecisionKind
    label: str
    note: str
    by: str
    at: datetime
    results: dict[str, Any]


def give_opinion(session: Session, study_id: uuid.UUID, label: str, *, by: uuid.UUID, note: str = "") -> StudyDecision:
    """Writes what somebody thinks of a study before he is shown what the network says.

    Raises:
        GivenBefore: He did already; an opinion is not changed once the answer was seen.
    """
    _held(session, study_id)
    if study_id in opinions_of(session, by, [study_id]):
        raise GivenBefore("an opinion about this study was committed before")
    row = _add(session, study_id, DecisionKind.OPINION, label, by, note)
    standings.decided(session, study_id)
    return row


def sign_off(
    session: Session, study_id: uuid.UUID, label: str, *, by: uuid.UUID, version: int, note: str = ""
) -> StudyDecision:
    """Writes the decision about a study.

    Args:
        session: In a write transaction.
        study_id: The study.
        label: A class name or `NOT_ASSESSABLE`; which names there are is the caller's matter.
        by: Who.
        version: Of the standing row that he looked at.
        note: Free text, shortened to `reviews.NOTE_LIMIT`.

    Raises:
        ChangedSince: The row has another version.
        NotDone: Slices wait for their result.
    """
    row = _held(session, study_id)
    if row.version != version:
        raise ChangedSince(newest(session, study_id))
    if row.waiting:
        raise NotDone(f"{row.waiting} slices of the study wait for their result")
    decision = _add(session, study_id, DecisionKind.SIGN_OFF, label, by, note)
    standings.decided(session, study_id)
    return decision


def reopen(session: Session, study_id: uuid.UUID, *, by: uuid.UUID, version: int, note: str = "") -> StudyDecision:
    """Takes the sign-off of a study back; the row stays in its history.

    Raises:
        ChangedSince: The standing row has another version.
        NotSigned: There is no sign-off to take back.
    """
    row = _held(session, study_id)
    if row.version != version:
        raise ChangedSince(newest(session, study_id))
    if row.review_state not in (ReviewState.SIGNED, ReviewState.CHANGED):
        raise NotSigned("nobody has signed this study off")
    decision = _add(session, study_id, DecisionKind.REOPENED, WITHDRAWN, by, note)
    standings.decided(session, study_id)
    return decision


def history(session: Session, study_id: uuid.UUID) -> list[StudyOpinion]:
    """Every decision about a study, the newest first."""
    rows = session.execute(
        select(StudyDecision, User)
        .outerjoin(User, User.id == StudyDecision.decided_by_id)
        .where(StudyDecision.study_id == study_id)
        .order_by(StudyDecision.created_at.desc(), StudyDecision.id.desc())
    )
    return [
        StudyOpinion(
            row.StudyDecision.id,
            DecisionKind(row.StudyDecision.kind),
            row.StudyDecision.label,
            row.StudyDecision.note,
            (row.User.display_name or row.User.username) if row.User else "",
            row.StudyDecision.created_at,
            row.StudyDecision.results,
        )
        for row in rows
    ]


def newest(session: Session, study_id: uuid.UUID) -> StudyOpinion | None:
    """The newest decision about a study."""
    return next(iter(history(session, study_id)), None)


def opinions_of(session: Session, user_id: uuid.UUID, study_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the studies about which this user committed an opinion or signed."""
    return set(
        session.scalars(
            select(StudyDecision.study_id).where(
                StudyDecision.study_id.in_(study_ids),
                StudyDecision.decided_by_id == user_id,
                StudyDecision.kind.in_((DecisionKind.OPINION, DecisionKind.SIGN_OFF)),
            )
        )
    )


def _held(session: Session, study_id: uuid.UUID) -> StudyStanding:
    """The standing row as it is now, held until the end of the transaction."""
    standings.refresh(session, [study_id])
    row = standings.held(session, study_id)
    if row is None:
        raise LookupError(f"study {study_id} has no standing row; `python -m ops standings` makes it")
    return row


def _add(
    session: Session, study_id: uuid.UUID, kind: DecisionKind, label: str, by: uuid.UUID, note: str
) -> StudyDecision:
    now, before = utc_now(), newest(session, study_id)
    if before is not None:  # clocks of two machines may differ; the order of the rows may not
        now = max(now, before.at + timedelta(microseconds=1))
    checkpoint_id, results = standings.results(session, study_id)
    row = StudyDecision(
        study_id=study_id,
        kind=kind,
        label=label,
        note=note.strip()[:NOTE_LIMIT],
        decided_by_id=by,
        checkpoint_id=checkpoint_id,
        results=results,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row
