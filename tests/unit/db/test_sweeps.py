"""Sweeps and runs as rows: begun, planned, paused, resumed, cancelled, retried, divided, settled; on both databases."""

import os
import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select, update

from config.queues import QUEUE_TRAINING, TASK_TRAIN
from config.settings import Settings
from db.base import utc_now
from db.clock import database_now
from db.datasets import TrainingDataset
from db.jobs import WorkItem
from db.queries import claims, heartbeats, housekeeping, sweep_views, sweeps, training
from db.queries.claims import Claim, LeaseLost
from db.queries.training import Outcome, PlannedRun
from db.session import Database
from db.states import DatasetState, ItemState, RunState, SweepState
from db.sweeps import RunEpoch, Sweep
from tests.training_rig import claim, items_of, planned, run_states, runs_of, sweep_state, take
from worker.housekeeping import Housekeeper

TEXT = "name: x\n"
OUTCOME = Outcome(
    best_epoch=1,
    metrics={"validation.accuracy": {"value": 0.5, "low": None, "high": 1.0}},
    facts={},
    report={"version": 1},
    wall_s=4.0,
    images_per_s=10.0,
    peak_memory_bytes=1,
    code_version="tests",
    weights_sha256="ab" * 32,
)


def add_dataset(database: Database, state: DatasetState = DatasetState.READY) -> uuid.UUID:
    with database.write() as session:
        dataset = TrainingDataset(
            name=uuid.uuid4().hex, kind="folder", state=state, counts={"classes": {"a": {}}, "planes": {}}
        )
        session.add(dataset)
        session.flush()
        return dataset.id


def begin(database: Database, settings: Settings) -> uuid.UUID:
    dataset_id = add_dataset(database)
    with database.write() as session:
        return sweeps.create(session, settings, name=" my  sweep ", dataset_id=dataset_id, scenario_text=TEXT).sweep_id


def running(database: Database, settings: Settings, runs: Sequence[PlannedRun]) -> uuid.UUID:
    """A planned sweep."""
    sweep_id = begin(database, settings)
    held = take(database)
    with database.write() as session:
        training.plan(session, held, sweep_id, runs, settings, code_version="tests")
    return sweep_id


def epoch(database: Database, held: Claim, run_id: uuid.UUID, number: int) -> bool:
    with database.write() as session:
        return training.record_epoch(session, held, run_id, number, {"loss": 0.5, "epoch_s": 2.0}, lease_s=60.0)


def start(database: Database, held: Claim, run_id: uuid.UUID) -> None:
    with database.write() as session:
        training.begin_run(session, held, run_id, first_epoch=0, lease_s=60.0)


def finish(database: Database, held: Claim, run_id: uuid.UUID) -> None:
    with database.write() as session:
        training.finish_run(session, held, run_id, OUTCOME, lease_s=60.0)


def lose(database: Database, held: Claim, settings: Settings) -> None:
    """The worker of this claim is gone."""
    with database.write() as session:
        session.execute(update(WorkItem).where(WorkItem.id == held.item_id).values(lease_until=database_now(session)))
    with database.write() as session:
        housekeeping.settle_lost(session, settings)


def test_a_sweep_is_refused_at_once_without_name_scenarios_or_a_ready_data_set(
    database: Database, settings: Settings
) -> None:
    ready, unready = add_dataset(database), add_dataset(database, DatasetState.REGISTERING)
    for name, text, dataset_id, code in (
        ("  ", TEXT, ready, "no_name"),
        ("n", " \n", ready, "no_scenarios"),
        ("n", "x" * (sweeps.TEXT_LIMIT + 1), ready, "too_long"),
        ("n", TEXT, uuid.uuid4(), "no_dataset"),
        ("n", TEXT, unready, "dataset_not_ready"),
    ):
        with database.write() as session, pytest.raises(sweeps.SweepRefused, match="expected") as refused:
            sweeps.create(session, settings, name=name, dataset_id=dataset_id, scenario_text=text)
        assert refused.value.code == code


def test_a_plan_makes_runs_and_an_item_for_each_group(database: Database, settings: Settings) -> None:
    runs = [*planned(["a", "b"]), *planned(["c"], "l" * 64)]
    sweep_id = running(database, settings, runs)
    assert sweep_state(database, sweep_id) == SweepState.RUNNING
    assert [(item.task, item.queue, item.slices) for item in items_of(database, sweep_id)[1:]] == [
        (TASK_TRAIN, QUEUE_TRAINING, 2),
        (TASK_TRAIN, QUEUE_TRAINING, 1),
    ]
    held = take(database)
    with database.read() as session:
        group = training.load_group(session, held)
        shown = sweep_views.view(session, sweep_id)
    assert group is not None
    assert [run.name for run in group.runs] == ["a", "b"]
    assert shown is not None
    assert (shown.name, shown.runs, shown.epochs_done, shown.epochs_planned) == ("my sweep", 3, 0, 12)
    assert shown.counts[RunState.PENDING] == 3


def test_mistakes_of_scenarios_end_the_sweep_and_are_kept(database: Database, settings: Settings) -> None:
    sweep_id = begin(database, settings)
    held = take(database)
    problem = {"line": 3, "field": "optimizer", "value": "adamm", "expected": "adam", "message": "?", "origin": ""}
    with database.write() as session:
        training.refuse(session, held, sweep_id, [problem])
    with database.read() as session:
        shown = sweep_views.list_sweeps(session)[0]
    assert (shown.state, shown.problems) == (SweepState.REFUSED, [problem])


def test_an_epoch_is_recorded_once_and_starts_the_attempts_anew(database: Database, settings: Settings) -> None:
    sweep_id = running(database, settings, planned(["a"]))
    run_id = runs_of(database, sweep_id)[0].id
    lose(database, take(database), settings)
    held = take(database)
    assert held.attempt == 2
    start(database, held, run_id)
    assert epoch(database, held, run_id, 0)
    assert not epoch(database, held, run_id, 0), "the state on disk was lost, and it was trained again"
    with database.read() as session:
        assert claims.standing(session, held) == (1, 0)
        assert session.scalar(select(func.count()).select_from(RunEpoch)) == 1
    assert runs_of(database, sweep_id)[0].wall_s == 2.0


def test_a_run_that_kills_its_workers_without_progress_fails_alone(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(update={"training_max_attempts": 4})
    sweep_id = running(database, settings, planned(["bad", "good"]))
    for _ in range(2):
        held = take(database)
        start(database, held, runs_of(database, sweep_id)[0].id)
        lose(database, held, settings)
    bad, good = runs_of(database, sweep_id)
    assert bad.work_item_id != good.work_item_id, "the group was divided"
    assert run_states(database, sweep_id) == [RunState.PENDING] * 2
    for _ in range(3):
        held = take(database)
        if held.item_id == bad.work_item_id:
            lose(database, held, settings)
        else:
            finish(database, held, good.id)
            with database.write() as session:
                claims.finish(session, held)
    bad, good = runs_of(database, sweep_id)
    assert (bad.state, bad.failure_code, good.state) == (RunState.FAILED, "run_worker_lost", RunState.FINISHED)
    assert sweep_state(database, sweep_id) == SweepState.FINISHED


def test_progress_outlives_any_number_of_lost_workers(database: Database, settings: Settings) -> None:
    sweep_id = running(database, settings, planned(["a", "b"], epochs=50))
    run_id = runs_of(database, sweep_id)[0].id
    for number in range(3 * settings.training_max_attempts):
        held = take(database)
        start(database, held, run_id)
        epoch(database, held, run_id, number)
        lose(database, held, settings)
    item = items_of(database, sweep_id)[-1]
    assert (item.state, item.slices) == (ItemState.PENDING, 2)


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_stopped_sweep_takes_the_work_away_and_goes_on_where_it_was(
    verb: str, database: Database, settings: Settings
) -> None:
    sweep_id = running(database, settings, planned(["a", "b", "c"]))
    run_a, run_b, _ = runs_of(database, sweep_id)
    held = take(database)
    start(database, held, run_a.id)
    epoch(database, held, run_a.id, 0)
    with database.write() as session:
        training.fail_run(session, held, run_b.id, "diverged", {"text": "?"}, lease_s=60.0)
    stop = getattr(sweeps, verb)
    with database.write() as session:
        assert stop(session, sweep_id)
    with pytest.raises(LeaseLost, match="is gone"):
        epoch(database, held, run_a.id, 1)
    stopped = RunState.PAUSED if verb == "pause" else RunState.CANCELLED
    assert run_states(database, sweep_id) == [stopped, RunState.FAILED, stopped]
    assert claim(database) is None
    with database.write() as session:
        assert not stop(session, sweep_id), "once is enough"
        assert len(sweeps.resume(session, sweep_id, settings)) == 1, "what shared an item still does"
    assert sweep_state(database, sweep_id) == SweepState.RUNNING
    assert run_states(database, sweep_id) == [RunState.PENDING, RunState.FAILED, RunState.PENDING]
    again = take(database)
    with pytest.raises(LeaseLost, match="is gone"):
        epoch(database, held, run_a.id, 1)
    assert epoch(database, again, run_a.id, 1)


def test_a_sweep_cancelled_before_it_was_planned_is_planned_when_resumed(
    database: Database, settings: Settings
) -> None:
    sweep_id = begin(database, settings)
    with database.write() as session:
        assert not sweeps.pause(session, sweep_id), "there is nothing to pause yet"
        assert sweeps.cancel(session, sweep_id)
    assert claim(database) is None
    with database.write() as session:
        assert sweeps.resume(session, sweep_id, settings)
    assert sweep_state(database, sweep_id) == SweepState.PLANNING
    assert take(database)


def test_one_run_is_tried_again_also_after_the_sweep_ended(database: Database, settings: Settings) -> None:
    sweep_id = running(database, settings, planned(["a", "b"]))
    run_a, run_b = runs_of(database, sweep_id)
    held = take(database)
    finish(database, held, run_a.id)
    with database.write() as session:
        training.fail_run(session, held, run_b.id, "out_of_memory", {"text": "?"}, lease_s=60.0)
        claims.finish(session, held)
    assert sweep_state(database, sweep_id) == SweepState.FINISHED
    with database.write() as session:
        assert sweeps.retry_run(session, run_a.id, settings) == [], "a finished run is never trained again"
        assert len(sweeps.retry_run(session, run_b.id, settings)) == 1
        assert sweeps.retry_run(session, run_b.id, settings) == [], "it waits already"
    assert sweep_state(database, sweep_id) == SweepState.RUNNING
    assert runs_of(database, sweep_id)[1].failure_code == ""
    finish(database, take(database), run_b.id)
    assert sweep_state(database, sweep_id) == SweepState.FINISHED


def test_a_planning_that_fails_each_time_refuses_the_sweep(database: Database, settings: Settings) -> None:
    sweep_id = begin(database, settings)
    for _ in range(settings.max_attempts):
        lose(database, take(database), settings)
    with database.read() as session:
        shown = sweep_views.view(session, sweep_id)
    assert shown is not None
    assert shown.state == SweepState.REFUSED
    assert "could not be read (worker_lost)" in shown.problems[0]["message"]


def test_remaining_time_is_measured_or_not_told(database: Database, settings: Settings) -> None:
    sweep_id = running(database, settings, planned(["a", "b", "c"], epochs=6))
    with database.read() as session:
        nothing = sweep_views.remaining(session, sweep_id)
    assert nothing == sweep_views.Remaining(None, 3, 0)
    held = take(database)
    for run in runs_of(database, sweep_id)[:2]:
        for number in range(2):
            epoch(database, held, run.id, number)
    with database.write() as session:
        for name, facts in (("w1", {}), ("w2", {"missing": "tensorflow"})):
            heartbeats.beat(session, name=name, queues=[QUEUE_TRAINING], engine="", checkpoint_id=None, facts=facts)
    with database.read() as session:
        known = sweep_views.remaining(session, sweep_id)
    # Side by side: the longest of them has all six epochs of two seconds before it.
    assert known == sweep_views.Remaining(12.0, 0, 1)
    with database.write() as session:
        sweeps.cancel(session, sweep_id)
    with database.read() as session:
        assert sweep_views.remaining(session, sweep_id) is None


def test_remaining_time_of_a_new_sweep_comes_from_earlier_runs_on_the_same_data(
    database: Database, settings: Settings
) -> None:
    first = running(database, settings, planned(["a"], learns="all"))
    held = take(database)
    epoch(database, held, runs_of(database, first)[0].id, 0)
    finish(database, held, runs_of(database, first)[0].id)
    with database.write() as session:
        dataset_id = session.get_one(Sweep, first).dataset_id
        second = sweeps.create(session, settings, name="n", dataset_id=dataset_id, scenario_text=TEXT).sweep_id
    held = take(database)
    with database.write() as session:
        training.plan(session, held, second, planned(["b", "c"], learns="all"), settings, code_version="tests")
    with database.read() as session:
        known = sweep_views.remaining(session, second)
    assert known is not None
    # Four seconds an epoch (as the run said in the end), four epochs, one run after the other.
    assert (known.seconds, known.unmeasured_runs) == (32.0, 0)


def test_pictures_of_data_sets_and_weights_of_runs_are_named(database: Database, settings: Settings) -> None:
    sweep_id = running(database, settings, planned(["a"]))
    finish(database, take(database), runs_of(database, sweep_id)[0].id)
    with database.read() as session:
        assert housekeeping.unnamed(session, [OUTCOME.weights_sha256, "cd" * 32]) == ["cd" * 32]


def test_states_of_sweeps_that_ended_long_ago_are_removed(database: Database, settings: Settings) -> None:
    old, going = running(database, settings, planned(["a"])), running(database, settings, planned(["b"]))
    with database.write() as session:
        sweeps.cancel(session, old)
        session.get_one(Sweep, old).finished_at = utc_now().replace(year=2020)
    folder = settings.training_dir / "sweeps"
    for name in (str(old), str(going), str(uuid.uuid4()), "notes"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.state.npz").write_bytes(b"x")
    artefacts = settings.training_dir / "artefacts"
    artefacts.mkdir()
    for name in ("old.neurosight", "new.neurosight"):
        (artefacts / name).touch()
    os.utime(artefacts / "old.neurosight", (0, 0))
    with Housekeeper(settings) as housekeeper:
        housekeeper.sweep()
    assert sorted(path.name for path in folder.iterdir()) == sorted([str(going), "notes"])
    assert [path.name for path in artefacts.iterdir()] == ["new.neurosight"]
