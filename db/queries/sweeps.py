"""Sweeps as people steer them: begun, paused, taken up again, cancelled; a single run tried again.

Owns every change of `Sweep.state` but the two that a worker's plan makes (`db.queries.training`), and the work items
that follow from it. What a worker is doing at that moment stops within seconds: its work item is taken away in the same
transaction, so that nothing of it can be written after the commit; the state on its disk stays, and a run goes on from
its last epoch.

Locks are taken in one order everywhere: work items, then the sweep, then its runs.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from config.queues import QUEUE_REGISTRY, QUEUE_TRAINING, TASK_PLAN_SWEEP, TASK_TRAIN
from config.settings import Settings
from db.clock import database_now
from db.datasets import TrainingDataset
from db.jobs import WorkItem
from db.states import ITEM_OPEN, RUN_ENDED, TRANSITIONS, DatasetState, ItemState, RunState, SweepState, check
from db.sweeps import Sweep, TrainingRun

NAME_LIMIT = 128
TEXT_LIMIT = 256 * 1024
"""Largest scenario file, characters."""


class SweepRefused(ValueError):
    """A sweep that cannot be begun.

    Attributes:
        code: `no_name`, `no_scenarios`, `too_long`, `no_dataset` or `dataset_not_ready`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Created:
    """A committed wish.

    Attributes:
        sweep_id: The sweep, in state `planning`.
        item_ids: Work items to ring for after the commit (`Doorbell.ring_committed`).
    """

    sweep_id: uuid.UUID
    item_ids: list[uuid.UUID]


def create(
    session: Session,
    settings: Settings,
    *,
    name: str,
    dataset_id: uuid.UUID,
    scenario_text: str,
    scenario_file: str = "",
    by: uuid.UUID | None = None,
) -> Created:
    """Begins a sweep; a worker of the role `registry` reads its scenarios and makes its runs, or refuses it.

    Args:
        session: In a write transaction.
        settings: Attempts of the planning.
        name: For people; need not be unique.
        dataset_id: A registered data set that is ready.
        scenario_text: YAML, as written or as `config.scenario_texts.read` gives it.
        scenario_file: Name in `config/scenarios` when the text was taken from there; also where `extends` looks.
        by: Who asked.

    Raises:
        SweepRefused: See its codes.
    """
    name = " ".join(name.split())[:NAME_LIMIT]
    if not name:
        raise SweepRefused("no_name", "received no name; expected one to three words")
    if not scenario_text.strip():
        raise SweepRefused("no_scenarios", "received no scenarios; expected a scenario file in YAML")
    if len(scenario_text) > TEXT_LIMIT:
        raise SweepRefused("too_long", f"received {len(scenario_text)} characters; expected at most {TEXT_LIMIT}")
    dataset = session.get(TrainingDataset, dataset_id)
    if dataset is None:
        raise SweepRefused("no_dataset", f"there is no data set {dataset_id}; expected the id of a registered one")
    if dataset.state != DatasetState.READY:
        raise SweepRefused(
            "dataset_not_ready", f"the data set {dataset.name!r} is {dataset.state}; expected one that is ready"
        )
    sweep = Sweep(
        name=name,
        created_by_id=by,
        dataset_id=dataset_id,
        scenario_file=scenario_file,
        scenario_text=scenario_text,
        state=SweepState.PLANNING,
    )
    session.add(sweep)
    session.flush()
    return Created(sweep.id, [_plan_item(session, sweep, settings).id])


def pause(session: Session, sweep_id: uuid.UUID) -> bool:
    """Stops all runs that have not ended, to be taken up again; returns whether there was something to pause."""
    return _stop(session, sweep_id, SweepState.PAUSED, RunState.PAUSED)


def cancel(session: Session, sweep_id: uuid.UUID) -> bool:
    """Ends a sweep that has not ended; what its finished runs gave is kept. Returns whether there was something."""
    return _stop(session, sweep_id, SweepState.CANCELLED, RunState.CANCELLED)


def resume(session: Session, sweep_id: uuid.UUID, settings: Settings) -> list[uuid.UUID]:
    """Takes up a paused or cancelled sweep: its stopped runs go on from their last epochs.

    Returns:
        Work items to ring for after the commit; empty when there is nothing to take up.
    """
    sweep = locked(session, sweep_id)
    if sweep is None or sweep.state not in (SweepState.PAUSED, SweepState.CANCELLED):
        return []
    runs = _runs(session, sweep_id, (RunState.PAUSED, RunState.CANCELLED))
    if not runs and sweep.started_at is None:
        sweep.state = check(SweepState(sweep.state), SweepState.PLANNING)
        items = [_plan_item(session, sweep, settings)]
    elif runs:
        sweep.state = check(SweepState(sweep.state), SweepState.RUNNING)
        items = queue_again(session, sweep, runs, settings)
    else:
        return []
    sweep.finished_at = None
    session.flush()
    return [item.id for item in items]


def retry_run(session: Session, run_id: uuid.UUID, settings: Settings) -> list[uuid.UUID]:
    """Tries one failed or cancelled run again, from its last epoch; a sweep that had ended runs again.

    Returns:
        Work items to ring for after the commit; empty when the run is neither failed nor cancelled, or when its sweep
        is paused (resume it first).
    """
    sweep_id = session.scalar(select(TrainingRun.sweep_id).where(TrainingRun.id == run_id))
    sweep = locked(session, sweep_id) if sweep_id else None
    if sweep is None or sweep.state not in (SweepState.RUNNING, SweepState.FINISHED, SweepState.CANCELLED):
        return []
    run = session.get_one(TrainingRun, run_id, populate_existing=True, with_for_update=True)
    if run.state not in (RunState.FAILED, RunState.CANCELLED):
        return []
    if sweep.state != SweepState.RUNNING:
        sweep.state = check(SweepState(sweep.state), SweepState.RUNNING)
        sweep.finished_at = None
    return [item.id for item in queue_again(session, sweep, [run], settings)]


def settle(session: Session, sweep_id: uuid.UUID) -> bool:
    """Ends a running sweep when every run has ended; call it in the transaction that ended one.

    The sweep's row is locked before counting, so that of two workers that finish at the same moment the second one sees
    what the first one wrote.

    Returns:
        Whether it ended now.
    """
    sweep = locked(session, sweep_id)
    if sweep is None or sweep.state != SweepState.RUNNING:
        return False
    going = session.scalar(
        select(func.count())
        .select_from(TrainingRun)
        .where(TrainingRun.sweep_id == sweep_id, TrainingRun.state.not_in(RUN_ENDED))
    )
    if going:
        return False
    sweep.state = check(SweepState.RUNNING, SweepState.FINISHED)
    sweep.finished_at = database_now(session)
    session.flush()
    return True


def queue_again(session: Session, sweep: Sweep, runs: Sequence[TrainingRun], settings: Settings) -> list[WorkItem]:
    """Makes runs that were stopped or failed pending, and work items for them; what shared an item still does."""
    groups: dict[tuple[uuid.UUID | None, str], list[TrainingRun]] = {}
    for run in runs:
        run.state = check(RunState(run.state), RunState.PENDING)
        run.failure_code, run.failure_detail, run.finished_at = "", {}, None
        groups.setdefault((run.work_item_id, run.group_key), []).append(run)
    return [
        add_item(session, sweep.id, group, max_attempts=settings.training_max_attempts) for group in groups.values()
    ]


def add_item(session: Session, sweep_id: uuid.UUID, runs: Sequence[TrainingRun], *, max_attempts: int) -> WorkItem:
    """Makes one work item that trains the given runs together."""
    item = WorkItem(
        sweep_id=sweep_id,
        task=TASK_TRAIN,
        queue=QUEUE_TRAINING,
        sequence=min(run.sequence for run in runs),
        slices=len(runs),
        max_attempts=max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    for run in runs:
        run.work_item_id = item.id
    session.flush()
    return item


def locked(session: Session, sweep_id: uuid.UUID) -> Sweep | None:
    """The sweep, locked until the end of the transaction."""
    return session.scalar(
        select(Sweep).where(Sweep.id == sweep_id).with_for_update().execution_options(populate_existing=True)
    )


def _stop(session: Session, sweep_id: uuid.UUID, after: SweepState, run_after: RunState) -> bool:
    items = session.scalars(
        select(WorkItem)
        .where(WorkItem.sweep_id == sweep_id, WorkItem.state.in_(ITEM_OPEN))
        .order_by(WorkItem.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    sweep = locked(session, sweep_id)
    if sweep is None or after not in TRANSITIONS[SweepState][sweep.state]:
        return False
    now = database_now(session)
    for item in items:
        item.state = check(ItemState(item.state), ItemState.CANCELLED)
        item.lease_token = None
        item.lease_until = None
        item.finished_at = now
    before = [state for state in RunState if run_after in TRANSITIONS[RunState][state]]
    session.execute(
        update(TrainingRun)
        .where(TrainingRun.sweep_id == sweep_id, TrainingRun.state.in_(before))
        .values(state=run_after)
        .execution_options(synchronize_session=False)
    )
    sweep.state = check(SweepState(sweep.state), after)
    if after == SweepState.CANCELLED:
        sweep.finished_at = now
    session.flush()
    return True


def _plan_item(session: Session, sweep: Sweep, settings: Settings) -> WorkItem:
    item = WorkItem(
        sweep_id=sweep.id,
        task=TASK_PLAN_SWEEP,
        queue=QUEUE_REGISTRY,
        max_attempts=settings.max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    return item


def _runs(session: Session, sweep_id: uuid.UUID, states: Sequence[RunState]) -> Sequence[TrainingRun]:
    return session.scalars(
        select(TrainingRun)
        .where(TrainingRun.sweep_id == sweep_id, TrainingRun.state.in_(states))
        .order_by(TrainingRun.sequence)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
