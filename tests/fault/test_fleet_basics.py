"""A fleet of real processes does a study, is ready in time, and ends in order."""

import time
from pathlib import Path

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.queries.heartbeats import ready_workers
from db.session import Database
from db.states import JobState
from db.workers import WorkerHeartbeat
from tests.servers import BrokerServer
from tests.work_rig import PATIENCE, models_folder, pictures, promote_tiny, results_of, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.fixture
def work(settings: Settings, broker: BrokerServer, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"models_dir": models_folder(tmp_path / "models"), "housekeeping_period_s": 0.5})


def test_three_processes_do_a_study_and_leave_nothing(work: Settings, database: Database, tmp_path: Path) -> None:
    promote_tiny(work)
    with Fleet(work, tmp_path / "logs") as fleet:
        started = time.monotonic()
        classify = fleet.start("classify")
        wait_for(lambda: _ready(database, work), 30)
        ready_after_s = time.monotonic() - started
        fleet.start("intake")
        fleet.start(DISPATCHER)
        job_id = submit(database, work, pictures(70), doorbell=Doorbell(work))
        assert wait_ended(database, [job_id], 60) == [JobState.SUCCEEDED]
        assert len(set(results_of(database, job_id))) == 70
        assert ready_after_s < 5 * PATIENCE
        child = fleet.child(classify)
        maps = Path(f"/proc/{classify.pid}/maps").read_text()
        assert "openvino" not in maps, "the parent process loaded the engine"
        assert "openvino" in Path(f"/proc/{child}/maps").read_text()
        resident = int(Path(f"/proc/{child}/statm").read_text().split()[1]) * 4096
        assert resident < 1024**3
        fleet.close()
        with database.read() as session:
            assert session.scalars(select(WorkerHeartbeat.name)).all() == []


def _ready(database: Database, settings: Settings) -> bool:
    with database.read() as session:
        return bool(ready_workers(session, age_s=settings.worker_ready_age_s))
