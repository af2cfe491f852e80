"""A large body goes to disk as it comes: the server's memory stays flat. With a real server process."""

import http.client
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db.jobs import Job
from db.uploads import UploadFile
from tests.web_process import WebProcess
from tests.web_world import World

MIB = 1024 * 1024
SENT_MIB = 96
GROWTH_MIB = 32
"""Most that the process may grow by; the body is three times as large."""


@pytest.fixture
def server(world: World, process_environment: dict[str, str], tmp_path: Path) -> Iterator[WebProcess]:
    process = WebProcess(process_environment, tmp_path / "web.log", models_dir=world.settings.models_dir)
    yield process
    process.stop()


def peak_mib(group: int) -> float:
    """Largest peak of resident memory of the group's processes, as Linux counts it."""
    peaks = [0]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if os.getpgid(int(folder.name)) == group:
                found = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
                peaks.append(int(found.group(1)) if found else 0)
        except OSError:
            continue  # ended meanwhile
    return max(peaks) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "form"])
def test_memory_stays_flat(server: WebProcess, world: World, kind: str) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    head, tail, content_type = b"", b"", "application/zip"
    if kind == "form":
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a/b"\r\n\r\n'
        tail, content_type = b"\r\n--b--\r\n", "multipart/form-data; boundary=b"
    before = peak_mib(server.group)
    block = os.urandom(MIB)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.putrequest("POST", "/api/v1/studies")
    connection.putheader("Authorization", f"Bearer {world.people['ann'].token}")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(SENT_MIB * MIB + len(head) + len(tail)))
    connection.endheaders()
    connection.send(head)
    for _ in range(SENT_MIB):
        connection.send(block)
    connection.send(tail)
    answer = connection.getresponse()
    job = json.loads(answer.read())
    connection.close()
    assert answer.status == 202, job
    with world.database.read() as db:
        upload_id = db.get_one(Job, uuid.UUID(job["id"])).upload_id
        assert db.scalars(select(UploadFile.size_bytes).where(UploadFile.upload_id == upload_id)).all() == [
            SENT_MIB * MIB
        ]
    assert peak_mib(server.group) - before < GROWTH_MIB
