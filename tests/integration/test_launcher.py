"""The launcher with small real services and the real broker: starts, mends, restarts, and leaves nobody behind."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.settings import ROOT
from ops import groups
from tests.servers import free_port

PROCFILE = """\
broker: python -m ops.broker
worker: python tests/integration/launcher_service.py worker
web: python tests/integration/launcher_service.py web
"""
TIMEOUT_S = 30.0


def eventually(question: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Waits until `question` is true."""
    deadline = time.monotonic() + timeout_s
    while not question():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for: {what}"
        time.sleep(0.05)


class Launched:
    """One `python -m ops up` and what it says."""

    def __init__(self, folder: Path, procfile: str = PROCFILE, **environment: str) -> None:
        self.var_dir = folder / "var"
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        procfile_path = folder / "Procfile"
        procfile_path.write_text(procfile)
        inherited = {key: value for key, value in os.environ.items() if key not in {"MAKELEVEL"}}
        web_port = environment.get("NEUROSIGHT_WEB_PORT", str(free_port()))
        self.web_url = f"http://127.0.0.1:{web_port}"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops", "up", "--procfile", str(procfile_path)],
                cwd=ROOT,
                env={
                    **inherited,
                    "NEUROSIGHT_VAR_DIR": str(self.var_dir),
                    "NEUROSIGHT_WEB_PORT": web_port,
                    **environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Everything it printed so far."""
        return self.output.read_text()

    def until_ready(self) -> "Launched":
        """Waits for the ready line."""
        eventually(lambda: "ready after" in self.said or self.process.poll() is not None, "the ready line")
        assert self.process.poll() is None, self.said
        return self

    def ended(self) -> int:
        """Waits for the launcher's end; returns its status."""
        return self.process.wait(TIMEOUT_S)

    def alive(self) -> list[str]:
        """Services of which any process lives."""
        return [path.stem for path in groups.left_over(self.var_dir / "run")]

    def service_pid(self, name: str) -> int:
        """The first process of a service."""
        (path,) = (self.var_dir / "run").glob(f"?-{name}.group")
        group = groups.group_of(path)
        assert group is not None
        return group


@pytest.fixture
def launch(tmp_path: Path, sqlite_template: Path) -> Iterator[Callable[..., Launched]]:
    """Starts launchers in one folder, and ends those that a failed test left."""
    started: list[Launched] = []
    (tmp_path / "var").mkdir()
    shutil.copyfile(sqlite_template, tmp_path / "var" / "neurosight.db")  # migrating is tested elsewhere

    def start(procfile: str = PROCFILE, **environment: str) -> Launched:
        started.append(Launched(tmp_path, procfile, **environment))
        return started[-1]

    yield start
    for launched in started:
        if launched.process.poll() is None:
            launched.process.send_signal(signal.SIGINT)
            launched.ended()
        groups.end(groups.left_over(launched.var_dir / "run"), 1.0)


def test_the_first_start_migrates_and_a_newer_database_is_refused(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    database = tmp_path / "var" / "neurosight.db"
    database.unlink()
    first = launch().until_ready()
    assert re.search(r"neurosight.db is at revision \w+ \(was empty\)\n", first.said)
    first_login = re.compile(r"first login: admin, one-time password [a-z2-9-]{23} ")
    eventually(lambda: first_login.search(first.said), "the first login")
    first.process.send_signal(signal.SIGINT)
    assert first.ended() == 0
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
        connection.commit()
    second = launch()
    assert second.ended() == 1
    assert "the database is at revision from_the_future, which this version of the code does not know" in second.said


def processes_of(var_dir: Path) -> list[str]:
    """Command lines of living processes that carry this `var_dir` in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if str(var_dir).encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_order(launch: Callable[..., Launched], number: signal.Signals) -> None:
    launched = launch().until_ready()
    assert sorted(launched.alive()) == ["0-broker", "1-worker", "2-web"]
    launched.process.send_signal(number)
    assert launched.ended() == 0, launched.said
    assert launched.alive() == []
    assert processes_of(launched.var_dir) == []
    ends = [line.split()[0] for line in (launched.var_dir / "ends").read_text().splitlines()]
    assert ends == ["web", "worker"], "the front ends before the workers"
    assert "bye bye" in (launched.var_dir / "log" / "broker.log").read_text(), "the broker ended by itself, last"


def test_a_killed_launcher_leaves_nobody_behind_and_the_next_start_works(launch: Callable[..., Launched]) -> None:
    first = launch().until_ready()
    first.process.kill()
    first.ended()
    second = launch()  # at once: it waits for the watchdog of the first
    second.until_ready()
    assert len([line for line in processes_of(second.var_dir) if "launcher_service.py web" in line]) == 1
    second.process.kill()
    second.ended()
    eventually(lambda: not processes_of(second.var_dir), "all processes to end")
    assert second.alive() == []


def test_services_left_by_a_killed_launcher_and_watchdog_are_ended_first(launch: Callable[..., Launched]) -> None:
    first = launch().until_ready()
    watchdogs = subprocess.run(
        ["pgrep", "-f", f"ops.watchdog {first.var_dir}"], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in (*map(int, watchdogs), first.process.pid):
        os.kill(pid, signal.SIGKILL)
    first.ended()
    orphan = first.service_pid("worker")
    assert sorted(first.alive()) == ["0-broker", "1-worker", "2-web"]
    second = launch().until_ready()
    assert "an earlier run left web, worker, broker behind" in second.said
    assert second.service_pid("worker") != orphan
    assert len([line for line in processes_of(second.var_dir) if "launcher_service.py worker" in line]) == 2


def test_a_second_start_in_the_same_folder_names_the_first(launch: Callable[..., Launched]) -> None:
    port = str(free_port())
    first = launch(NEUROSIGHT_WEB_PORT=port).until_ready()
    second = launch()
    assert second.ended() == 1
    assert f"already runs in this folder: process {first.process.pid}, http://127.0.0.1:{port}" in second.said
    assert first.process.poll() is None


def test_a_crashed_service_is_started_again_without_its_orphans(launch: Callable[..., Launched]) -> None:
    launched = launch().until_ready()
    before = launched.service_pid("worker")
    os.kill(before, signal.SIGKILL)  # its child lives on, as Celery's would
    eventually(lambda: "worker was ended by SIGKILL; starting it again in 1 s" in launched.said, "the notice")
    eventually(lambda: launched.service_pid("worker") != before, "a new worker")
    workers = [line for line in processes_of(launched.var_dir) if "launcher_service.py worker" in line]
    assert len(workers) <= 2, workers
    assert "worker" not in {name.partition("-")[2] for name in launched.alive()} or launched.process.poll() is None


def test_a_service_that_cannot_start_stops_everything_and_shows_why(launch: Callable[..., Launched]) -> None:
    launched = launch(PROCFILE.splitlines()[0] + "\nworker: python tests/integration/launcher_service.py failing\n")
    assert launched.ended() == 1
    assert "worker ended with status 7, 4 times in a row" in launched.said
    assert "cannot find the thing that is needed" in launched.said
    assert launched.alive() == []


def test_a_taken_default_port_is_named_and_the_next_one_used(launch: Callable[..., Launched]) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        refused = launch(NEUROSIGHT_WEB_PORT=str(taken))
        assert refused.ended() == 1
        assert f"port {taken} is taken by process {os.getpid()} (" in refused.said
        assert "set NEUROSIGHT_WEB_PORT to another port" in refused.said


def test_secrets_are_private_and_never_on_a_command_line(launch: Callable[..., Launched]) -> None:
    launched = launch().until_ready()
    password = (launched.var_dir / "secrets" / "broker_password").read_text().strip()
    assert len(password) == 64
    private = ["secrets/broker_password", "secrets/secret_key", "neurosight.env", "broker/broker.conf", "launcher.lock"]
    for name in private:
        assert stat.S_IMODE((launched.var_dir / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(launched.var_dir.stat().st_mode) == 0o700
    assert not [line for line in processes_of(launched.var_dir) if password in line]
    logs = "".join(path.read_text() for path in (launched.var_dir / "log").iterdir())
    assert password not in logs + launched.said


def test_an_interrupted_first_run_is_mended_and_own_lines_are_kept(launch: Callable[..., Launched]) -> None:
    launched = launch().until_ready()
    var_dir = launched.var_dir
    launched.process.send_signal(signal.SIGINT)
    assert launched.ended() == 0
    key = (var_dir / "secrets" / "secret_key").read_text()
    (var_dir / "secrets" / "broker_password").write_text("half")
    (var_dir / "neurosight.env").write_text(
        "NEUROSIGHT_CHUNK_SLICES=16\n" + (var_dir / "neurosight.env").read_text().partition("NEUROSIGHT_BROKER")[0]
    )
    (var_dir / "neurosight.env.new").write_text("left by a crash")
    again = launch().until_ready()
    text = (var_dir / "neurosight.env").read_text()
    assert text.startswith("NEUROSIGHT_CHUNK_SLICES=16\n")
    assert text.count("NEUROSIGHT_SECRET_KEY=") == 1
    assert (var_dir / "secrets" / "secret_key").read_text() == key
    assert len((var_dir / "secrets" / "broker_password").read_text().strip()) == 64
    assert json.loads((var_dir / "launcher.lock").read_text())["pid"] == again.process.pid
