"""A real listener process on a free port, and real senders: dcmtk's programs.

Owns starting, killing and restarting `python -m gateway listen`. Refuses to touch a process that it did not start.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from config.settings import ROOT
from tests.servers import free_port
from tests.work_rig import PATIENCE

AE_TITLE = "NEUROSIGHT"
SENDER = "MR1"

needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="needs dcmtk (storescu, echoscu, dcmsend)")


class ListenerProcess:
    """The listener; use as a context manager.

    Args:
        environment: Of the process; see the fixture `process_environment`.
        log: Where its lines go.
        **changes: Further settings, by field name.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, **changes: object) -> None:
        self.port = free_port()
        wanted: dict[str, object] = {
            "dicom_host": "127.0.0.1",
            "dicom_port": self.port,
            "dicom_allowed_peers": f"{SENDER}@127.0.0.1, ORTHANC@127.0.0.0/8",
            "dicom_user": "scanner",
            **changes,
        }
        own = {f"NEUROSIGHT_{name.upper()}": str(value) for name, value in wanted.items()}
        self._environment = {**environment, **own, "PYTHONPATH": str(ROOT)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "listen"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 15 * PATIENCE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the listener does not listen:\n{self.output()[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(10 * PATIENCE)
        self._process = None
        return status

    def output(self) -> str:
        """Every line it wrote."""
        return self._log.read_text()

    def __enter__(self) -> Self:
        """Started."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ended; shows what it said when the test failed."""
        self.kill()
        if error is not None:
            print(self.output()[-6000:])

    def command(self, program: str, *options: str, calling: str = SENDER, called: str = AE_TITLE) -> list[str]:
        """The command line of one of dcmtk's senders, up to the address."""
        return [program, "-aet", calling, "-aec", called, *options, "127.0.0.1", str(self.port)]

    def send(
        self, program: str, *options: str, files: Sequence[Path] = (), calling: str = SENDER, called: str = AE_TITLE
    ) -> tuple[int, str]:
        """Runs one of dcmtk's senders against the listener.

        Returns:
            (exit status, everything it said).
        """
        done = subprocess.run(
            [*self.command(program, *options, calling=calling, called=called), *map(str, files)],
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
        )
        return done.returncode, done.stdout + done.stderr
