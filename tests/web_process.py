"""A real web process, as `make up` starts it: gunicorn with our configuration, on a free port.

Owns starting, killing and restarting it, and a proxy that cuts connections when told. Refuses to touch a process that
it did not start.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from config.settings import ROOT
from tests.servers import free_port

START_TIMEOUT_S = 60.0


class WebProcess:
    """gunicorn on 127.0.0.1.

    Args:
        environment: Of the process; see the fixture `process_environment`.
        log: Where its output goes.
        **changes: Further settings, by field name.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, **changes: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {f"NEUROSIGHT_{name.upper()}": str(value) for name, value in changes.items()}
        self._environment = {**environment, **own, "NEUROSIGHT_WEB_PORT": str(self.port)}
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def group(self) -> int:
        """The process group: gunicorn's master and its worker."""
        assert self._process is not None, "the web is stopped"
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", "ops/gunicorn_conf.py", "web:create_app()"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=5):  # noqa: S310 - our own
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(self.log.read_text()[-3000:]) from None
                time.sleep(0.05)

    def kill(self) -> None:
        """Ends all of it at once, as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # all of it has ended
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def stop(self) -> None:
        """Ends it in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            finally:
                self.kill()


class CuttingProxy:
    """Passes bytes between a client and a server, and cuts connections that have sent a number of bytes.

    Args:
        port: The server's port.
        cuts: After how many bytes from the client each connection is cut, one after the other; 0: never.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target, self._cuts = port, list(cuts)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes no more connections."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            cut = self._cuts.pop(0) if self._cuts else 0
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, cut), daemon=True).start()

    def _serve(self, client: socket.socket, cut: int) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, 0), daemon=True)
            back.start()
            self._copy(client, server, cut)
            back.join(60)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, cut: int) -> None:
        passed = 0
        try:
            while piece := source.recv(16 * 1024):
                passed += len(piece)
                if cut and passed >= cut:
                    break
                target.sendall(piece)
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
