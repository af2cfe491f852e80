"""Promise 3: the loss of the broker costs seconds, no slice and no worker."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from db.doorbell import Doorbell
from db.session import Database
from db.states import JobState
from tests.servers import BrokerServer
from tests.work_rig import pictures, results_of, running_items, slice_counts, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.mark.slow
def test_the_broker_is_lost_with_everything_in_it(
    work: Settings, broker: BrokerServer, database: Database, fleets: Callable[..., Fleet]
) -> None:
    fleet = fleets(delay_s=0.05)
    for role in (DISPATCHER, "intake", "classify"):
        fleet.start(role)
    doorbell = Doorbell(work)
    job_id = submit(database, work, pictures(150), doorbell=doorbell)
    wait_for(lambda: running_items(database), 60, 0.02)
    broker.restart(wipe=True)
    # One submitted while it is away is not lost either.
    broker.stop(kill=True)
    began = time.monotonic()
    other_id = submit(database, work, pictures(5, first_seed=900, folder="other"), doorbell=doorbell)
    assert time.monotonic() - began < 5, "web would have kept the user waiting"
    time.sleep(2)
    broker.start()
    wait_for(lambda: slice_counts(database, job_id).get("done", 0) >= 60, 60)
    with broker.client() as client:
        for _ in range(20):
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.02)
    assert slice_counts(database, job_id).get("pending"), "the job ended before the connections were cut"
    assert wait_ended(database, [job_id, other_id], 90) == [JobState.SUCCEEDED] * 2
    assert len(set(results_of(database, job_id))) == len(results_of(database, job_id)) == 150
    assert len(results_of(database, other_id)) == 5


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_that_gives_up_starts_again(
    work: Settings, broker: BrokerServer, database: Database, tmp_path: Path
) -> None:
    mark = tmp_path / "gave-up"
    with Fleet(
        work, tmp_path / "logs", module="tests.fault.fragile_worker", environment={"NS_TEST_MARK": str(mark)}
    ) as fleet:
        intake = fleet.start("intake")
        first = fleet.child(intake)
        wait_for(lambda: "Connected to" in fleet.output(), 30)
        with broker.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        wait_for(mark.exists, 30)
        # It is the same process, with new children, that takes the next study in.
        job_id = submit(database, work, pictures(2), doorbell=Doorbell(work))
        wait_for(lambda: slice_counts(database, job_id).get("pending", 0) == 2, 60)
        assert intake.poll() is None
        assert fleet.alive([first]) == set()
        # One that is told to end stays ended.
        intake.terminate()
        assert intake.wait(60) == 0
        assert fleet.output().count("worker_starts_again") == 1
