"""Promise 8: a cancelled job stops within five seconds, and nothing is written for it afterwards."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import Job, WorkItem
from db.predictions import Prediction
from db.queries import settle
from db.session import Database
from db.states import JobState
from tests.work_rig import pictures, results_of, running_items, slice_counts, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.mark.slow
def test_cancel_in_the_middle_of_a_chunk(work: Settings, database: Database, fleets: Callable[..., Fleet]) -> None:
    # Chunks of six seconds: whoever only asks between chunks is too late.
    settings = work.model_copy(update={"chunk_slices": 20})
    fleet = fleets(settings, delay_s=0.3)
    for role in (DISPATCHER, "intake", "classify"):
        fleet.start(role)
    doorbell = Doorbell(settings)
    job_id = submit(database, settings, pictures(60), doorbell=doorbell)
    wait_for(lambda: running_items(database), 60, 0.02)
    next_id = submit(database, settings, pictures(2, first_seed=500, folder="next"), doorbell=doorbell)
    with database.write() as session:
        assert settle.cancel(session, job_id)
    cancelled_at = time.monotonic()
    before = results_of(database, job_id)

    def next_claimed() -> bool:
        with database.read() as session:
            return (
                session.scalar(select(WorkItem.started_at).where(WorkItem.job_id == next_id, WorkItem.slices > 0))
                is not None
            )

    wait_for(next_claimed, 20, 0.05)
    assert time.monotonic() - cancelled_at < 5, "the worker went on with the cancelled chunk"
    assert wait_ended(database, [next_id], 30) == [JobState.SUCCEEDED]
    assert slice_counts(database, job_id) == {
        "cancelled": 60 - len(before),
        **({"done": len(before)} if before else {}),
    }
    assert results_of(database, job_id) == before
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert job.state == JobState.CANCELLED
        late = session.scalars(
            select(Prediction.id).where(Prediction.job_id == job_id, Prediction.created_at > job.finished_at)
        ).all()
        assert late == []
