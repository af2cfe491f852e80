"""The client against a real server process: bars, broken connections, exit codes, results on disk."""

import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from client import Client, Refused, Unreachable, gather
from client.__main__ import main
from client.api import Sending
from config.settings import ROOT
from db.jobs import Job
from db.uploads import UploadFile
from tests.servers import free_port
from tests.web_process import CuttingProxy, WebProcess
from tests.web_world import World
from tests.work_rig import picture, pictures


@pytest.fixture
def server(world: World, process_environment: dict[str, str], tmp_path: Path) -> Iterator[WebProcess]:
    """A web process on the world's database."""
    process = WebProcess(process_environment, tmp_path / "web.log", models_dir=world.settings.models_dir)
    yield process
    process.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of six pictures, a text, and an empty file."""
    top = tmp_path / "study of today"
    for name, data in pictures(6, folder="axial").items():
        place = top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (top / "readme.txt").write_text("not an image")
    (top / "empty.dcm").touch()
    return top


def test_a_folder_is_sent_and_its_results_come_back(
    server: WebProcess, world: World, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ann = world.people["ann"]
    sent = subprocess.run(
        [sys.executable, "-m", "client", "submit", str(folder), "--url", server.url, "--no-wait", "--title", "Today"],
        cwd=ROOT,
        env={**os.environ, "NEUROSIGHT_TOKEN": ann.token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    job_id = sent.stdout.strip()
    assert "100 % sending 8/8 files" in sent.stderr
    world.work()
    out = tmp_path / "out" / "results.csv"
    out.parent.mkdir()
    status = main(["wait", job_id, "--url", server.url, "--token", ann.token, "--out", str(out)])
    assert status == 3  # a text and an empty file have no result
    shown = capfd.readouterr().out
    assert f"Job {job_id}: succeeded" in shown
    assert "1 empty" in shown
    assert "Research use only" in shown
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["state"] for row in rows] == ["done"] * 6
    assert {row["path"] for row in rows} == {f"study of today/axial/slice {number}.png" for number in range(1, 7)}
    for row in rows:
        probabilities = [float(value) for name, value in row.items() if name.startswith("probability_")]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert float(row["probability"]) == max(probabilities)
    assert [path.name for path in out.parent.iterdir()] == ["results.csv"]


def test_a_broken_connection_is_taken_up_where_it_broke(server: WebProcess, world: World, tmp_path: Path) -> None:
    ann = world.people["ann"]
    top = tmp_path / "large"
    top.mkdir()
    for number in range(6):
        (top / f"{number}.bin").write_bytes(os.urandom(300_000))
    proxy = CuttingProxy(server.port, [800_000, 100_000, 500_000])
    seen: list[Sending] = []
    troubles: list[str] = []

    def watch(state: Sending) -> None:
        seen.append(state)
        if state.trouble:
            troubles.append(state.trouble)

    with Client(proxy.url, ann.token, patience_s=60) as client:
        job = client.submit(gather([top]), on_progress=watch)
        again = client.job(job["id"])
    proxy.close()
    assert again["files"]["sent"] == 6
    assert len(troubles) >= 3
    assert proxy.connections >= 4
    assert (seen[-1].files_done, seen[-1].bytes_done) == (6, 1_800_000)
    with world.database.read() as db:
        rows = db.execute(select(UploadFile.path, UploadFile.size_bytes).order_by(UploadFile.path)).all()
        assert db.scalar(select(func.count()).select_from(Job)) == 1
    assert rows == [(f"large/{number}.bin", 300_000) for number in range(6)]
    spool = world.settings.var_dir / "blobs" / "incoming"
    assert list(spool.iterdir()) == []


def test_a_server_that_restarts_in_the_middle(server: WebProcess, world: World, tmp_path: Path) -> None:
    ann = world.people["ann"]
    top = tmp_path / "s"
    top.mkdir()
    for number in range(8):
        (top / f"{number}.png").write_bytes(picture(number))
    killed: list[int] = []

    def watch(state: Sending) -> None:
        if state.files_done == 4 and not killed:
            killed.append(1)
            server.kill()
            server.start()

    with Client(server.url, ann.token, patience_s=60) as client:
        job = client.submit(gather([top]), on_progress=watch)
        assert client.job(job["id"])["files"]["sent"] == 8
    assert killed


def test_refusals_are_told_with_their_reason(
    server: WebProcess, world: World, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(folder), "--url", server.url, "--token", "nst_wrong"]) == 5
    assert "token is not valid" in capfd.readouterr().err
    with Client(server.url, world.people["bob"].token) as client, pytest.raises(Refused, match="no job of this number"):
        client.job("00000000-0000-4000-8000-000000000000")


def test_nothing_to_send_and_nobody_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEUROSIGHT_TOKEN", raising=False)
    nobody = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "empty").mkdir()
    assert main(["submit", str(tmp_path / "empty"), "--url", nobody, "--token", "x"]) == 2
    assert main(["submit", str(tmp_path / "missing"), "--url", nobody, "--token", "x"]) == 2
    assert main(["submit", str(tmp_path), "--url", nobody]) == 2
    assert main(["submit", __file__, "--url", "ftp://x", "--token", "x"]) == 2
    assert main(["submit", __file__, "--url", nobody, "--token", "x", "--patience", "1"]) == 6
    told = capfd.readouterr().err
    assert "found no file" in told
    assert "no answer from 127.0.0.1" in told
    with Client(nobody, "x", patience_s=0.5) as client, pytest.raises(Unreachable, match=r"in [12] tries"):
        client.me()
