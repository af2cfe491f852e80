"""Claiming work: leases, fences, and what happens when a worker is lost.

Owns the promises that a committed work item is done, once: a claim is one conditional UPDATE that counts the attempt
and draws a fresh random lease token; every later write of that worker carries the token (`hold`); a lease that runs
out is taken back (`reap`), and an item whose attempts are used up is handed to the caller as lost.

Refuses to know what the work is. Order among waiting items: interactive lane first, then urgency, then the job that
was served longest ago (round robin), then age; but an item that waited longer than `starvation_after_s` goes first.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, case, or_, select, update
from sqlalchemy.orm import Session

from db.clock import database_now
from db.jobs import Job, WorkItem
from db.states import ItemState, check


class LeaseLost(Exception):
    """Somebody else holds this work item now, or it was cancelled: stop, and write nothing more."""


@dataclass(frozen=True)
class Claim:
    """A work item in our hands until the lease runs out."""

    item_id: uuid.UUID
    job_id: uuid.UUID
    task: str
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    lease_token: uuid.UUID


def claim_next(
    session: Session, *, queues: Sequence[str], worker_name: str, lease_s: float, starvation_after_s: float
) -> Claim | None:
    """Claims the work item that should be done next; None when nothing waits.

    Args:
        session: In a write transaction.
        queues: Queues this worker serves, the most urgent first.
        worker_name: For people to read; the fence is the random token.
        lease_s: How long the claim holds without renewal, seconds.
        starvation_after_s: Waiting time after which an item goes first, seconds.
    """
    now = database_now(session)
    starving = case((WorkItem.created_at < now - timedelta(seconds=starvation_after_s), 0), else_=1)
    lane = case({queue: place for place, queue in enumerate(queues)}, value=WorkItem.queue, else_=len(queues))
    never_claimed = case((Job.last_claimed_at.is_(None), 0), else_=1)
    candidate = session.execute(
        select(WorkItem.id, WorkItem.job_id)
        .join(Job, Job.id == WorkItem.job_id)
        .where(
            WorkItem.state == ItemState.PENDING,
            WorkItem.queue.in_(queues),
            or_(WorkItem.not_before.is_(None), WorkItem.not_before <= now),
        )
        .order_by(
            starving,
            lane,
            WorkItem.priority_rank,
            never_claimed,
            Job.last_claimed_at,
            WorkItem.created_at,
            WorkItem.sequence,
            WorkItem.id,
        )
        .limit(1)
        .with_for_update(skip_locked=True, of=WorkItem)
    ).one_or_none()
    if candidate is None:
        return None
    token = uuid.uuid4()
    claimed = session.execute(
        update(WorkItem)
        .where(WorkItem.id == candidate.id, WorkItem.state == ItemState.PENDING)
        .values(
            state=check(ItemState.PENDING, ItemState.RUNNING),
            attempts=WorkItem.attempts + 1,
            lease_token=token,
            lease_until=now + timedelta(seconds=lease_s),
            worker_name=worker_name,
            started_at=now,
            finished_at=None,
        )
        .returning(WorkItem.task, WorkItem.arguments, WorkItem.attempts, WorkItem.max_attempts)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if claimed is None:
        return None
    session.execute(
        update(Job)
        .where(Job.id == candidate.job_id)
        .values(last_claimed_at=now)
        .execution_options(synchronize_session=False)
    )
    return Claim(
        candidate.id,
        candidate.job_id,
        claimed.task,
        claimed.arguments,
        claimed.attempts,
        claimed.max_attempts,
        token,
    )


def hold(session: Session, claim: Claim, *, lease_s: float) -> None:
    """Proves that the claim still holds and renews it; call in the same transaction as each write it guards.

    Raises:
        LeaseLost: When the lease was taken away, or the job's cancellation asks this worker to stop.
    """
    now = database_now(session)
    _fenced(
        session,
        claim,
        {"lease_until": now + timedelta(seconds=lease_s)},
        extra=(WorkItem.lease_until > now,),
    )


def finish(session: Session, claim: Claim) -> None:
    """Marks the item done, in the transaction that wrote its results. Raises LeaseLost when the fence is gone."""
    now = database_now(session)
    _fenced(
        session,
        claim,
        {
            "state": check(ItemState.RUNNING, ItemState.DONE),
            "lease_token": None,
            "lease_until": None,
            "finished_at": now,
        },
        extra=(WorkItem.lease_until > now,),
    )


def release(
    session: Session, claim: Claim, *, delay_s: float, error_code: str, error_detail: dict[str, Any] | None = None
) -> None:
    """Gives the item back to be tried again after `delay_s`. Raises LeaseLost when the fence is gone."""
    now = database_now(session)
    _fenced(
        session,
        claim,
        {
            "state": check(ItemState.RUNNING, ItemState.PENDING),
            "lease_token": None,
            "lease_until": None,
            "not_before": now + timedelta(seconds=delay_s),
            "enqueued_at": None,
            "error_code": error_code,
            "error_detail": error_detail or {},
        },
    )


def bury(session: Session, claim: Claim, *, error_code: str, error_detail: dict[str, Any] | None = None) -> None:
    """Marks the item dead: it is not tried again by itself. Raises LeaseLost when the fence is gone."""
    _fenced(
        session,
        claim,
        {
            "state": check(ItemState.RUNNING, ItemState.DEAD),
            "lease_token": None,
            "lease_until": None,
            "finished_at": database_now(session),
            "error_code": error_code,
            "error_detail": error_detail or {},
        },
    )


def reap(session: Session) -> list[WorkItem]:
    """Takes back items whose lease ran out.

    Items with attempts left become pending again, their message unsent. Items without are marked dead with
    `worker_lost`.

    Returns:
        The dead ones, for the caller to settle what they covered.
    """
    now = database_now(session)
    expired = session.scalars(
        select(WorkItem)
        .where(WorkItem.state == ItemState.RUNNING, WorkItem.lease_until <= now)
        .with_for_update(skip_locked=True)
    ).all()
    dead = []
    for item in expired:
        item.lease_token = None
        item.lease_until = None
        item.error_code = "worker_lost"
        item.error_detail = {"worker": item.worker_name, "attempt": item.attempts}
        if item.attempts < item.max_attempts:
            item.state = check(ItemState.RUNNING, ItemState.PENDING)
            item.enqueued_at = None
        else:
            item.state = check(ItemState.RUNNING, ItemState.DEAD)
            item.finished_at = now
            dead.append(item)
    session.flush()
    return dead


def unsent(session: Session, *, resend_after_s: float, limit: int = 500) -> list[tuple[uuid.UUID, str, str]]:
    """Pending items whose message was never sent, or so long ago that it may be lost.

    Returns:
        (item id, task name, queue) of each, the most urgent first, marked as sent now.
    """
    now = database_now(session)
    rows = session.execute(
        select(WorkItem.id, WorkItem.task, WorkItem.queue)
        .where(
            WorkItem.state == ItemState.PENDING,
            or_(WorkItem.not_before.is_(None), WorkItem.not_before <= now),
            or_(WorkItem.enqueued_at.is_(None), WorkItem.enqueued_at < now - timedelta(seconds=resend_after_s)),
        )
        .order_by(WorkItem.priority_rank, WorkItem.created_at, WorkItem.sequence)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    mark_sent(session, [row.id for row in rows], now)
    return [(row.id, row.task, row.queue) for row in rows]


def mark_sent(session: Session, item_ids: Sequence[uuid.UUID], moment: datetime | None) -> None:
    """Records when the messages of these items were sent (None: they were not, after all)."""
    if item_ids:
        session.execute(
            update(WorkItem)
            .where(WorkItem.id.in_(item_ids))
            .values(enqueued_at=moment)
            .execution_options(synchronize_session=False)
        )


def _fenced(session: Session, claim: Claim, values: dict[str, Any], extra: tuple[Any, ...] = ()) -> None:
    result = session.execute(
        update(WorkItem)
        .where(
            WorkItem.id == claim.item_id,
            WorkItem.lease_token == claim.lease_token,
            WorkItem.state == ItemState.RUNNING,
            *extra,
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE's result, for the type checker
    if result.rowcount != 1:
        raise LeaseLost(f"work item {claim.item_id}: the lease of attempt {claim.attempt} is gone")
