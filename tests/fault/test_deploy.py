"""Promise 9: SIGTERM, as a deploy sends it, loses nothing and costs nobody an attempt."""

import signal
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import WorkItem
from db.session import Database
from db.states import JobState
from tests.work_rig import PATIENCE, pictures, results_of, running_items, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.mark.slow
def test_sigterm_lets_the_chunk_finish(work: Settings, database: Database, fleets: Callable[..., Fleet]) -> None:
    fleet = fleets(delay_s=0.08)
    for role in (DISPATCHER, "intake"):
        fleet.start(role)
    old = fleet.start("classify")
    job_id = submit(database, work, pictures(120), doorbell=Doorbell(work))
    wait_for(lambda: running_items(database), 60, 0.02)
    old.send_signal(signal.SIGTERM)
    began = time.monotonic()
    fleet.start("classify")
    old.wait(30 * PATIENCE)
    assert time.monotonic() - began < work.soft_shutdown_s + 10 * PATIENCE
    assert old.returncode == 0
    assert wait_ended(database, [job_id], 90) == [JobState.SUCCEEDED]
    assert len(results_of(database, job_id)) == 120
    with database.read() as session:
        attempts = session.scalars(select(WorkItem.attempts).where(WorkItem.job_id == job_id)).all()
    assert set(attempts) == {1}, "a chunk was lost to the deploy"
