"""Promotion and rollback by people, and which checkpoint served when.

Owns the rules of a promotion (with a reason, never of a withdrawn or altered checkpoint, never onto other classes
without saying so, one admin at a time) and the answer to "which checkpoint served at this moment". Refuses to read
files: whether the artefact's bytes are there is asked before, outside of the transaction (`db.artefacts`).

Rows of one moment are put in order here, not by clocks: each promotion is later than the one before it.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint, Promotion
from db.clock import database_now
from db.queries import withdrawals
from db.queries.checkpoints import serving
from db.queries.refusals import RegistryRefused, clean_reason
from db.registry import Withdrawal
from db.users import User


class Standing(StrEnum):
    """What a checkpoint is at this moment."""

    SERVING = "serving"
    SERVED = "served"  # served before
    WITHDRAWN = "withdrawn"
    CANDIDATE = "candidate"  # never served


@dataclass(frozen=True)
class Period:
    """A time during which one checkpoint served."""

    promotion: Promotion
    checkpoint: Checkpoint
    promoted_by: str
    """Username; empty for the system."""
    since: datetime
    until: datetime | None
    """None: it serves now."""


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint in the list."""

    checkpoint: Checkpoint
    standing: Standing
    periods: list[Period]
    """The newest first; empty when it never served."""
    withdrawal: Withdrawal | None


def periods(session: Session) -> list[Period]:
    """Every time of service, the newest first."""
    rows = session.execute(
        select(Promotion, Checkpoint, User.username)
        .join(Checkpoint, Checkpoint.id == Promotion.checkpoint_id)
        .outerjoin(User, User.id == Promotion.promoted_by_id)
        .order_by(Promotion.created_at.desc(), Promotion.id.desc())
    ).all()
    found: list[Period] = []
    until: datetime | None = None
    for promotion, checkpoint, username in rows:
        found.append(Period(promotion, checkpoint, username or "", promotion.created_at, until))
        until = promotion.created_at
    return found


def served_at(session: Session, moment: datetime) -> Period | None:
    """The checkpoint that new jobs used at a moment of the past; None before the first promotion."""
    return next((period for period in periods(session) if period.since <= moment), None)


def newest_promotion(session: Session) -> Promotion | None:
    """The promotion in force."""
    return session.scalars(
        select(Promotion).order_by(Promotion.created_at.desc(), Promotion.id.desc()).limit(1)
    ).one_or_none()


def standings(session: Session) -> list[CheckpointRow]:
    """Every registered checkpoint: the serving one first, then the newest."""
    everything = session.scalars(select(Checkpoint).order_by(Checkpoint.created_at.desc(), Checkpoint.id)).all()
    times: dict[uuid.UUID, list[Period]] = {}
    for period in periods(session):
        times.setdefault(period.checkpoint.id, []).append(period)
    marked = withdrawals.marks(session, [item.id for item in everything])
    rows = [_row(item, times.get(item.id, []), marked.get(item.id)) for item in everything]
    return sorted(rows, key=lambda row: row.standing != Standing.SERVING)


def standing_of(session: Session, checkpoint: Checkpoint) -> CheckpointRow:
    """One checkpoint with its standing."""
    times = [period for period in periods(session) if period.checkpoint.id == checkpoint.id]
    return _row(checkpoint, times, withdrawals.marks(session, [checkpoint.id]).get(checkpoint.id))


def before_serving(session: Session) -> Checkpoint | None:
    """What a rollback returns to: the last one that served before the present one and is not withdrawn."""
    times = periods(session)
    if not times:
        return None
    marked = withdrawals.marks(session, {period.checkpoint.id for period in times})
    present = times[0].checkpoint.id
    return next((p.checkpoint for p in times if p.checkpoint.id != present and p.checkpoint.id not in marked), None)


def other_classes(candidate: Checkpoint, present: Checkpoint | None) -> dict[str, list[str]]:
    """Classes that would come and go with a promotion; empty when they are the same."""
    if present is None or set(candidate.class_names) == set(present.class_names):
        return {}
    new, old = set(candidate.class_names), set(present.class_names)
    return {"added": sorted(new - old), "removed": sorted(old - new)}


def promote(
    session: Session,
    checkpoint_id: uuid.UUID,
    *,
    by: uuid.UUID | None,
    reason: str,
    seen: uuid.UUID | None,
    accept_classes: bool = False,
) -> Promotion:
    """From the commit on, new jobs use this checkpoint; running jobs keep theirs.

    Args:
        session: In a write transaction; the caller has verified the artefact's bytes.
        checkpoint_id: The candidate.
        by: The user.
        reason: For the history.
        seen: The promotion that was in force when the user looked; None: there was none.
        accept_classes: Whether other classes than those of the serving checkpoint are wanted; kept in the row.

    Raises:
        RegistryRefused: `reason_missing`, `unknown_checkpoint`, `changed_meanwhile`, `serving_already`,
            `withdrawn` or `other_classes`.
    """
    text = clean_reason(reason)
    _one_at_a_time(session)
    candidate = session.get(Checkpoint, checkpoint_id)
    if candidate is None:
        raise RegistryRefused("unknown_checkpoint", "There is no model of this number.", status=404)
    before = _unchanged_since(session, seen)
    present = session.get(Checkpoint, before.checkpoint_id) if before else None
    if present is not None and present.id == candidate.id:
        raise RegistryRefused("serving_already", "This model serves already; nothing was changed.")
    if candidate.id in withdrawals.marks(session, [candidate.id]):
        raise RegistryRefused(
            "withdrawn",
            "This model is withdrawn and cannot serve. Lift the withdrawal first, when its reason no longer holds.",
        )
    changed = other_classes(candidate, present)
    if changed and not accept_classes:
        raise RegistryRefused(
            "other_classes",
            "This model knows other classes than the serving one (new: %(added)s; gone: %(removed)s). Say explicitly "
            "that this is wanted, then promote it again.",
            {name: ", ".join(values) or "-" for name, values in changed.items()},
        )
    return _add(session, before, candidate, by, text, "promotion", {"other_classes": changed} if changed else {})


def roll_back(
    session: Session, *, to: uuid.UUID | None, by: uuid.UUID | None, reason: str, seen: uuid.UUID | None
) -> Promotion:
    """Promotes what served before and withdraws what serves now, in one transaction.

    Args:
        session: In a write transaction.
        to: What `before_serving` named when the user looked, and of which the caller has verified the bytes.
        by: The user.
        reason: For the history, and for everybody who meets a result of the withdrawn checkpoint.
        seen: The promotion that was in force when the user looked.

    Raises:
        RegistryRefused: `reason_missing`, `changed_meanwhile` or `nothing_before`.
    """
    text = clean_reason(reason)
    _one_at_a_time(session)
    before = _unchanged_since(session, seen)
    target = before_serving(session)
    if before is None or target is None:
        raise RegistryRefused(
            "nothing_before",
            "There is no earlier model to return to: none served before, or all that did are withdrawn. Promote "
            "another one.",
        )
    if target.id != to:
        raise _changed_meanwhile(session, before)
    present = session.get_one(Checkpoint, before.checkpoint_id)
    changed = other_classes(target, present)
    row = _add(session, before, target, by, text, "rollback", {"other_classes": changed} if changed else {})
    withdrawals.withdraw(session, present, by=by, reason=text)
    return row


def withdraw(session: Session, checkpoint_id: uuid.UUID, *, by: uuid.UUID | None, reason: str) -> Withdrawal:
    """Withdraws a checkpoint that does not serve.

    Raises:
        RegistryRefused: `reason_missing`, `unknown_checkpoint`, `withdrawn_already`, or `serves` when it does.
    """
    text = clean_reason(reason)
    _one_at_a_time(session)
    checkpoint = session.get(Checkpoint, checkpoint_id)
    if checkpoint is None:
        raise RegistryRefused("unknown_checkpoint", "There is no model of this number.", status=404)
    present = serving(session)
    if present is not None and present.id == checkpoint.id:
        raise RegistryRefused(
            "serves", "This model serves. Roll back, or promote another one; then it can be withdrawn."
        )
    return withdrawals.withdraw(session, checkpoint, by=by, reason=text)


def _one_at_a_time(session: Session) -> None:
    """Whoever decides about checkpoints waits here for the one before him to commit (SQLite has one writer anyway).

    Not the strongest lock: workers that write results of these checkpoints must not wait.
    """
    session.execute(select(Checkpoint.id).order_by(Checkpoint.id).with_for_update(key_share=True)).all()


def _unchanged_since(session: Session, seen: uuid.UUID | None) -> Promotion | None:
    """The promotion in force, when it is the one the user saw."""
    found = newest_promotion(session)
    if (found.id if found else None) != seen:
        raise _changed_meanwhile(session, found)
    return found


def _changed_meanwhile(session: Session, found: Promotion | None) -> RegistryRefused:
    who = session.get(User, found.promoted_by_id) if found and found.promoted_by_id else None
    return RegistryRefused(
        "changed_meanwhile",
        "Meanwhile %(who)s changed which model serves (%(when)s). Nothing was done; look again and decide anew.",
        {
            "who": who.username if who else "system",
            "when": f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC" if found else "-",
        },
    )


def _add(
    session: Session,
    before: Promotion | None,
    checkpoint: Checkpoint,
    by: uuid.UUID | None,
    reason: str,
    kind: str,
    choices: dict[str, object],
) -> Promotion:
    moment = database_now(session)
    if before is not None:
        moment = max(moment, before.created_at + timedelta(microseconds=1))
    row = Promotion(
        checkpoint_id=checkpoint.id, promoted_by_id=by, reason=reason, kind=kind, choices=choices, created_at=moment
    )
    session.add(row)
    session.flush()
    return row


def _row(checkpoint: Checkpoint, times: list[Period], withdrawal: Withdrawal | None) -> CheckpointRow:
    if any(period.until is None for period in times):
        standing = Standing.SERVING
    elif withdrawal is not None:
        standing = Standing.WITHDRAWN
    else:
        standing = Standing.SERVED if times else Standing.CANDIDATE
    return CheckpointRow(checkpoint, standing, times, withdrawal)
