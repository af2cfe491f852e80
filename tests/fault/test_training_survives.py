"""Training outlives what happens to its workers: killed, told to end, paused, cancelled; one bad run harms no other."""

import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from config.queues import QUEUE_REGISTRY
from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import WorkItem
from db.queries import sweeps
from db.session import Database
from db.states import SWEEP_ENDED, ItemState, RunState, SweepState
from db.sweeps import RunEpoch, Sweep
from tests.servers import BrokerServer
from tests.starter import Starter
from tests.training_rig import (
    begin_sweep,
    items_of,
    register_dataset,
    run_states,
    runs_of,
    scenarios,
    sweep_state,
)
from tests.work_rig import PATIENCE, context_for, wait_for
from tests.worker_fleet import DISPATCHER, Fleet
from worker import work

pytestmark = pytest.mark.slow

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def training(settings: Settings, broker: BrokerServer, tmp_path: Path) -> Settings:
    """Settings of a laboratory in a hurry; it serves no model."""
    return settings.model_copy(
        update={
            "models_dir": tmp_path / "models",
            "lease_s": 4.0,
            "retry_delay_s": 0.2,
            "resend_after_s": 2.0,
            "housekeeping_period_s": 0.3,
            "training_max_attempts": 3,
            "training_threads": 1,
            "soft_shutdown_s": 1.0,
        }
    )


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    """The folder of places at which a worker waits to be killed."""
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


QUIETLY = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def make_fleet() -> Iterator[MakeFleet]:
    """Makes fleets whose workers are forked from a process that has loaded TensorFlow."""
    starter = Starter("worker.*", "training.groups", "tensorflow", environment=QUIETLY)

    def make(settings: Settings, tmp_path: Path, **scene: object) -> Fleet:
        return Fleet(
            settings,
            tmp_path / "logs",
            module="tests.fault.slow_training",
            environment=QUIETLY | {f"NS_TEST_{name.upper()}": str(value) for name, value in scene.items()},
            starter=starter,
        )

    yield make
    starter.close()


def planned(database: Database, settings: Settings, text: str) -> uuid.UUID:
    """A sweep whose runs wait: the registry worker's part is done in this process."""
    sweep_id = begin_sweep(database, settings, register_dataset(database, settings, uuid.uuid4().hex), text)
    plan(settings)
    assert sweep_state(database, sweep_id) == SweepState.RUNNING
    return sweep_id


def plan(settings: Settings) -> None:
    context = context_for(settings, (QUEUE_REGISTRY,))
    try:
        # A running dispatcher may hold the row for a moment, to mark that its message is sent.
        assert wait_for(lambda: work.turn(context, 0.0), 5) == 1
    finally:
        context.close()


def wait_sweep(database: Database, sweep_id: uuid.UUID, timeout_s: float = 60.0) -> SweepState:
    wait_for(lambda: sweep_state(database, sweep_id) in SWEEP_ENDED, timeout_s)
    return sweep_state(database, sweep_id)


def epochs_of(database: Database, run_id: uuid.UUID) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(RunEpoch.epoch).where(RunEpoch.run_id == run_id).order_by(RunEpoch.epoch)))


def first_epochs(fleet: Fleet, run_id: uuid.UUID) -> list[int]:
    """From which epoch each worker took the run up, as they said."""
    lines = [line for line in fleet.output().splitlines() if '"run_started"' in line and str(run_id) in line]
    return [int(found[1]) for line in lines if (found := re.search(r'"first_epoch": ?(\d+)', line))]


def trained_epochs(fleet: Fleet, run_id: uuid.UUID) -> list[int]:
    lines = [line for line in fleet.output().splitlines() if '"epoch_finished"' in line and str(run_id) in line]
    return [int(found[1]) for line in lines if (found := re.search(r'"epoch": ?(\d+)', line))]


def test_killed_in_an_epoch_while_writing_and_between_runs_it_goes_on_from_the_last_epoch(
    training: Settings, database: Database, gates: Path, tmp_path: Path, make_fleet: MakeFleet
) -> None:
    text = scenarios(epochs=5)
    sweep_id = planned(database, training, text)
    for name in ("in-an-epoch", "writing-a-state", "between-runs"):
        (gates / name).touch()
    with make_fleet(training, tmp_path, gates=gates) as fleet:
        fleet.start(DISPATCHER)
        worker = fleet.start("training")
        for name in ("in-an-epoch", "writing-a-state", "between-runs"):
            wait_for(lambda name=name: (gates / f"{name}.reached").exists(), 60, 0.02)  # type: ignore[misc]
            if name == "between-runs":
                assert run_states(database, sweep_id) == [RunState.FINISHED, RunState.RUNNING]
            fleet.kill_child(worker)
        assert wait_sweep(database, sweep_id) == SweepState.FINISHED
        first, second = runs_of(database, sweep_id)
        assert first_epochs(fleet, first.id) == [0, 1, 2], "a finished run is never taken up again"
        assert first_epochs(fleet, second.id) == [0, 1, 2, 5]
        for run in (first, second):
            assert trained_epochs(fleet, run.id) == epochs_of(database, run.id) == [0, 1, 2, 3, 4], "none twice"

        # The same scenarios undisturbed; every message comes three times.
        with database.read() as session:
            dataset_id = session.get_one(Sweep, sweep_id).dataset_id
        again = begin_sweep(database, training, dataset_id, text)
        plan(training)
        doorbell = Doorbell(training)
        for item in [*items_of(database, again)[1:]] * 2:
            doorbell.ring(item.task, item.queue, item.id)
        assert wait_sweep(database, again) == SweepState.FINISHED
        undisturbed = runs_of(database, again)
        assert [run.attempts for run in undisturbed] == [1, 1]
        assert [run.weights_sha256 for run in undisturbed] == [first.weights_sha256, second.weights_sha256]
        assert [run.metrics for run in undisturbed] == [first.metrics, second.metrics]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # as where there are several machines
def test_two_workers_share_a_sweep_and_a_deploy_costs_nothing(
    training: Settings, database: Database, gates: Path, tmp_path: Path, make_fleet: MakeFleet
) -> None:
    sweep_id = planned(database, training, scenarios(epochs=6, learns="all"))
    with make_fleet(training, tmp_path, gates=gates, hold=1, step_s=0.05) as fleet:
        fleet.start(DISPATCHER)
        old = fleet.start("training")
        fleet.start("training")
        wait_for(lambda: len(busy_workers(database)) == 2, 60, 0.05)
        (gates / "start").touch()
        wait_for(lambda: sum(run.epochs_done for run in runs_of(database, sweep_id)) >= 2, 60, 0.05)
        old.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert old.wait(30 * PATIENCE) == 0
        assert time.monotonic() - began < training.soft_shutdown_s + 10 * PATIENCE
        assert wait_sweep(database, sweep_id, 90) == SweepState.FINISHED
        for run in runs_of(database, sweep_id):
            assert run.state == RunState.FINISHED
            assert epochs_of(database, run.id) == list(range(6))
            assert trained_epochs(fleet, run.id) == list(range(6)), "an epoch was trained twice"
    attempts = {item.attempts for item in items_of(database, sweep_id)}
    assert attempts == {1}, "the deploy cost an attempt"


def busy_workers(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(WorkItem.worker_name).where(WorkItem.state == ItemState.RUNNING)))


def test_pause_and_cancel_act_within_five_seconds_and_resume_goes_on_from_the_last_epoch(
    training: Settings, database: Database, tmp_path: Path, make_fleet: MakeFleet
) -> None:
    sweep_id = planned(database, training, scenarios(epochs=40))
    with make_fleet(training, tmp_path, step_s=0.1) as fleet:
        fleet.start(DISPATCHER)
        worker = fleet.start("training")
        for number, stop in enumerate((sweeps.pause, sweeps.cancel)):
            done = [run.epochs_done for run in runs_of(database, sweep_id)]
            wait_for(lambda done=done: all_further(database, sweep_id, done), 60, 0.05)  # type: ignore[misc]
            child = fleet.child(worker)
            with database.write() as session:
                assert stop(session, sweep_id)
            began = time.monotonic()
            before = [epochs_of(database, run.id) for run in runs_of(database, sweep_id)]
            # What TensorFlow holds is given back with the process that trained.
            wait_for(lambda child=child: child not in fleet.children(worker), 20, 0.02)  # type: ignore[misc]
            assert time.monotonic() - began < 5 + PATIENCE, "it went on in the middle of an epoch"
            assert [epochs_of(database, run.id) for run in runs_of(database, sweep_id)] == before
            assert {run.state for run in runs_of(database, sweep_id)} == {
                RunState.PAUSED if number == 0 else RunState.CANCELLED
            }
            with database.write() as session:
                assert len(sweeps.resume(session, sweep_id, training)) == 1
        wait_for(lambda: all(len(first_epochs(fleet, run.id)) == 3 for run in runs_of(database, sweep_id)), 60, 0.1)
        for run in runs_of(database, sweep_id):
            begun = first_epochs(fleet, run.id)
            assert 0 == begun[0] < begun[1] < begun[2], "it began anew"
            trained = trained_epochs(fleet, run.id)
            assert trained == sorted(set(trained)), "an epoch was trained twice"


def all_further(database: Database, sweep_id: uuid.UUID, done: list[int]) -> bool:
    """Whether every run has finished another epoch."""
    runs = runs_of(database, sweep_id)
    return all(
        run.state == RunState.RUNNING and run.epochs_done > before for run, before in zip(runs, done, strict=True)
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_run_that_diverges_and_one_that_kills_its_worker_fail_alone(
    training: Settings, database: Database, tmp_path: Path, make_fleet: MakeFleet
) -> None:
    sweep_id = planned(database, training, scenarios(epochs=3, rates="0.01, 0.005, 0.001"))
    with make_fleet(training, tmp_path, poison="quick-adam-0.005", nan="quick-adam-0.001") as fleet:
        fleet.start(DISPATCHER)
        fleet.start("training")
        assert wait_sweep(database, sweep_id, 90) == SweepState.FINISHED
    good, poison, nan = runs_of(database, sweep_id)
    assert (good.state, good.epochs_done) == (RunState.FINISHED, 3)
    assert (poison.state, poison.failure_code, poison.epochs_done) == (RunState.FAILED, "run_worker_lost", 1)
    assert (nan.state, nan.failure_code) == (RunState.FAILED, "diverged")
    assert "it must be finite. Lower learning_rate" in nan.failure_detail["text"]
