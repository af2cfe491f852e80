"""Promise 12: a database that crashes in the middle of a job costs time, and no slice."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from config.settings import ROOT, Settings, load_settings
from db.doorbell import Doorbell
from db.session import Database
from db.states import JobState
from tests.servers import BrokerServer, PostgresServer
from tests.work_rig import (
    models_folder,
    pictures,
    promote_tiny,
    results_of,
    running_items,
    slice_counts,
    submit,
    wait_ended,
    wait_for,
)
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.mark.slow
def test_postgresql_stops_immediately_and_comes_back(
    postgresql_url: str, postgres_server: PostgresServer, broker: BrokerServer, tmp_path: Path
) -> None:
    settings = load_settings(
        var_dir=tmp_path / "var",
        database_url=postgresql_url,
        broker_url=broker.url,
        min_free_disk_bytes=0,
        models_dir=models_folder(tmp_path / "models"),
        chunk_slices=10,
        lease_s=10.0,
        retry_delay_s=0.2,
        resend_after_s=2.0,
        housekeeping_period_s=0.3,
        max_attempts=4,
        inference_threads=1,
    )
    promote_tiny(settings)
    database = Database(postgresql_url)
    environment = {"NS_TEST_DELAY_S": "0.05"}
    with Fleet(settings, tmp_path / "logs", module="tests.fault.slow_worker", environment=environment) as fleet:
        for role in (DISPATCHER, "intake", "classify"):
            fleet.start(role)
        job_id = submit(database, settings, pictures(80), doorbell=Doorbell(settings))
        wait_for(lambda: slice_counts(database, job_id).get("done", 0) >= 20, 90)
        for _ in range(2):
            postgres_server.stop("immediate")
            time.sleep(2)
            postgres_server.start()
            time.sleep(1)
        assert wait_ended(database, [job_id], 120) == [JobState.SUCCEEDED]
        found = results_of(database, job_id)
        assert len(found) == len(set(found)) == 80
    database.close()


WRITER = """
import sys, uuid
import db.models
from db.session import Database
from db.jobs import Job
database = Database(sys.argv[1])
while True:
    with database.write() as session:
        session.add_all([Job(title=uuid.uuid4().hex) for _ in range(20)])
    print("committed", flush=True)
"""


@pytest.mark.slow
def test_sqlite_is_whole_after_a_writer_was_killed_in_the_middle(sqlite_url: str) -> None:
    committed = 0
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, sqlite_url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        with writer:
            for _ in range(3):
                assert writer.stdout.readline() == b"committed\n"
                committed += 1
            writer.send_signal(signal.SIGKILL)
            committed += writer.stdout.read().count(b"committed\n")
    path = make_url(sqlite_url).database
    assert path is not None
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    count = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    connection.close()
    assert count % 20 == 0, "half a transaction was kept"
    assert count >= 20 * committed, "an acknowledged commit was lost"


@pytest.mark.slow
def test_the_work_goes_on_without_any_broker(
    work: Settings, broker: BrokerServer, database: Database, fleets: Callable[..., Fleet]
) -> None:
    fleet = fleets(delay_s=0.05)
    for role in ("intake", "classify"):
        fleet.start(role)
    first = submit(database, work, pictures(20), doorbell=Doorbell(work))
    wait_for(lambda: running_items(database), 60, 0.02)
    broker.stop(kill=True)
    second = submit(database, work, pictures(5, first_seed=700, folder="later"))
    assert wait_ended(database, [first, second], 90) == [JobState.SUCCEEDED] * 2
    assert (len(results_of(database, first)), len(results_of(database, second))) == (20, 5)
