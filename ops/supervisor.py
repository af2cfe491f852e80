"""Keeps the services running, and ends them in order.

Owns the main loop: start, watch, show lines, restart with growing delays, stop by stages. A service that ends by
itself is started again: a ward must not lose the other services because one stumbled. Only a service that fails again
and again before the system was ever ready stops everything, because then something is wrong that waiting cannot mend.

Refuses to leave a process behind: a watchdog ends the services when this process is killed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TypeVar

from config.settings import ROOT
from ops import groups, watchdog
from ops.console import Console
from ops.services import Service

T = TypeVar("T")

LOOP_S = 0.1
FAILURES_AT_START = 4
LOG_CHECK_S = 30.0
FRONT_GRACE_S = 10.0
MARGIN_S = 15.0
"""What a worker may need beyond its soft shutdown to give its work back and end."""


class StartFailed(Exception):
    """A service could not be brought up; the message holds its last lines."""


class Supervisor:
    """Runs the services of one machine.

    Args:
        commands: Name and command of each service, in starting order.
        var_dir: Holds `log/` and `run/`.
        environment: For every service.
        console: Where lines go.
        soft_shutdown_s: How long a worker may go on with what it has begun when told to end, seconds.
        lock: Descriptor of the launcher's lock, to be inherited by the watchdog.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        *,
        var_dir: Path,
        environment: Mapping[str, str],
        console: Console,
        soft_shutdown_s: float,
        lock: int,
    ) -> None:
        self._run_folder = var_dir / "run"
        self._console = console
        self._grace_s = soft_shutdown_s + MARGIN_S
        self._lock = lock
        self._parent = os.getppid()
        self._stop_reason = ""
        self._impatient = False
        self.exit_status = 0
        self.was_ready = False
        """Set by the caller once the whole system answered; from then on a failing service is only restarted."""
        self.services = [
            Service(name, command, var_dir / "log" / f"{name}.log", self._run_folder, environment)
            for name, command in commands.items()
        ]

    def stop(self, reason: str, *, exit_status: int = 0) -> None:
        """Asks the loop to end everything; may be called from another thread."""
        if not self._stop_reason:
            self.exit_status = exit_status
            self._stop_reason = reason

    @property
    def stopping(self) -> bool:
        """Whether the end has been asked for."""
        return bool(self._stop_reason)

    def run(self) -> int:
        """Starts everything and returns when all has ended: the exit status.

        Raises:
            StartFailed: When a service fails again and again before the system was ready; all others are ended first.
        """
        self._install_signals()
        self._end_left_over()
        guard = self._start_watchdog()
        failure = None
        try:
            for service in self.services:
                service.skip_old_lines()
            failure = self._watch()
        finally:
            self._end_all()
            if guard.stdin is not None:
                guard.stdin.write(watchdog.ENDED_IN_ORDER)
                guard.stdin.close()
            guard.wait()
        if failure is not None:
            raise failure
        return self.exit_status

    def _watch(self) -> StartFailed | None:
        next_log_check = time.monotonic() + LOG_CHECK_S
        while not self._stop_reason:
            for service in self.services:
                if service.start_at is not None and time.monotonic() >= service.start_at:
                    service.start()
                status = service.check()
                self._show(service)
                if status is not None:
                    failure = self._ended(service, status)
                    if failure is not None:
                        return failure
            if os.getppid() != self._parent and os.environ.get("MAKELEVEL"):
                self.stop("the make that started this was ended")
            if time.monotonic() > next_log_check:
                next_log_check = time.monotonic() + LOG_CHECK_S
                for service in self.services:
                    service.limit_log()
            time.sleep(LOOP_S)
        return None

    def _ended(self, service: Service, status: int) -> StartFailed | None:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if not self.was_ready and service.failures >= FAILURES_AT_START:
            lines = "\n    ".join(service.last_lines(12))
            return StartFailed(
                f"{service.name} {how}, {service.failures} times in a row; its last lines "
                f"(all of them in {service.log_path}):\n    {lines}"
            )
        delay = max(0.0, (service.start_at or 0) - time.monotonic())
        self._console.say(f"{service.name} {how}; starting it again in {delay:.0f} s (log: {service.log_path})")
        return None

    def _end_all(self) -> None:
        if self._stop_reason:
            self._console.say(f"{self._stop_reason}: ending all services")
        for stage in sorted({service.stage for service in self.services}, reverse=True):
            here = [service for service in self.services if service.stage == stage]
            for service in here:
                service.ask_to_end()
            deadline = time.monotonic() + (FRONT_GRACE_S if stage > 1 else self._grace_s)
            said = time.monotonic() + 3
            while any(service.pid for service in here):
                for service in here:
                    service.check()
                    self._show(service)
                waiting = [service.name for service in here if service.pid]
                if waiting and (self._impatient or time.monotonic() > deadline):
                    self._console.say(f"{', '.join(waiting)} did not end in time: killed (no result is lost)")
                    for service in here:
                        service.kill()
                if waiting and said and time.monotonic() > said:
                    said = 0
                    self._console.say(f"waiting for {', '.join(waiting)} to finish; Ctrl-C again to cut it short")
                time.sleep(LOOP_S / 2)
        for service in self.services:
            self._show(service)
            service.close()
        if self._stop_reason:
            self._console.say("all services have ended")

    def _show(self, service: Service) -> None:
        for line in service.new_lines():
            self._console.service_line(service.name, line)

    def _end_left_over(self) -> None:
        left_over = groups.left_over(self._run_folder)
        if left_over:
            names = ", ".join(path.stem.partition("-")[2] for path in left_over)
            self._console.say(f"an earlier run left {names} behind: ending them first")
            groups.end(left_over, self._grace_s)

    def _start_watchdog(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-S", "-m", "ops.watchdog", str(self._run_folder), f"{self._grace_s}"],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            pass_fds=(self._lock,),
        )

    def _install_signals(self) -> None:
        def asked(number: int, _frame: FrameType | None) -> None:
            if self._stop_reason and number == signal.SIGINT:
                self._impatient = True
            self.stop("Ctrl-C" if number == signal.SIGINT else f"{signal.Signals(number).name} received")

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, asked)


def wait_until(
    question: Callable[[], T | None], *, timeout_s: float, give_up: Callable[[], bool], pause_s: float = 0.3
) -> T | None:
    """Asks until there is an answer; None when the time is over or `give_up` says so."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not give_up():
        answer = question()
        if answer is not None:
            return answer
        time.sleep(pause_s)
    return None
