"""Senders that break off or crawl leave nothing behind, and hold up nobody else."""

import http.client
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config.settings import Settings
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.uploads import Upload
from tests.web_process import WebProcess

SENDERS = 50
OTHERS_WAIT_S = 2.0
"""Generous: the machine of the tests has two cores and other work."""


@pytest.fixture
def token(database: Database) -> str:
    with database.write() as db:
        user = accounts.create_user(db, "ann", "correct horse battery", Role.SUBMITTER, by=SYSTEM)
        return accounts.create_token(db, user, "test", by=SYSTEM, expires_at=None)[1]


@pytest.fixture
def web(process_environment: dict[str, str], tmp_path: Path) -> Iterator[WebProcess]:
    process = WebProcess(process_environment, tmp_path / "web.log")
    yield process
    process.kill()


@pytest.mark.slow
def test_broken_and_slow_senders_leave_nothing_and_hold_up_nobody(
    web: WebProcess, settings: Settings, database: Database, token: str
) -> None:
    head = (
        "POST /api/v1/studies HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 500000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    ).encode()
    senders = []
    for _ in range(SENDERS):
        sender = socket.create_connection(("127.0.0.1", web.port), timeout=10)
        sender.sendall(head + os.urandom(2000))
        senders.append(sender)
    waits = []
    for _ in range(20):
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
        connection.request("GET", "/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        connection.close()
        waits.append(time.monotonic() - started)
    assert sorted(waits)[18] < OTHERS_WAIT_S, waits
    for sender in senders:
        sender.close()
    spool = settings.var_dir / "blobs" / "incoming"
    deadline = time.monotonic() + 40
    while list(spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list(spool.iterdir()) == []
    with database.read() as db:
        assert db.scalar(select(func.count()).select_from(Upload)) == 0
