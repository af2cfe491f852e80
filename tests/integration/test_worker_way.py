"""The way of a study through intake and classification, in one process, on both databases."""

import uuid
from pathlib import Path

import pytest
from sqlalchemy import select

from config.queues import QUEUES
from config.settings import Settings
from db.jobs import Job, ReceivedFile, WorkItem
from db.session import Database
from db.states import JobState
from tests.work_rig import (
    context_for,
    job_state,
    models_folder,
    pictures,
    promote_tiny,
    results_of,
    slice_counts,
    submit,
)
from worker.context import Context
from worker.work import turn


@pytest.fixture
def work(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the tiny model, promoted, and small chunks."""
    changed = settings.model_copy(
        update={"models_dir": models_folder(tmp_path / "models"), "chunk_slices": 4, "retry_delay_s": 0.0}
    )
    promote_tiny(changed)
    return changed


@pytest.fixture
def context(work: Settings):
    opened = context_for(work, QUEUES)
    yield opened
    opened.close()


def receipt(database: Database, job_id: uuid.UUID) -> dict[str, tuple[str, str]]:
    with database.read() as session:
        lines = session.scalars(select(ReceivedFile).where(ReceivedFile.job_id == job_id)).all()
        return {line.path: (line.outcome, line.reason) for line in lines}


def test_a_folder_of_pictures_is_classified(work: Settings, context: Context, database: Database) -> None:
    job_id = submit(database, work, pictures(10))
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    assert slice_counts(database, job_id) == {"done": 10}
    found = results_of(database, job_id)
    assert len(found) == len(set(found)) == 10
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert job.checkpoint_id is not None
        assert len(job.content_digest) == 64
        items = session.scalars(select(WorkItem).where(WorkItem.job_id == job_id)).all()
        assert sorted((item.queue, item.slices, item.state) for item in items) == [
            ("batch", 2, "done"),
            ("batch", 4, "done"),
            ("batch", 4, "done"),
            ("intake", 0, "done"),
        ]
    assert set(receipt(database, job_id).values()) == {("accepted", "accepted")}
