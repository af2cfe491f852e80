"""Sweeps and runs as they are shown: lists, progress, remaining time, curves, reports.

Owns the arithmetic of progress and of the time that is left, which comes from measured epochs of this sweep or of
earlier runs like it. Refuses to guess: what was never measured is counted as unmeasured.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, load_only

from config.queues import QUEUE_REGISTRY, QUEUE_TRAINING
from db.datasets import TrainingDataset
from db.queries import heartbeats
from db.states import RUN_ENDED, RunState, SweepState
from db.sweeps import RunEpoch, RunMistake, RunReport, Sweep, TrainingRun
from db.users import User
from db.workers import WorkerHeartbeat

EARLIER_RUNS = 200
"""How many earlier runs on the same data are looked at for a measurement."""

Kind = tuple[str, int, str]


@dataclass(frozen=True)
class Remaining:
    """How long a sweep goes on.

    Attributes:
        seconds: For all runs with a measurement, by the workers there are; an upper bound, since early stopping may end
            a run before its last epoch. None when nothing was measured yet.
        unmeasured_runs: Runs that are left and like which none was ever measured; their time comes on top.
        workers: Living training workers that can train.
    """

    seconds: float | None
    unmeasured_runs: int
    workers: int


@dataclass(frozen=True)
class SweepView:
    """One sweep.

    Attributes:
        id: Of the sweep.
        name: For people.
        state: Of the sweep.
        dataset_id: The data set.
        dataset_name: Its name.
        created_by: Username, or empty when the account is gone or there was none.
        scenario_file: Name in `config/scenarios`, or empty.
        scenario_text: The YAML.
        problems: Why it was refused: {line, field, value, expected, message, origin} each.
        code_version: That planned it.
        counts: Runs by state; every state is a key.
        epochs_done: Of all runs.
        epochs_planned: Of all runs; an ended run counts with the epochs it took.
        created_at: When it was asked for.
        started_at: When its runs were made.
        finished_at: When it ended.
    """

    id: uuid.UUID
    name: str
    state: SweepState
    dataset_id: uuid.UUID
    dataset_name: str
    created_by: str
    scenario_file: str
    scenario_text: str
    problems: Sequence[Mapping[str, Any]]
    code_version: str
    counts: Mapping[RunState, int]
    epochs_done: int
    epochs_planned: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def runs(self) -> int:
        """Runs in all."""
        return sum(self.counts.values())

    @property
    def ended_runs(self) -> int:
        """Runs that are finished, failed or cancelled."""
        return sum(self.counts[state] for state in RUN_ENDED)


@dataclass(frozen=True)
class MistakeLine:
    """One of a run's mistakes without its pictures."""

    id: uuid.UUID
    part: str
    rank: int
    facts: Mapping[str, Any]


def list_sweeps(session: Session, *, limit: int = 50, offset: int = 0) -> list[SweepView]:
    """Sweeps, the newest first."""
    return _views(session, select(Sweep.id).order_by(Sweep.created_at.desc(), Sweep.id).limit(limit).offset(offset))


def count_sweeps(session: Session) -> int:
    """How many there are."""
    return session.scalar(select(func.count()).select_from(Sweep)) or 0


def view(session: Session, sweep_id: uuid.UUID) -> SweepView | None:
    """One sweep; None when there is none."""
    found = _views(session, select(Sweep.id).where(Sweep.id == sweep_id))
    return found[0] if found else None


def runs(session: Session, sweep_id: uuid.UUID) -> list[TrainingRun]:
    """All runs of a sweep, in the order of the scenario file."""
    return list(
        session.scalars(select(TrainingRun).where(TrainingRun.sweep_id == sweep_id).order_by(TrainingRun.sequence))
    )


def training_now(session: Session, sweep_id: uuid.UUID) -> list[TrainingRun]:
    """The runs of a sweep that are being trained, without what is large in them."""
    wanted = (TrainingRun.name, TrainingRun.epochs_done, TrainingRun.epochs_planned)
    return list(
        session.scalars(
            select(TrainingRun)
            .where(TrainingRun.sweep_id == sweep_id, TrainingRun.state == RunState.RUNNING)
            .order_by(TrainingRun.sequence)
            .options(load_only(*wanted, raiseload=True))
        )
    )


def run(session: Session, run_id: uuid.UUID) -> TrainingRun | None:
    """One run with its sweep and data set loaded."""
    loading = joinedload(TrainingRun.sweep).joinedload(Sweep.dataset)
    return session.scalar(select(TrainingRun).where(TrainingRun.id == run_id).options(loading))


def epochs(session: Session, run_id: uuid.UUID, *, after: int = -1) -> list[RunEpoch]:
    """What a run reported of its epochs after the given one, in order."""
    return list(
        session.scalars(
            select(RunEpoch).where(RunEpoch.run_id == run_id, RunEpoch.epoch > after).order_by(RunEpoch.epoch)
        )
    )


def report(session: Session, run_id: uuid.UUID) -> dict[str, Any] | None:
    """The report of a finished run (docs/run-report.md)."""
    return session.scalar(select(RunReport.report).where(RunReport.run_id == run_id))


def mistakes(session: Session, run_id: uuid.UUID, part: str) -> list[MistakeLine]:
    """A finished run's surest mistakes in `validation` or `test`, worst first, without their pictures."""
    rows = session.execute(
        select(RunMistake.id, RunMistake.part, RunMistake.rank, RunMistake.facts)
        .where(RunMistake.run_id == run_id, RunMistake.part == part)
        .order_by(RunMistake.rank)
    )
    return [MistakeLine(row.id, row.part, row.rank, row.facts) for row in rows]


def mistake(session: Session, mistake_id: uuid.UUID) -> RunMistake | None:
    """One mistake with its pictures."""
    return session.get(RunMistake, mistake_id)


def training_workers(session: Session, *, worker_age_s: float = 20.0) -> int:
    """Living workers that train; those that lack TensorFlow do not count."""
    return sum(not worker.facts.get("missing") for worker in _trainers(session, worker_age_s))


def can_be_planned(session: Session, *, worker_age_s: float = 20.0) -> bool:
    """Whether a worker lives that plans sweeps."""
    return any(QUEUE_REGISTRY in worker.queues for worker in heartbeats.alive(session, age_s=worker_age_s))


def waiting_for_tensorflow(session: Session, *, worker_age_s: float = 20.0) -> bool:
    """Whether training workers live and none of them can train, because TensorFlow is not installed."""
    trainers = _trainers(session, worker_age_s)
    return bool(trainers) and all(worker.facts.get("missing") for worker in trainers)


def remaining(session: Session, sweep_id: uuid.UUID, *, worker_age_s: float = 20.0) -> Remaining | None:
    """How long a sweep that runs or is paused goes on; None for all others.

    Runs in lockstep (a frozen backbone) take as long as the longest of them; others follow one another.
    """
    sweep = session.get(Sweep, sweep_id)
    if sweep is None or sweep.state not in (SweepState.RUNNING, SweepState.PAUSED):
        return None
    rows = session.execute(
        select(
            TrainingRun.id,
            TrainingRun.work_item_id,
            TrainingRun.scenario,
            TrainingRun.state,
            TrainingRun.epochs_planned,
            TrainingRun.epochs_done,
            TrainingRun.wall_s,
        ).where(TrainingRun.sweep_id == sweep_id)
    ).all()
    left = [row for row in rows if RunState(row.state) not in RUN_ENDED]
    epoch_s = _means((_kind(row.scenario), row.wall_s, row.epochs_done) for row in rows)
    missing = {_kind(row.scenario) for row in left if not row.epochs_done} - set(epoch_s)
    if missing:
        epoch_s = {**_earlier(session, sweep), **epoch_s}
    groups: dict[uuid.UUID, list[float]] = {}
    lockstep: dict[uuid.UUID, bool] = {}
    unmeasured = 0
    for row in left:
        kind = _kind(row.scenario)
        each = row.wall_s / row.epochs_done if row.epochs_done else epoch_s.get(kind)
        if each is None:
            unmeasured += 1
            continue
        group = row.work_item_id or row.id
        groups.setdefault(group, []).append(each * max(0, row.epochs_planned - row.epochs_done))
        lockstep[group] = kind[2] == "head"
    times = [max(seconds) if lockstep[group] else sum(seconds) for group, seconds in groups.items()]
    workers = training_workers(session, worker_age_s=worker_age_s)
    seconds = max(max(times), sum(times) / max(1, workers)) if times else None
    return Remaining(seconds, unmeasured, workers)


def _trainers(session: Session, worker_age_s: float) -> list[WorkerHeartbeat]:
    return [worker for worker in heartbeats.alive(session, age_s=worker_age_s) if QUEUE_TRAINING in worker.queues]


def _views(session: Session, wanted: Any) -> list[SweepView]:
    rows = session.execute(
        select(Sweep, TrainingDataset.name, User.username)
        .join(TrainingDataset, TrainingDataset.id == Sweep.dataset_id)
        .outerjoin(User, User.id == Sweep.created_by_id)
        .where(Sweep.id.in_(wanted))
        .order_by(Sweep.created_at.desc(), Sweep.id)
    ).all()
    sums = session.execute(
        select(
            TrainingRun.sweep_id,
            TrainingRun.state,
            func.count(),
            func.sum(TrainingRun.epochs_done),
            func.sum(TrainingRun.epochs_planned),
        )
        .where(TrainingRun.sweep_id.in_([row[0].id for row in rows]))
        .group_by(TrainingRun.sweep_id, TrainingRun.state)
    ).all()
    views = []
    for sweep, dataset_name, username in rows:
        counts, done, planned = dict.fromkeys(RunState, 0), 0, 0
        for sweep_id, state, count, epochs_done, epochs_planned in sums:
            if sweep_id == sweep.id:
                counts[RunState(state)] = count
                done += int(epochs_done)
                planned += int(epochs_done if RunState(state) in RUN_ENDED else epochs_planned)
        views.append(
            SweepView(
                id=sweep.id,
                name=sweep.name,
                state=SweepState(sweep.state),
                dataset_id=sweep.dataset_id,
                dataset_name=dataset_name,
                created_by=username or "",
                scenario_file=sweep.scenario_file,
                scenario_text=sweep.scenario_text,
                problems=sweep.problems,
                code_version=sweep.code_version,
                counts=counts,
                epochs_done=done,
                epochs_planned=planned,
                created_at=sweep.created_at,
                started_at=sweep.started_at,
                finished_at=sweep.finished_at,
            )
        )
    return views


def _kind(scenario: Mapping[str, Any]) -> Kind:
    """What decides how long an epoch takes, on one data set."""
    return scenario["network"], int(scenario["preprocessing"]["size"]), scenario.get("learns", "all")


def _means(measured: Any) -> dict[Kind, float]:
    """Seconds an epoch, by kind."""
    sums: dict[Kind, tuple[float, int]] = {}
    for kind, wall_s, done in measured:
        if done:
            seconds, count = sums.get(kind, (0.0, 0))
            sums[kind] = seconds + wall_s, count + done
    return {kind: seconds / count for kind, (seconds, count) in sums.items()}


def _earlier(session: Session, sweep: Sweep) -> dict[Kind, float]:
    """Seconds an epoch of earlier runs on the same data set, by kind."""
    rows = session.execute(
        select(TrainingRun.scenario, TrainingRun.wall_s, TrainingRun.epochs_done)
        .join(Sweep, Sweep.id == TrainingRun.sweep_id)
        .where(Sweep.dataset_id == sweep.dataset_id, Sweep.id != sweep.id, TrainingRun.epochs_done > 0)
        .order_by(TrainingRun.created_at.desc())
        .limit(EARLIER_RUNS)
    ).all()
    return _means((_kind(row.scenario), row.wall_s, row.epochs_done) for row in rows)
