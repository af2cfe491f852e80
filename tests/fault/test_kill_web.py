"""Promise 1: what was answered with 2xx is there, whenever the web process is killed."""

import hashlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from config.settings import Settings
from db.blobs import BlobStore
from db.jobs import Job, WorkItem
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role, UploadState
from db.uploads import Upload, UploadFile
from tests.servers import BrokerServer, free_port
from tests.starter import Starter
from tests.work_rig import PATIENCE, picture, wait_for

KILLS, SENDERS = 25, 3  # on each of two databases: fifty


class Web:
    """The web server as the Procfile starts it, killed and started again on the same port."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.port = free_port()
        named = settings.model_copy(update={"web_port": self.port})
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")}
        self._environment |= {
            f"NEUROSIGHT_{name.upper()}": str(getattr(named, name)) for name in named.model_fields_set
        }
        self._log = log
        self._starter = Starter("web.*", "gunicorn.app.wsgiapp", "gunicorn.workers.gthread")
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/health/live", timeout=2).ok
        except requests.RequestException:
            return False

    def start(self) -> None:
        command = ("gunicorn", "--config", "ops/gunicorn_conf.py", "web:create_app()")
        self._process = self._starter.start(*command, environment=self._environment, log=self._log, leads_group=True)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20 * PATIENCE)

    def close(self) -> None:
        """Kills it for good."""
        self.kill()
        self._starter.close()


@pytest.mark.slow
def test_every_accepted_upload_survives_the_kill(
    settings: Settings, broker: BrokerServer, database: Database, tmp_path: Path
) -> None:
    with database.write() as session:
        user = accounts.create_user(session, "sender", "correct horse battery staple", Role.SUBMITTER, by=SYSTEM)
        _, token = accounts.create_token(session, user, "test", by=SYSTEM, expires_at=None)
    web = Web(settings, tmp_path / "web.log")
    accepted: dict[str, str] = {}
    ended = threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            content = picture(sender * 100_000 + number, 64)
            try:
                answer = requests.post(
                    f"{web.address}/api/v1/studies",
                    headers={"Authorization": f"Bearer {token}"},
                    files={"files": (f"{sender}-{number}.png", content, "image/png")},
                    timeout=20,
                )
            except requests.RequestException:
                time.sleep(0.02)
                continue
            if answer.status_code == 202:
                accepted[answer.headers["Location"].rstrip("/").rpartition("/")[2]] = hashlib.sha256(
                    content
                ).hexdigest()

    chance = random.Random(7)
    senders = [threading.Thread(target=send, args=(sender,), daemon=True) for sender in range(SENDERS)]
    try:
        wait_for(web.answers, 30)
        for sender in senders:
            sender.start()
        for _ in range(KILLS):
            before = len(accepted)
            wait_for(lambda before=before: len(accepted) > before, 30, 0.01)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.25))
            web.kill()
            web.start()
    finally:
        ended.set()
        for sender in senders:
            sender.join(30)
        web.close()
        print((tmp_path / "web.log").read_text(errors="replace")[-4000:])
    assert len(accepted) >= KILLS
    blobs = BlobStore(settings.resolved_blob_url)
    with database.read() as session:
        rows = session.execute(
            select(Job.id, Upload.state, UploadFile.sha256, WorkItem.state)
            .join(Upload, Upload.id == Job.upload_id)
            .join(UploadFile, UploadFile.upload_id == Upload.id)
            .join(WorkItem, WorkItem.job_id == Job.id)
        ).all()
    stored = {str(job_id): (state, digest, item) for job_id, state, digest, item in rows}
    for job_id, digest in accepted.items():
        assert stored[job_id] == (UploadState.COMPLETED, digest, "pending")
        assert hashlib.sha256(blobs.read(digest)).hexdigest() == digest
