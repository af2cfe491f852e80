"""Processes that start quickly: each is forked from one that has loaded their modules already.

What the start of a worker costs besides its work, a second or more of loading Python modules (TensorFlow: five), has
nothing to do with what is tested where workers are killed by the dozen. Run as a program, this module loads the modules
that it is told, then obeys one line of JSON after the other; `Starter` is its other end. A process that it forks runs a
module from its command line to its end, as `python -m MODULE ARGUMENT...` would.

Refuses to keep anything of a process but its exit status.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.settings import ROOT

ENDS_WITHIN_S = 20.0


class Started:
    """One process, as `subprocess.Popen` shows its own.

    Args:
        starter: Its parent.
        pid: Its process id.
    """

    def __init__(self, starter: "Starter", pid: int) -> None:
        self._starter, self.pid = starter, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, minus the signal's number when a signal ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._starter.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: It runs still.
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Starter:
    """A process that forks others; close it when they have ended.

    Args:
        modules: What it loads; of `package.*`, every module below the package that is no program.
        environment: What must be set before they are loaded.
    """

    def __init__(self, *modules: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.starter", *modules],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._turn = threading.Lock()

    def start(
        self, module: str, *arguments: str, environment: Mapping[str, str], log: Path, leads_group: bool = False
    ) -> Started:
        """Starts `python -m module arguments`.

        Args:
            module: The program.
            arguments: Its command line.
            environment: All of its variables.
            log: File to which it says what it has to say.
            leads_group: Whether it gets a process group of its own.
        """
        order = {"environment": dict(environment), "log": str(log), "leads_group": leads_group}
        return Started(self, self.ask(start=[module, *arguments], **order))

    def ask(self, **order: Any) -> Any:
        """One order and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, f"the starter ended with status {self._process.wait(ENDS_WITHIN_S)}"
        return json.loads(answer)

    def close(self) -> None:
        """Ends it; what it started lives on."""
        self._process.communicate(timeout=ENDS_WITHIN_S)


def _load(name: str) -> None:
    package = importlib.import_module(name.removesuffix(".*"))
    if name.endswith(".*"):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _become(
    start: list[str], environment: dict[str, str], log: str, leads_group: bool
) -> None:  # runs in the forked process, and returns at the end of its program
    if leads_group:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(output)
    sys.argv = list(start)
    sys.orig_argv = [sys.executable, "-m", *start]  # with these a worker replaces itself
    sys.modules.pop(start[0], None)  # a program is run, not found loaded
    runpy.run_module(start[0], run_name="__main__", alter_sys=True)


def main(modules: list[str]) -> None:
    """Loads the modules, then forks and answers until there are no more orders."""
    for name in modules:
        _load(name)
    gc.freeze()  # what is loaded is no garbage: no forked process looks through it, and so copies it
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None
        if "poll" in order:
            ended, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if answer == 0:
                _become(**order)
                return
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
