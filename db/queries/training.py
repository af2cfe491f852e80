"""Training as a worker sees it: a sweep to plan, a group of runs to train, and what they report.

Owns every change of a run that a worker makes. Each write is fenced by the claim of the run's work item, so that a
worker whose item was taken away writes nothing more. An epoch is recorded once, whatever is done again.

One more epoch of any run is progress: the item's attempts start counting anew, so that training of many hours
outlives any number of restarts, while a run that kills its worker again and again without getting further is given up.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from config.settings import Settings
from db.clock import database_now
from db.datasets import TrainingDataset
from db.jobs import WorkItem
from db.queries import claims, sweeps
from db.queries.claims import Claim, LeaseLost
from db.states import RunState, SweepState, check
from db.sweeps import RunEpoch, RunMistake, RunReport, Sweep, TrainingRun
from db.upserts import insert_missing

OF_A_RUN = {"worker_lost": "run_worker_lost", "poison": "run_failed"}
"""Why a work item was given up, as the reason of a run: what it means to a reader is not the same as for a slice."""

OPEN = (RunState.PENDING, RunState.RUNNING)


@dataclass(frozen=True)
class SweepToPlan:
    """What the planning of a sweep reads.

    Attributes:
        classes: label -> {slices, patients} of the data set.
        planes: plane -> slices of the data set.
    """

    sweep_id: uuid.UUID
    scenario_file: str
    scenario_text: str
    dataset_name: str
    classes: Mapping[str, Any]
    planes: Mapping[str, Any]


@dataclass(frozen=True)
class PlannedRun:
    """One run to be: `group_key` is equal for runs that share work."""

    name: str
    scenario: Mapping[str, Any]
    scenario_digest: str
    group_key: str
    epochs: int


@dataclass(frozen=True)
class RunToDo:
    """One run of a claimed group."""

    run_id: uuid.UUID
    name: str
    scenario: Mapping[str, Any]
    scenario_digest: str


@dataclass(frozen=True)
class Group:
    """A claimed group: its runs that have not ended, in order."""

    sweep_id: uuid.UUID
    dataset_id: uuid.UUID
    runs: tuple[RunToDo, ...]


@dataclass(frozen=True)
class Mistake:
    """One mistake of a run, with its pictures."""

    part: str
    rank: int
    facts: Mapping[str, Any]
    picture_png: bytes
    heatmap_png: bytes


@dataclass(frozen=True)
class Outcome:
    """What a finished run gave.

    Attributes:
        metrics: For leaderboards: `PART.NAME` -> {value, low, high}.
        facts: Environment and whatever else belongs to the run.
        report: docs/run-report.md.
        weights_sha256: Blob of the best weights.
    """

    best_epoch: int
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]
    report: Mapping[str, Any]
    wall_s: float
    images_per_s: float | None
    peak_memory_bytes: int | None
    code_version: str
    weights_sha256: str
    mistakes: Sequence[Mistake] = field(default_factory=tuple)


def to_plan(session: Session, claim: Claim) -> SweepToPlan | None:
    """The sweep of a claimed planning item; None when it is not being planned any more."""
    row = session.execute(
        select(Sweep, TrainingDataset)
        .join(TrainingDataset, TrainingDataset.id == Sweep.dataset_id)
        .join(WorkItem, WorkItem.sweep_id == Sweep.id)
        .where(WorkItem.id == claim.item_id, Sweep.state == SweepState.PLANNING)
    ).one_or_none()
    if row is None:
        return None
    sweep, dataset = row
    return SweepToPlan(
        sweep.id,
        sweep.scenario_file,
        sweep.scenario_text,
        dataset.name,
        dataset.counts.get("classes", {}),
        dataset.counts.get("planes", {}),
    )


def refuse(session: Session, claim: Claim, sweep_id: uuid.UUID, problems: Sequence[Mapping[str, Any]]) -> None:
    """Ends the planning: the scenarios or the data set have mistakes. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim, note="refused")
    _refuse(session, sweep_id, problems)


def plan(
    session: Session,
    claim: Claim,
    sweep_id: uuid.UUID,
    planned: Sequence[PlannedRun],
    settings: Settings,
    *,
    code_version: str,
) -> list[uuid.UUID]:
    """Ends the planning: makes the runs, and one work item for each group of runs that share work.

    Returns:
        The work items, to be rung for after the commit.

    Raises:
        LeaseLost: When the fence is gone.
    """
    claims.finish(session, claim)
    sweep = sweeps.locked(session, sweep_id)
    if sweep is None or sweep.state != SweepState.PLANNING:
        return []
    sweep.state = check(SweepState.PLANNING, SweepState.RUNNING)
    sweep.started_at = database_now(session)
    sweep.code_version = code_version
    groups: dict[str, list[TrainingRun]] = {}
    for number, wanted in enumerate(planned):
        run = TrainingRun(
            sweep_id=sweep_id,
            sequence=number,
            name=wanted.name,
            scenario=dict(wanted.scenario),
            scenario_digest=wanted.scenario_digest,
            group_key=wanted.group_key,
            epochs_planned=wanted.epochs,
        )
        session.add(run)
        groups.setdefault(wanted.group_key, []).append(run)
    session.flush()
    limit = settings.training_max_attempts
    return [sweeps.add_item(session, sweep_id, runs, max_attempts=limit).id for runs in groups.values()]


def load_group(session: Session, claim: Claim) -> Group | None:
    """The runs of a claimed item that have not ended; None when there are none, or when the sweep was stopped."""
    item = session.get_one(WorkItem, claim.item_id)
    sweep = session.get(Sweep, item.sweep_id) if item.sweep_id else None
    if sweep is None or sweep.state != SweepState.RUNNING:
        return None
    rows = session.scalars(
        select(TrainingRun)
        .where(TrainingRun.work_item_id == claim.item_id, TrainingRun.state.in_(OPEN))
        .order_by(TrainingRun.sequence)
    ).all()
    if not rows:
        return None
    return Group(
        sweep.id,
        sweep.dataset_id,
        tuple(RunToDo(row.id, row.name, row.scenario, row.scenario_digest) for row in rows),
    )


def begin_run(session: Session, claim: Claim, run_id: uuid.UUID, *, first_epoch: int, lease_s: float) -> None:
    """Notes that a worker takes a run up, from `first_epoch` on (counted from 0). Raises LeaseLost."""
    claims.hold(session, claim, lease_s=lease_s)
    run = _ours(session, claim, run_id)
    if run.state == RunState.PENDING:
        run.state = check(RunState.PENDING, RunState.RUNNING)
    run.attempts += 1
    run.epochs_done = first_epoch
    run.started_at = run.started_at or database_now(session)
    session.flush()


def record_epoch(
    session: Session, claim: Claim, run_id: uuid.UUID, epoch: int, facts: Mapping[str, float], *, lease_s: float
) -> bool:
    """Records one finished epoch; an epoch that stands there already is left as it is.

    Returns:
        Whether it was recorded now: then it counts as progress of the item.

    Raises:
        LeaseLost: When the fence is gone; nothing was written.
    """
    claims.hold(session, claim, lease_s=lease_s)
    run = _ours(session, claim, run_id)
    run.epochs_done = epoch + 1
    new = session.get(RunEpoch, (run_id, epoch)) is None
    if new:
        row = {"run_id": run_id, "epoch": epoch, "facts": dict(facts), "recorded_at": database_now(session)}
        insert_missing(session, RunEpoch, [row])
        run.wall_s += float(facts.get("epoch_s", 0.0))
        _got_further(session, claim)
    session.flush()
    return new


def finish_run(session: Session, claim: Claim, run_id: uuid.UUID, outcome: Outcome, *, lease_s: float) -> None:
    """Ends a run with all it gave; ends the sweep when it was the last one. Raises LeaseLost."""
    claims.hold(session, claim, lease_s=lease_s)
    run = _ours(session, claim, run_id)
    if run.state == RunState.PENDING:
        run.state = check(RunState.PENDING, RunState.RUNNING)
    run.state = check(RunState(run.state), RunState.FINISHED)
    run.finished_at = database_now(session)
    run.best_epoch = outcome.best_epoch
    run.metrics, run.facts = dict(outcome.metrics), dict(outcome.facts)
    run.wall_s, run.images_per_s = outcome.wall_s, outcome.images_per_s
    run.peak_memory_bytes = outcome.peak_memory_bytes
    run.code_version, run.weights_sha256 = outcome.code_version, outcome.weights_sha256
    session.add(RunReport(run_id=run_id, report=dict(outcome.report)))
    session.add_all(
        RunMistake(
            run_id=run_id,
            part=mistake.part,
            rank=mistake.rank,
            facts=dict(mistake.facts),
            picture_png=mistake.picture_png,
            heatmap_png=mistake.heatmap_png,
        )
        for mistake in outcome.mistakes
    )
    _got_further(session, claim)
    session.flush()
    sweeps.settle(session, run.sweep_id)


def fail_run(
    session: Session, claim: Claim, run_id: uuid.UUID, code: str, detail: Mapping[str, Any], *, lease_s: float
) -> None:
    """Ends a run alone, with its reason; ends the sweep when it was the last one. Raises LeaseLost."""
    claims.hold(session, claim, lease_s=lease_s)
    run = _ours(session, claim, run_id)
    _fail(session, run, code, detail)
    session.flush()
    sweeps.settle(session, run.sweep_id)


def hand_back(session: Session, item_id: uuid.UUID) -> None:
    """The runs of an item that nobody works on at this moment wait again."""
    session.execute(
        update(TrainingRun)
        .where(TrainingRun.work_item_id == item_id, TrainingRun.state == RunState.RUNNING)
        .values(state=check(RunState.RUNNING, RunState.PENDING))
        .execution_options(synchronize_session=False)
    )


def divide(session: Session, item: WorkItem, *, attempts_each: int) -> int:
    """Replaces an item that was lost repeatedly by one item a run that has not ended; returns how many.

    Args:
        session: In the write transaction that ended `item`.
        item: The item; its state is the caller's matter.
        attempts_each: Attempts of each new item.
    """
    hand_back(session, item.id)
    runs = _open_runs(session, item.id)
    for run in runs:
        sweeps.add_item(session, run.sweep_id, [run], max_attempts=attempts_each)
    return len(runs)


def fail_group(session: Session, item: WorkItem, code: str, detail: Mapping[str, Any]) -> None:
    """What a dead item covered ends as failed, with the reason; so does a sweep that could not be planned."""
    if item.sweep_id is None:
        return
    for run in _open_runs(session, item.id):
        _fail(session, run, OF_A_RUN.get(code, code), detail)
    session.flush()
    sweeps.settle(session, item.sweep_id)


def fail_plan(session: Session, item: WorkItem, code: str) -> None:
    """A sweep whose planning failed on every attempt is refused."""
    if item.sweep_id is None:
        return
    problem = {
        "line": 0,
        "field": "",
        "value": "",
        "expected": "",
        "origin": "",
        "message": f"The scenarios could not be read ({code}). Begin the sweep again; see the log of the worker "
        "`registry` when it fails again.",
    }
    _refuse(session, item.sweep_id, [problem])


def _ours(session: Session, claim: Claim, run_id: uuid.UUID) -> TrainingRun:
    """The run, locked, as long as it belongs to this claim and has not ended."""
    run = session.scalar(
        select(TrainingRun)
        .where(TrainingRun.id == run_id, TrainingRun.work_item_id == claim.item_id, TrainingRun.state.in_(OPEN))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if run is None:
        raise LeaseLost(f"run {run_id} does not belong to work item {claim.item_id} any more, or has ended")
    return run


def _open_runs(session: Session, item_id: uuid.UUID) -> Sequence[TrainingRun]:
    return session.scalars(
        select(TrainingRun)
        .where(TrainingRun.work_item_id == item_id, TrainingRun.state.in_(OPEN))
        .order_by(TrainingRun.sequence)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _fail(session: Session, run: TrainingRun, code: str, detail: Mapping[str, Any]) -> None:
    run.state = check(RunState(run.state), RunState.FAILED)
    run.failure_code, run.failure_detail = code, dict(detail)
    run.finished_at = database_now(session)


def _got_further(session: Session, claim: Claim) -> None:
    session.execute(
        update(WorkItem)
        .where(WorkItem.id == claim.item_id, WorkItem.lease_token == claim.lease_token)
        .values(attempts=1, deferrals=0)
        .execution_options(synchronize_session=False)
    )


def _refuse(session: Session, sweep_id: uuid.UUID, problems: Sequence[Mapping[str, Any]]) -> None:
    sweep = sweeps.locked(session, sweep_id)
    if sweep is None or sweep.state != SweepState.PLANNING:
        return
    sweep.state = check(SweepState.PLANNING, SweepState.REFUSED)
    sweep.problems = [dict(problem) for problem in problems]
    sweep.finished_at = database_now(session)
    session.flush()
