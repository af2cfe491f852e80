"""Promise 5: a picture that kills its worker stops neither the queue nor its neighbours."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import JobSlice, WorkItem
from db.session import Database
from db.states import JobState, SliceState
from db.studies import Instance
from tests.work_rig import picture, pictures, results_of, slice_counts, submit, wait_ended
from tests.worker_fleet import DISPATCHER, Fleet

POISON_SIDE = 97


@pytest.mark.slow
def test_one_deadly_slice_fails_alone(work: Settings, database: Database, fleets: Callable[..., Fleet]) -> None:
    settings = work.model_copy(update={"max_attempts": 4})
    fleet = fleets(settings, poison_side=POISON_SIDE)
    for role in (DISPATCHER, "intake", "classify"):
        fleet.start(role)
    files = pictures(11)
    files["study/slice 5b.png"] = picture(77, POISON_SIDE)
    doorbell = Doorbell(settings)
    job_id = submit(database, settings, files, doorbell=doorbell)
    neighbour_id = submit(database, settings, pictures(12, first_seed=300, folder="next"), doorbell=doorbell)
    assert wait_ended(database, [job_id, neighbour_id], 120) == [JobState.PARTIAL, JobState.SUCCEEDED]
    assert slice_counts(database, job_id) == {"done": 11, "failed": 1}
    assert len(results_of(database, job_id)) == 11
    with database.read() as session:
        failed = session.execute(
            select(Instance.path, JobSlice.failure_code, WorkItem.state, WorkItem.attempts, WorkItem.error_code)
            .join(JobSlice, JobSlice.instance_id == Instance.id)
            .join(WorkItem, WorkItem.id == JobSlice.work_item_id)
            .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.FAILED)
        ).one()
    # Two attempts in its chunk, two alone: the worker was killed four times, and not a fifth.
    assert tuple(failed) == ("study/slice 5b.png", "worker_lost", "dead", 2, "worker_lost")
