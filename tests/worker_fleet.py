"""Real worker processes for tests: started, killed, stopped and continued as in a hospital.

Owns every process it starts, and ends them all. Refuses to signal a process that it did not start or that is not a
child of one.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from config.settings import ROOT, Settings
from tests.starter import Started, Starter
from tests.work_rig import PATIENCE, wait_for

DISPATCHER = "dispatcher"
LAST_LINES = 60

Process = subprocess.Popen[bytes] | Started


class Fleet:
    """Worker processes with one configuration; use as a context manager.

    Args:
        settings: What the processes get, by environment variables.
        logs: Folder for their output.
        module: Program that starts a worker; a test's own one may set the scene before it calls `worker.__main__`.
        environment: Further variables.
        starter: Forks the processes; without one each is a fresh interpreter.
    """

    def __init__(
        self,
        settings: Settings,
        logs: Path,
        *,
        module: str = "worker",
        environment: dict[str, str] | None = None,
        starter: Starter | None = None,
    ) -> None:
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")
        } | {f"NEUROSIGHT_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
        self._environment |= {"PYTHONPATH": str(ROOT), **(environment or {})}
        self._logs, self._module, self._starter = logs, module, starter
        logs.mkdir(parents=True, exist_ok=True)
        self._started: list[Process] = []

    def start(self, role: str) -> Process:
        """Starts a worker of this role, or the dispatcher."""
        program = ["worker.dispatcher"] if role == DISPATCHER else [self._module, role]
        path = self._logs / f"{role}-{len(self._started)}.log"
        process: Process
        if self._starter is not None:
            process = self._starter.start(*program, environment=self._environment, log=path)
        else:
            with path.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", *program],
                    cwd=ROOT,
                    env=self._environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        self._started.append(process)
        return process

    def children(self, process: Process) -> list[int]:
        """Process ids of the pool of a worker."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process.pid and fields[0] not in ("Z", "X"):
                found.append(int(path.parent.name))
        return found

    def child(self, process: Process, timeout_s: float = 30.0) -> int:
        """The one pool process of a worker, once there is one."""
        return wait_for(lambda: next(iter(self.children(process)), None), timeout_s, 0.02)

    def kill_child(self, process: Process) -> None:
        """SIGKILL to every pool process of a worker."""
        for pid in self.children(process):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def kill(self, process: Process) -> None:
        """SIGKILL to the worker's parent process; its pool is left alone."""
        process.kill()
        process.wait(10)

    def alive(self, pids: list[int]) -> set[int]:
        """Which of these pool processes still run."""
        return {pid for pid in pids if _is_ours(pid)}

    def output(self) -> str:
        """Everything they said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._logs.iterdir()))

    def last_words(self) -> str:
        """The last of what each of them said."""
        said = []
        for path in sorted(self._logs.iterdir()):
            lines = path.read_text(errors="replace").splitlines()
            said += [f"---- {path.name}, the last of {len(lines)} lines", *lines[-LAST_LINES:]]
        return "\n".join(said)

    def close(self, timeout_s: float = 20.0 * PATIENCE) -> None:
        """Ends all of them: SIGTERM, then SIGKILL, pools included."""
        pools = [pid for process in self._started for pid in self.children(process)]
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + timeout_s
        for process in self._started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pools += self.children(process)
                process.kill()
                process.wait(10)
        for pid in pools:
            if _is_ours(pid):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        """The fleet itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every process; shows what they said when the test failed."""
        self.close()
        if error is not None:
            print(self.last_words())


def _is_ours(pid: int) -> bool:
    """Whether the process still runs as a Python worker (its number may have been given to another since)."""
    try:
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
