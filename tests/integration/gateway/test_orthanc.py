"""Orthanc as the department's archive: it sends a study over DIMSE, and over STOW-RS."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from config.settings import Settings
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.receptions import Reception
from db.session import Database
from db.states import Role
from db.uploads import UploadFile
from tests.listener_process import AE_TITLE, ListenerProcess
from tests.servers import free_port
from tests.web_process import WebProcess
from tests.work_rig import PATIENCE

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if os.path.exists("/usr/sbin/Orthanc") else "")  # noqa: PTH110
pytestmark = [
    pytest.mark.skipif(not ORTHANC or not PLUGIN.exists(), reason="needs orthanc and orthanc-dicomweb"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@contextlib.contextmanager
def orthanc(folder: Path, *, listener_port: int, web_url: str, token: str) -> Iterator[str]:
    """A running Orthanc that knows NeuroSight by both ways; yields its address."""
    folder.mkdir()
    port = free_port()
    configuration = {
        "Name": "archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "DicomPort": free_port(),
        "DicomAet": "ORTHANC",
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "Plugins": [str(PLUGIN)],
        "DicomModalities": {"neurosight": [AE_TITLE, "127.0.0.1", listener_port]},
        "DicomWeb": {
            "Enable": True,
            "StowMaxInstances": 2,
            "Servers": {
                "neurosight": {
                    "Url": f"{web_url}/dicomweb/",
                    "HttpHeaders": {"Authorization": f"Bearer {token}"},
                }
            },
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20 * PATIENCE
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}/system", timeout=10).raise_for_status()
                break
            assert process.poll() is None, (folder / "orthanc.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "orthanc.log").read_text()[-3000:]
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20 * PATIENCE)


def test_an_archive_sends_by_dimse_and_by_stow(
    settings: Settings,
    process_environment: dict[str, str],
    database: Database,
    scanner: str,
    make_study: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:
    with database.write() as session:
        user = accounts.find_user(session, scanner)
        assert user is not None
        _, token = accounts.create_token(session, user, "archive", by=SYSTEM, expires_at=None)
        assert Role(user.role) is Role.SUBMITTER
    web = WebProcess(process_environment, tmp_path / "web.log")
    try:
        with (
            ListenerProcess(process_environment, tmp_path / "listener.log") as listener,
            orthanc(tmp_path / "orthanc", listener_port=listener.port, web_url=web.url, token=token) as archive,
        ):

            def post(address: str, **more: Any) -> requests.Response:
                return requests.post(f"{archive}{address}", timeout=60 * PATIENCE, **more)

            for path in make_study(1, 5):
                post("/instances", data=path.read_bytes()).raise_for_status()
            (study,) = requests.get(f"{archive}/studies", timeout=30).json()
            assert post("/modalities/neurosight/echo", json={}).status_code == 200
            sent = post("/modalities/neurosight/store", json={"Resources": [study], "Synchronous": True})
            assert (sent.status_code, sent.json()["FailedInstancesCount"]) == (200, 0), sent.text
            stored = post("/dicom-web/servers/neurosight/stow", json={"Resources": [study], "Synchronous": True})
            assert stored.status_code == 200, stored.text

            foreign = make_study(1, 6, Modality="CT")[-1]
            post("/instances", data=foreign.read_bytes()).raise_for_status()
            refused = post("/dicom-web/servers/neurosight/stow", json={"Resources": [study], "Synchronous": True})
            assert refused.status_code != 200, "Orthanc says that an instance was not taken"
    finally:
        web.stop()
    with database.read() as session:
        rows = session.scalars(select(Reception).order_by(Reception.way)).all()
        assert [(row.way, row.files) for row in rows] == [("dicom", 5), ("stow", 5)]
        names = session.scalars(select(UploadFile.path).where(UploadFile.upload_id == rows[1].upload_id)).all()
    assert sorted(names) == [f"2.25.1.{number}.dcm" for number in range(1, 6)]
