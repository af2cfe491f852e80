"""Promise 2: a killed worker's job is finished, and every result is there once."""

import random
import time
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import WorkItem
from db.predictions import Prediction
from db.session import Database
from db.states import JobState
from tests.work_rig import pictures, results_of, running_items, slice_counts, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet

SLICES, KILLS = 200, 10


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["child", "parent"])
def test_ten_kills_cost_no_slice_and_double_none(
    victim: str, work: Settings, database: Database, fleets: Callable[..., Fleet]
) -> None:
    chance = random.Random(20_26)
    # Long enough that all ten kills fall into the job.
    fleet = fleets(delay_s=0.06)
    fleet.start(DISPATCHER)
    fleet.start("intake")
    workers = [fleet.start("classify"), fleet.start("classify")]
    job_id = submit(database, work, pictures(SLICES), doorbell=Doorbell(work))
    orphans: list[int] = []
    for _ in range(KILLS):
        wait_for(lambda: running_items(database), 60, 0.02)
        time.sleep(chance.uniform(0.0, 0.5))
        place = chance.randrange(len(workers))
        if victim == "child":
            fleet.kill_child(workers[place])
        else:
            orphans += fleet.children(workers[place])
            fleet.kill(workers[place])
            workers[place] = fleet.start("classify")
    assert slice_counts(database, job_id)["pending"] > 0, "the job ended before the last kill: make it slower"
    assert wait_ended(database, [job_id], 120) == [JobState.SUCCEEDED]
    assert_each_once(database, job_id)
    # A pool whose parent was killed ends by itself, after the chunk in its hands.
    wait_for(lambda: not set(orphans) & fleet.alive(orphans), 20)


def assert_each_once(database: Database, job_id: uuid.UUID) -> None:
    """200 slices, each with one result, and no item claimed more often than allowed."""
    assert slice_counts(database, job_id) == {"done": SLICES}
    found = results_of(database, job_id)
    assert len(found) == len(set(found)) == SLICES
    with database.read() as session:
        twice = session.scalars(
            select(Prediction.instance_id)
            .group_by(Prediction.instance_id, Prediction.checkpoint_id)
            .having(func.count() > 1)
        ).all()
        assert twice == []
        over = session.scalars(select(WorkItem.id).where(WorkItem.attempts > WorkItem.max_attempts)).all()
        assert over == []
