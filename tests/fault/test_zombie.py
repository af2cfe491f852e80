"""Promise 4: a worker that was frozen and comes back cannot write over what others did."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import WorkItem
from db.session import Database
from db.states import JobState
from db.users import AuditEvent
from tests.work_rig import pictures, results_of, running_items, submit, wait_ended, wait_for
from tests.worker_fleet import DISPATCHER, Fleet


@pytest.mark.slow
def test_a_frozen_worker_is_fenced(work: Settings, database: Database, fleets: Callable[..., Fleet]) -> None:
    fleet = fleets(delay_s=0.1)
    fleet.start(DISPATCHER)
    fleet.start("intake")
    frozen = fleet.start("classify")
    child = fleet.child(frozen)
    job_id = submit(database, work, pictures(20), doorbell=Doorbell(work))
    wait_for(lambda: running_items(database), 60, 0.02)
    frozen.send_signal(signal.SIGSTOP)
    _freeze(child, database)
    try:
        fleet.start("classify")
        assert wait_ended(database, [job_id], 60) == [JobState.SUCCEEDED]
        before = _written(database)
    finally:
        os.kill(child, signal.SIGCONT)
        frozen.send_signal(signal.SIGCONT)

    def fenced() -> AuditEvent | None:
        with database.read() as session:
            return session.scalars(select(AuditEvent).where(AuditEvent.action == "fenced")).one_or_none()

    event = wait_for(fenced, 30)
    assert event.outcome == "denied"
    assert f"#{child}." in event.detail["worker"]
    assert event.detail["job_id"] == str(job_id)
    assert _written(database) == before
    assert len(results_of(database, job_id)) == 20


def _freeze(pid: int, database: Database) -> None:
    """Stops a process while it works, not while it writes.

    One that is stopped inside a write transaction of SQLite keeps the lock until it continues or is killed, and nobody
    else can write meanwhile: that is how SQLite is, and one of the reasons for PostgreSQL.
    """
    while True:
        os.kill(pid, signal.SIGSTOP)
        if not database.is_sqlite or _can_write(database):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


def _can_write(database: Database) -> bool:
    connection = sqlite3.connect(str(database.engine.url.database), isolation_level=None, timeout=0.2)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _written(database: Database) -> list[tuple[object, ...]]:
    """Everything a late write would change."""
    with database.read() as session:
        rows = session.execute(
            select(WorkItem.id, WorkItem.state, WorkItem.attempts, WorkItem.worker_name, WorkItem.finished_at).order_by(
                WorkItem.id
            )
        )
        return [tuple(row) for row in rows]
