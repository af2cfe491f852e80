"""The whole system for browser tests: web server, dispatcher and workers as processes of their own.

Owns starting them as the Procfile does, on a database and broker of their own, and ending them all. The model is the
tiny one: what it says of a slice is as good as random, but everything around it is real.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from config.settings import ROOT, Settings, load_settings
from db.queries import accounts
from db.session import Database
from tests.servers import free_port
from tests.work_rig import models_folder
from tests.worker_fleet import DISPATCHER, Fleet, Process

START_TIMEOUT_S = 150.0


class Site:
    """A running installation; use as a context manager.

    Args:
        folder: For its state and logs.
        database_url: A migrated, empty database.
        broker_url: A running broker.
        models: Folder with the artefact to serve; by default the tiny one.
    """

    def __init__(self, folder: Path, database_url: str, broker_url: str, models: Path | None = None) -> None:
        var_dir = folder / "var"
        var_dir.mkdir(parents=True, exist_ok=True)
        self.settings: Settings = load_settings(
            var_dir=var_dir,
            database_url=database_url,
            broker_url=broker_url,
            models_dir=models or models_folder(folder / "models"),
            web_port=free_port(),
            inference_threads=1,
            chunk_slices=4,
            housekeeping_period_s=0.5,
            min_free_disk_bytes=0,
            login_failures_allowed=50,
        )
        self.database = Database(database_url)
        self._logs = folder / "logs"
        self._fleet = Fleet(self.settings, self._logs)
        self._web: subprocess.Popen[bytes] | None = None
        self._classify: Process | None = None
        with self.database.write() as session:
            first = accounts.ensure_first_admin(session)
        assert first is not None, "expected an empty database"
        self.admin, self.one_time_password = first

    @property
    def url(self) -> str:
        """Address of the web server, without a slash at the end."""
        return f"http://127.0.0.1:{self.settings.web_port}"

    def start(self) -> None:
        """Starts all processes and waits until the system calls itself ready."""
        self._fleet.start(DISPATCHER)
        self._fleet.start("intake")
        self._classify = self._fleet.start("classify")
        self.start_web()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            answer = requests.get(f"{self.url}/health/ready", timeout=100)
            if answer.status_code == 200:
                return
            assert time.monotonic() < deadline, f"not ready after {START_TIMEOUT_S} s: {answer.text}"
            time.sleep(0.2)

    @contextmanager
    def nothing_is_analysed(self) -> Iterator[None]:
        """Holds the classify worker still, as a very busy one; intake and web go on."""
        assert self._classify is not None, "the site has not been started"
        pids = [self._classify.pid, *self._fleet.children(self._classify)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def start_web(self) -> None:
        """Starts the web server and waits until it answers."""
        command = ["-m", "gunicorn", "--config", "ops/gunicorn_conf.py", "web:create_app()"]
        with (self._logs / "web.log").open("ab") as log:
            self._web = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self._environment(), stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                requests.get(f"{self.url}/health/live", timeout=60)
                return
            except (requests.ConnectionError, requests.Timeout):
                assert self._web.poll() is None, self.output()
                assert time.monotonic() < deadline, self.output()
                time.sleep(0.1)

    def stop_web(self) -> None:
        """Ends the web server in an orderly way."""
        if self._web is not None:
            self._web.terminate()
            try:
                self._web.wait(15)
            except subprocess.TimeoutExpired:
                self._web.kill()
                self._web.wait(5)
            self._web = None

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")}
        ours = {f"NEUROSIGHT_{name.upper()}": getattr(self.settings, name) for name in self.settings.model_fields_set}
        return kept | {name: str(value) for name, value in ours.items()}

    def output(self) -> str:
        """The last of what the processes said."""
        return self._fleet.last_words()

    def __enter__(self) -> Self:
        """The site, running."""
        try:
            self.start()
        except BaseException:
            print(self.output())
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every process."""
        self.close()

    def close(self) -> None:
        """Ends every process and connection."""
        self.stop_web()
        self._fleet.close()
        self.database.close()
