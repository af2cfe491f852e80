"""One service of the Procfile as running processes.

Owns its start (own session, own process group, output into `var/log/NAME.log`), the reading of that log for the
console, and when it may be started again. Refuses to know what the service does.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from honcho.environ import parse_procfile

from config.settings import ROOT, Settings
from ops import groups

LOG_LIMIT_BYTES = 20 * 1024 * 1024
RESTART_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HEALTHY_AFTER_S = 60.0
LINE_LIMIT = 64 * 1024

STAGES = {"broker": 0, "dispatcher": 2, "web": 2, "listener": 2, "watcher": 2}
"""Services of a higher stage end first: nothing is sent to a worker that is gone, no worker loses its broker."""
WORKER_STAGE = 1


def read_procfile(path: Path, *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Name and command of every service, in the file's order."""
    processes: dict[str, str] = dict(parse_procfile(path.read_text()).processes)
    return {name: command for name, command in processes.items() if name not in without}


def switched_off(settings: Settings) -> frozenset[str]:
    """Services that these settings do not ask for."""
    wanted = {"listener": settings.dicom_port > 0, "watcher": settings.watch_dir is not None}
    return frozenset(name for name, on in wanted.items() if not on)


@dataclass
class Service:
    """A supervised service."""

    name: str
    command: str
    log_path: Path
    run_folder: Path
    environment: Mapping[str, str]
    failures: int = 0
    """Ends in a row without a healthy time between."""
    start_at: float | None = 0.0
    """Monotonic time of the next start; None while it runs or is not wanted."""
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _log: IO[bytes] | None = None
    _rest: bytes = b""
    _told_to_end: bool = field(default=False)

    @property
    def stage(self) -> int:
        """Higher ends earlier."""
        return STAGES.get(self.name, WORKER_STAGE)

    @property
    def run_file(self) -> Path:
        """Names the process group, and is locked while any process of it lives."""
        return self.run_folder / f"{self.stage}-{self.name}.group"

    @property
    def pid(self) -> int | None:
        """The first process of the group; None while the service does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the service in a group of its own, so that Ctrl-C reaches the launcher alone."""
        self._rotate_log()
        run_descriptor = groups.open_run_file(self.run_file)
        try:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    _command(self.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=_with_our_programs(self.environment),
                    start_new_session=True,
                    pass_fds=(run_descriptor,),
                )
            os.ftruncate(run_descriptor, 0)
            os.write(run_descriptor, f"{self._process.pid}\n".encode())
        finally:
            os.close(run_descriptor)  # the lock stays with the service
        self._started = time.monotonic()
        self.start_at = None

    def check(self) -> int | None:
        """Notices an end; returns the exit status once (negative: the signal), and plans the next start."""
        if self._process is None:
            return None
        status = self._process.poll()
        if status is None:
            if self.failures and time.monotonic() - self._started > HEALTHY_AFTER_S:
                self.failures = 0
            return None
        if groups.is_alive(self.run_file):
            groups.kill_group(self._process.pid)  # children whose parent is gone
        self._process = None
        if not self._told_to_end:
            delay = RESTART_DELAYS_S[min(self.failures, len(RESTART_DELAYS_S) - 1)]
            self.failures += 1
            self.start_at = time.monotonic() + delay
        return status

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the first process, and never starts the service again."""
        self._told_to_end, self.start_at = True, None
        if self._process is not None:
            groups.signal_leader(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the whole group at once."""
        self._told_to_end, self.start_at = True, None
        if self._process is not None:
            groups.kill_group(self._process.pid)

    def new_lines(self) -> Iterator[str]:
        """Lines that the service wrote since the last call."""
        if self._log is None:
            if not self.log_path.exists():
                return
            self._log = self.log_path.open("rb")
        if self._log.tell() > os.fstat(self._log.fileno()).st_size:
            self._log.seek(0)
        while piece := self._log.read(LINE_LIMIT):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            if len(self._rest) > LINE_LIMIT:
                yield self._rest.decode("utf-8", "replace")
                self._rest = b""

    def last_lines(self, count: int) -> list[str]:
        """The end of the log."""
        if not self.log_path.exists():
            return []
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - LINE_LIMIT))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]

    def limit_log(self) -> None:
        """Keeps a log that a running service writes within its limit: the full one is copied to `.1` and emptied."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            kept = self.log_path.with_suffix(".log.1")
            kept.write_bytes(self.log_path.read_bytes())
            os.truncate(self.log_path, 0)  # the service appends, and so goes on at the beginning

    def skip_old_lines(self) -> None:
        """What an earlier run wrote is not shown again."""
        self.log_path.touch(mode=0o600)
        self._log = self.log_path.open("rb")
        self._log.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Closes the log and forgets the run file of a service that has ended."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if not groups.is_alive(self.run_file):
            self.run_file.unlink(missing_ok=True)

    def _rotate_log(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.limit_log()


def _command(line: str) -> list[str]:
    program, *arguments = shlex.split(line)
    here = Path(sys.executable).parent / program
    return [sys.executable if program == "python" else str(here) if here.exists() else program, *arguments]


def _with_our_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which `python` and the installed programs are those of this virtual environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return {**environment, "PATH": path}
