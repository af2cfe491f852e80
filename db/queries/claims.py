"""Claiming work: leases, fences, and what happens when a worker is lost.

Owns the promises that a committed work item is done, once: a claim is one conditional UPDATE that counts the attempt
and draws a fresh random lease token; every later write of that worker carries the token (`hold`); a lease that runs
out is taken back (`reap`), and an item whose attempts are used up is handed to the caller as dead.

Refuses to know what the work is. Order among waiting items: interactive lane first, then urgency, then the job that
was served longest ago (round robin), then age; but an item of a job that was not served for `starvation_after_s` goes
first.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, and_, case, or_, select, update
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
    job_id: uuid.UUID | None
    task: str
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    deferrals: int
    slices: int
    worker_name: str
    lease_token: uuid.UUID

    @property
    def of_job(self) -> uuid.UUID:
        """The submission this item belongs to.

        Raises:
            ValueError: It belongs to none (training, registry).
        """
        if self.job_id is None:
            raise ValueError(f"work item {self.item_id} ({self.task}) belongs to no job; expected one of a submission")
        return self.job_id


def claim_next(
    session: Session, *, queues: Sequence[str], worker_name: str, lease_s: float, starvation_after_s: float
) -> Claim | None:
    """Claims the work item that should be done next; None when nothing waits.

    Args:
        session: In a write transaction.
        queues: Queues this worker serves, the most urgent first.
        worker_name: For people to read; the fence is the random token.
        lease_s: How long the claim holds without renewal, seconds.
        starvation_after_s: Time without being served after which an item of a job goes first, seconds.
    """
    now = database_now(session)
    patience_over = now - timedelta(seconds=starvation_after_s)
    # A large job that is served now and then is not starving, however old its last items are.
    starving = case(
        (
            and_(
                WorkItem.created_at < patience_over,
                or_(Job.last_claimed_at.is_(None), Job.last_claimed_at < patience_over),
            ),
            0,
        ),
        else_=1,
    )
    lane = case({queue: place for place, queue in enumerate(queues)}, value=WorkItem.queue, else_=len(queues))
    never_claimed = case((Job.last_claimed_at.is_(None), 0), else_=1)
    candidate = session.execute(
        select(WorkItem.id, WorkItem.job_id)
        .outerjoin(Job, Job.id == WorkItem.job_id)
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
            progress=0,
        )
        .returning(
            WorkItem.task,
            WorkItem.arguments,
            WorkItem.attempts,
            WorkItem.max_attempts,
            WorkItem.deferrals,
            WorkItem.slices,
        )
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if claimed is None:
        return None
    if candidate.job_id is not None:
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
        claimed.deferrals,
        claimed.slices,
        worker_name,
        token,
    )


def anything_waits(session: Session, queues: Sequence[str], *, longer_than_s: float = 0.0) -> bool:
    """Whether `claim_next` might find something; a read, so that idle workers do not queue for the write lock.

    Args:
        session: For reading.
        queues: Queues to look at.
        longer_than_s: Count only what could have been claimed for so long already, seconds.
    """
    since = database_now(session) - timedelta(seconds=longer_than_s)
    query = select(WorkItem.id).where(
        WorkItem.state == ItemState.PENDING,
        WorkItem.queue.in_(queues),
        or_(WorkItem.not_before.is_(None), WorkItem.not_before <= since),
    )
    if longer_than_s > 0:
        query = query.where(WorkItem.created_at <= since)
    return session.scalar(query.limit(1)) is not None


def standing(session: Session, claim: Claim) -> tuple[int, int]:
    """Attempts and deferrals of the item as they are now: progress may have set them back since it was claimed."""
    row = session.execute(
        select(WorkItem.attempts, WorkItem.deferrals).where(
            WorkItem.id == claim.item_id, WorkItem.lease_token == claim.lease_token
        )
    ).one_or_none()
    return (row.attempts, row.deferrals) if row else (claim.attempt, claim.deferrals)


def still_held(session: Session, claim: Claim) -> bool:
    """Whether the claim holds at this moment; a read, cheap enough to ask between small batches."""
    return (
        session.scalar(
            select(WorkItem.id).where(
                WorkItem.id == claim.item_id,
                WorkItem.lease_token == claim.lease_token,
                WorkItem.state == ItemState.RUNNING,
                WorkItem.lease_until > database_now(session),
            )
        )
        is not None
    )


def hold(session: Session, claim: Claim, *, lease_s: float, progress: int | None = None) -> None:
    """Proves that the claim still holds and renews it; call in the same transaction as each write it guards.

    Args:
        session: In a write transaction.
        claim: What we believe to hold.
        lease_s: How long the claim holds from now, seconds.
        progress: Files or slices finished so far, to be shown.

    Raises:
        LeaseLost: When the lease was taken away, or the job's cancellation asks this worker to stop.
    """
    now = database_now(session)
    values: dict[str, Any] = {"lease_until": now + timedelta(seconds=lease_s)}
    if progress is not None:
        values["progress"] = progress
    _fenced(session, claim, values, extra=(WorkItem.lease_until > now,))


def finish(session: Session, claim: Claim, *, note: str = "") -> None:
    """Marks the item done, in the transaction that wrote its results.

    Args:
        session: In a write transaction.
        claim: What we believe to hold.
        note: Kept in `error_code`: how it ended when not in the ordinary way, e.g. `split`.

    Raises:
        LeaseLost: When the fence is gone.
    """
    now = database_now(session)
    _fenced(
        session,
        claim,
        {
            "state": check(ItemState.RUNNING, ItemState.DONE),
            "error_code": note,
            "error_detail": {},
            "lease_token": None,
            "lease_until": None,
            "finished_at": now,
        },
        extra=(WorkItem.lease_until > now,),
    )


def release(
    session: Session,
    claim: Claim,
    *,
    delay_s: float,
    error_code: str,
    error_detail: dict[str, Any] | None = None,
    counts: bool = True,
) -> None:
    """Gives the item back to be tried again after `delay_s`.

    Args:
        session: In a write transaction.
        claim: What we believe to hold.
        delay_s: Nobody claims it before this time has passed, seconds.
        error_code: Why.
        error_detail: Short facts, without identity.
        counts: Whether the attempt stays counted. A fault of the surroundings (database, blob store, no model yet)
            is not the item's: it is counted as a deferral instead.

    Raises:
        LeaseLost: When the fence is gone.
    """
    now = database_now(session)
    count = {} if counts else {"attempts": WorkItem.attempts - 1, "deferrals": WorkItem.deferrals + 1}
    _fenced(
        session,
        claim,
        {
            **count,
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


@dataclass(frozen=True)
class Reaped:
    """Items whose lease had run out, by what becomes of them."""

    returned: list[WorkItem]
    """Pending again."""
    divided: list[WorkItem]
    """Done as a whole: the caller makes an item of each of their parts, in the same transaction."""
    dead: list[WorkItem]
    """Given up: the caller settles what they covered, in the same transaction."""


def reap(session: Session, *, divide_after: int, limit: int = 200) -> Reaped:
    """Takes back items whose lease ran out.

    Args:
        session: In a write transaction.
        divide_after: An item of several slices that was lost so often is divided, so that one slice that kills
            workers does not take its neighbours along.
        limit: Most items taken in one call.
    """
    now = database_now(session)
    expired = session.scalars(
        select(WorkItem)
        .where(WorkItem.state == ItemState.RUNNING, WorkItem.lease_until <= now)
        .order_by(WorkItem.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    ).all()
    reaped = Reaped([], [], [])
    for item in expired:
        item.lease_token = None
        item.lease_until = None
        item.error_code = "worker_lost"
        item.error_detail = {"worker": item.worker_name, "attempt": item.attempts}
        if item.slices > 1 and item.attempts >= divide_after:
            item.state = check(ItemState.RUNNING, ItemState.DONE)
            item.error_code = "divided"
            item.finished_at = now
            reaped.divided.append(item)
        elif item.attempts < item.max_attempts:
            item.state = check(ItemState.RUNNING, ItemState.PENDING)
            item.enqueued_at = None
            reaped.returned.append(item)
        else:
            item.state = check(ItemState.RUNNING, ItemState.DEAD)
            item.finished_at = now
            reaped.dead.append(item)
    session.flush()
    return reaped


def running_workers(session: Session) -> list[str]:
    """Names of the workers that hold a lease."""
    return list(session.scalars(select(WorkItem.worker_name).where(WorkItem.state == ItemState.RUNNING).distinct()))


def expire_leases_of(session: Session, worker_names: Sequence[str]) -> int:
    """Ends at once the leases of workers that are known to be dead, for `reap` to take; returns how many."""
    if not worker_names:
        return 0
    result = session.execute(
        update(WorkItem)
        .where(WorkItem.state == ItemState.RUNNING, WorkItem.worker_name.in_(worker_names))
        .values(lease_until=database_now(session))
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE's result, for the type checker
    return result.rowcount


def unsent(
    session: Session, *, resend_after_s: float, quiet_queues: Sequence[str] = (), limit: int = 200
) -> list[tuple[uuid.UUID, str, str]]:
    """Pending items whose message was never sent, or was sent long ago to a queue that holds none any more.

    Args:
        session: In a write transaction.
        resend_after_s: How old a message must be to be thought lost, seconds.
        quiet_queues: Queues in which the broker holds no message. Elsewhere an old message is merely waiting, and
            sending it again would only make the queue longer.
        limit: Most items of each kind. One message makes a worker do several items, so a few are enough to wake all.

    Returns:
        (item id, task name, queue) of each, the most urgent first, marked as sent now.
    """
    now = database_now(session)
    due = or_(WorkItem.not_before.is_(None), WorkItem.not_before <= now)
    never = WorkItem.enqueued_at.is_(None)
    stale = and_(WorkItem.enqueued_at < now - timedelta(seconds=resend_after_s), WorkItem.queue.in_(quiet_queues))
    found: list[tuple[uuid.UUID, str, str]] = []
    for condition in (never, stale) if quiet_queues else (never,):
        rows = session.execute(
            select(WorkItem.id, WorkItem.task, WorkItem.queue)
            .where(WorkItem.state == ItemState.PENDING, due, condition)
            .order_by(WorkItem.priority_rank, WorkItem.created_at, WorkItem.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found += [(row.id, row.task, row.queue) for row in rows]
    mark_sent(session, [item_id for item_id, _, _ in found], now)
    return found


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
