"""One worker's turn: claim the best waiting item, do it, judge how it ended; again while there is work.

Owns the edge at which every exception of a task is caught and judged: lost, transient, fatal, or a failed attempt.
Nothing of an item is left open here, unless the database itself is away: then the lease runs out and housekeeping
takes the item back.

A task may leave its last step, the commit, to be done while the next item is worked on. An item that was lost before is
done alone: should it end this process again, nothing of its neighbours is lost with it.

Refuses to follow a message: the best item is claimed, whichever message woke us.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config.queues import (
    QUEUE_INTAKE,
    QUEUE_INTERACTIVE,
    TASK_CLASSIFY,
    TASK_COMPARE,
    TASK_EXPORT_RUN,
    TASK_IMPORT,
    TASK_INTAKE,
    TASK_PLAN_SWEEP,
    TASK_REGISTER_DATASET,
    TASK_REPRODUCE,
    TASK_RETRIEVE,
    TASK_SEND,
    TASK_TRAIN,
)
from db.jobs import Job, WorkItem
from db.queries import claims, housekeeping
from db.queries.claims import Claim, LeaseLost
from db.states import ItemState, JobState
from worker.context import Context
from worker.faults import MAX_DEFERRALS, Fatal, delay_s, place_of, transient_code
from worker.lease import Lease, Stopping
from worker.writer import LastStep, Writer

log = structlog.get_logger(__name__)

Handler = Callable[[Context, Claim, Lease], LastStep | None]
"""Does a claimed item; may leave its last step to be done under the same lease."""

TURN_S: Final = 5.0
"""After one message a worker goes on claiming for this long at most; then the next message, or shutdown, has a turn.
So a lost message costs nothing while others arrive, and a message too many costs one query."""


MODULES: Final[Mapping[str, str]] = {
    TASK_INTAKE: "worker.intake",
    TASK_CLASSIFY: "worker.classify",
    TASK_REPRODUCE: "worker.reproduce",
    TASK_PLAN_SWEEP: "worker.plan_sweep",
    TASK_TRAIN: "worker.train",
    TASK_REGISTER_DATASET: "worker.register_dataset",
    TASK_EXPORT_RUN: "worker.export_run",
    TASK_COMPARE: "worker.compare",
    TASK_IMPORT: "worker.import_checkpoint",
    TASK_SEND: "worker.send_results",
    TASK_RETRIEVE: "worker.retrieve",
}
"""Where the function `run` of each task is. Imported in the child, when first needed: the parent process never loads
pixels or networks, and a worker that waits for training holds neither."""

PRELOADED: Final[Mapping[str, Sequence[str]]] = {
    QUEUE_INTAKE: (TASK_INTAKE,),
    QUEUE_INTERACTIVE: (TASK_CLASSIFY, TASK_REPRODUCE),
}
"""Tasks that should not wait for imports, by a queue of the worker that does them."""


def handler(task: str) -> Handler:
    """What is done for a task."""
    run: Handler = import_module(MODULES[task]).run
    return run


def preload(queues: Sequence[str]) -> None:
    """Loads the libraries that a worker of these queues needs, before anybody waits for them."""
    for queue in queues:
        for task in PRELOADED.get(queue, ()):
            handler(task)


def turn(context: Context, turn_s: float = TURN_S) -> int:
    """Does waiting items until there are none or the turn is over; returns how many were done."""
    with context.busy:
        return _turn(context, turn_s)


def help_out(context: Context, waited_s: float) -> int:
    """Takes a turn nobody asked for, when this process is idle although something has waited for so long.

    That is the case when the broker is away, or when the parent process has gone deaf to it: the work goes on without
    messages, only later.

    Returns:
        How many items were done.
    """
    try:
        with context.database.read() as session:
            if not claims.anything_waits(session, context.queues, longer_than_s=waited_s):
                return 0
    except SQLAlchemyError as error:
        log.warning("wait_not_checked", error=type(error).__name__)
        return 0
    if not context.busy.acquire(blocking=False):
        return 0
    try:
        log.warning("turn_without_message", waited_s=waited_s)
        return _turn(context, TURN_S)
    finally:
        context.busy.release()


def _turn(context: Context, turn_s: float) -> int:
    started = time.monotonic()
    done = 0
    with Writer() as writer:
        rest: LastStep | None = None
        try:
            while True:
                # Claimed before the last item is written: the claim would wait for that commit's lock.
                claim = _claim(context)
                if rest is not None:
                    writer.wait()
                    writer.hand(rest)
                    rest = None
                if claim is None:
                    return done
                if claim.attempt > 1:
                    writer.wait()
                rest = do(context, claim)
                done += 1
                if time.monotonic() - started >= turn_s or context.stopping():
                    return done
        finally:
            if rest is not None:
                writer.wait()
                writer.hand(rest)


def do(context: Context, claim: Claim) -> LastStep | None:
    """Does one claimed item and settles how it ended.

    Returns:
        What is left to do for both, under the item's lease; None when all is done. Raises nothing but what ends the
        process.
    """
    with _judged(context, claim), ExitStack() as held:
        lease = held.enter_context(_lease(context, claim))
        last_step = handler(claim.task)(context, claim, lease)
        if last_step is None:
            return None
        if claim.attempt > 1:
            last_step()
            return None
        return partial(_finish, context, claim, held.pop_all(), last_step)
    return None


def _finish(context: Context, claim: Claim, held: ExitStack, last_step: LastStep) -> None:
    with _judged(context, claim), held:
        last_step()


@contextmanager
def _judged(context: Context, claim: Claim) -> Iterator[None]:
    """The edge around an item's work, in whichever thread."""
    of_what = {"job_id": str(claim.job_id)} if claim.job_id else {}
    with structlog.contextvars.bound_contextvars(
        task=claim.task, work_item_id=str(claim.item_id), attempt=claim.attempt, **of_what
    ):
        try:
            yield
        except LeaseLost:
            _fenced(context, claim)
        except Stopping:
            log.warning("given_back", reason="shutdown")
            back = partial(
                housekeeping.put_back, claim=claim, delay_s=0.0, error_code="shutdown", error_detail={}, counts=False
            )
            _settle(context, claim, back)
        except Exception as error:  # the edge: judged, recorded, never lost
            _judge(context, claim, error)


def _lease(context: Context, claim: Claim) -> Lease:
    settings = context.settings
    return Lease(context.database, claim, settings.lease_s, stopping=context.stopping, grace_s=settings.soft_shutdown_s)


def _claim(context: Context) -> Claim | None:
    try:
        with context.database.read() as session:
            if not claims.anything_waits(session, context.queues):
                return None
        with context.database.write() as session:
            return claims.claim_next(
                session,
                queues=context.queues,
                worker_name=context.name,
                lease_s=context.settings.lease_s,
                starvation_after_s=context.settings.starvation_after_s,
            )
    except SQLAlchemyError as error:
        # Nothing is claimed; housekeeping rings again when the database is back.
        log.warning("claim_failed", error=type(error).__name__)
        return None


def _judge(context: Context, claim: Claim, error: Exception) -> None:
    code = transient_code(error)
    settings = context.settings
    attempts, deferrals = _standing(context, claim)
    facts = {"error": type(error).__name__, "place": place_of(error)}
    change: Callable[[Session], None]
    if code is not None and deferrals < MAX_DEFERRALS:
        pause_s = delay_s(deferrals, settings.retry_delay_s)
        log.warning("put_off", code=code, delay_s=pause_s, **facts)

        def change(session: Session) -> None:
            housekeeping.put_back(session, claim, delay_s=pause_s, error_code=code, error_detail=facts, counts=False)

    elif code is not None or isinstance(error, Fatal):
        reason = error.code if isinstance(error, Fatal) else code or "transient"
        log.error("given_up", code=reason, **facts)

        def change(session: Session) -> None:
            housekeeping.give_up(session, claim, reason, facts)

    elif claim.slices > 1 and attempts >= housekeeping.DIVIDE_AFTER:
        log.error("divided", **facts)

        def change(session: Session) -> None:
            housekeeping.divide_claimed(session, claim, settings)

    elif attempts < claim.max_attempts:
        pause_s = delay_s(attempts - 1, settings.retry_delay_s)
        log.error("attempt_failed", delay_s=pause_s, **facts)

        def change(session: Session) -> None:
            housekeeping.put_back(
                session, claim, delay_s=pause_s, error_code="attempt_failed", error_detail=facts, counts=True
            )

    else:
        log.error("given_up", code="poison", **facts)

        def change(session: Session) -> None:
            housekeeping.give_up(session, claim, "poison", facts)

    _settle(context, claim, change)


def _standing(context: Context, claim: Claim) -> tuple[int, int]:
    try:
        with context.database.read() as session:
            return claims.standing(session, claim)
    except SQLAlchemyError:
        return claim.attempt, claim.deferrals


def _settle(context: Context, claim: Claim, change: Callable[[Session], None]) -> None:
    """Writes a judgement, patiently: for as long as a lease lasts the database may be away."""
    deadline = time.monotonic() + context.settings.lease_s
    times = 0
    while True:
        try:
            with context.database.write() as session:
                change(session)
            return
        except LeaseLost:
            _fenced(context, claim)
            return
        except SQLAlchemyError as error:
            pause_s = min(delay_s(times, 0.1), 2.0)
            if time.monotonic() + pause_s >= deadline:
                log.warning("left_to_housekeeping", error=type(error).__name__)
                return
            time.sleep(pause_s)
            times += 1


def _fenced(context: Context, claim: Claim) -> None:
    """Says that we came too late. Cancellation is the user's wish and no incident: it is logged only."""
    try:
        with context.database.write() as session:
            item = session.get(WorkItem, claim.item_id)
            job = session.get(Job, claim.job_id) if claim.job_id else None
            cancelled = (item is not None and item.state == ItemState.CANCELLED) or (
                job is not None and job.state == JobState.CANCELLED
            )
            if not cancelled:
                housekeeping.note_fenced(session, claim, "lease_lost")
        log.warning("cancelled" if cancelled else "fenced")
    except SQLAlchemyError as error:
        log.warning("fenced", audit=type(error).__name__)
