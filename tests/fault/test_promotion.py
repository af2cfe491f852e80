"""A promotion while real workers work: they serve the new checkpoint within ten seconds, no job is lost or mixed."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.checkpoints import Checkpoint
from db.doorbell import Doorbell
from db.jobs import Job
from db.predictions import Prediction
from db.queries import promotions
from db.session import Database
from db.states import JobState
from db.workers import WorkerHeartbeat
from inference import artefact
from tests.work_rig import PATIENCE, pictures, results_of, running_items, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet
from worker.housekeeping import Housekeeper

SWITCHED_WITHIN_S = 10.0


@pytest.mark.slow
def test_workers_switch_between_two_batches(
    work: Settings, database: Database, fleets: Callable[..., Fleet], record_property: Callable[[str, object], None]
) -> None:
    tiny = artefact.load(work.models_dir / "tiny.neurosight")
    digest = artefact.write(
        work.models_dir / "other.neurosight",
        replace(tiny.manifest, temperature=3.0, members={}),
        tiny.weights(),
        tiny.openvino_xml,
        tiny.openvino_bin,
        tiny.model_card,
    )
    with Housekeeper(work) as housekeeper:
        housekeeper.register_models()
    fleet = fleets(delay_s=0.1)
    for role in (DISPATCHER, "intake", "classify"):
        fleet.start(role)
    bell = Doorbell(work)
    before = submit(database, work, pictures(60), doorbell=bell)
    wait_for(lambda: running_items(database), 60, 0.02)
    with database.write() as session:
        other = session.scalars(select(Checkpoint.id).where(Checkpoint.digest == digest)).one()
        newest = promotions.newest_promotion(session)
        promotions.promote(session, other, by=None, reason="test", seen=newest.id if newest else None)
    began = time.monotonic()
    assert running_items(database), "the promotion was meant to come in the middle of a job"

    def loaded() -> bool:
        with database.read() as session:
            beats = session.scalars(select(WorkerHeartbeat)).all()
        return any(beat.checkpoint_id == other for beat in beats)

    wait_for(loaded, SWITCHED_WITHIN_S, 0.05)
    seconds = time.monotonic() - began
    record_property("switched_after_s", round(seconds, 2))
    assert seconds < SWITCHED_WITHIN_S * PATIENCE / 4
    after = submit(database, work, pictures(12, first_seed=100), doorbell=bell)
    assert wait_ended(database, [before, after], 90) == [JobState.SUCCEEDED] * 2
    bell.close()
    with database.read() as session:
        for job_id, count in ((before, 60), (after, 12)):
            job = session.get_one(Job, job_id)
            assert job.checkpoint_id == (other if job_id == after else session.get_one(Job, before).checkpoint_id)
            used = session.scalars(select(Prediction.checkpoint_id).where(Prediction.job_id == job_id)).all()
            assert used == [job.checkpoint_id] * count
        assert session.get_one(Job, before).checkpoint_id != other
        beats = session.scalars(select(WorkerHeartbeat)).all()
        assert max(int(beat.facts.get("models_loaded", 0)) for beat in beats) <= 2
    assert len(results_of(database, before)) == 60
