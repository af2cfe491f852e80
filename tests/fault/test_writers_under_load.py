"""Promise 11: eight processes that claim and write at once, and a rude ninth, see no database error."""

import multiprocessing
import sqlite3
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select

from config.queues import QUEUE_BATCH, TASK_CLASSIFY
from db.jobs import Job, WorkItem
from db.queries import claims
from db.session import SQLITE_BUSY_TIMEOUT_S, Database
from db.states import ItemState

PROCESSES, ITEMS = 8, 320
HELD_S = 4.0


def _work(url: str, name: str, answers: "Queue[tuple[str, int, float, str]]") -> None:
    """Claims and finishes until nothing waits; says how many, the longest write, and the first error."""
    database = Database(url)
    done, longest_s, error = 0, 0.0, ""
    try:
        while True:
            began = time.monotonic()
            with database.write() as session:
                claim = claims.claim_next(
                    session, queues=[QUEUE_BATCH], worker_name=name, lease_s=60, starvation_after_s=600
                )
            longest_s = max(longest_s, time.monotonic() - began)
            if claim is None:
                break
            began = time.monotonic()
            with database.write() as session:
                claims.finish(session, claim)
            longest_s = max(longest_s, time.monotonic() - began)
            done += 1
    except Exception as raised:  # reported to the test
        error = repr(raised)
    answers.put((name, done, longest_s, error))
    database.close()


@pytest.mark.slow
def test_eight_processes_share_the_work_without_an_error(database: Database, database_url: str) -> None:
    with database.write() as session:
        job = Job()
        session.add(job)
        session.flush()
        session.add_all(
            WorkItem(job_id=job.id, task=TASK_CLASSIFY, queue=QUEUE_BATCH, sequence=number, slices=1, max_attempts=3)
            for number in range(ITEMS)
        )
    context = multiprocessing.get_context("spawn")
    answers: Queue[tuple[str, int, float, str]] = context.Queue()
    workers = [context.Process(target=_work, args=(database_url, f"w{number}", answers)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    path = make_url(database_url).database
    if database.is_sqlite and path is not None:
        _hold_the_write_lock(Path(path))
    told = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert [error for *_, error in told if error] == []
    assert sum(done for _, done, _, _ in told) == ITEMS
    assert max(longest_s for *_, longest_s, _ in told) < SQLITE_BUSY_TIMEOUT_S
    with database.read() as session:
        rows = session.execute(
            select(WorkItem.state, WorkItem.attempts, func.count()).group_by(WorkItem.state, WorkItem.attempts)
        ).all()
    assert [tuple(row) for row in rows] == [(ItemState.DONE, 1, ITEMS)]


def _hold_the_write_lock(path: Path) -> None:
    """What somebody with the sqlite3 program may do to us."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(HELD_S)
    connection.execute("ROLLBACK")
    connection.close()
