"""The state of one machine under `var/`: folders, secrets, the settings file, and who may run here.

Owns `var/neurosight.env`: the launcher's own lines stand between two marks and are rewritten at each start, while lines
of the operator outside the marks are kept and win. Secrets are drawn at the first start and readable by their owner
alone. One launcher a folder, proven by a lock that ends with its process.

Refuses to put a secret on a command line or into a log.
"""

import fcntl
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from config.settings import ROOT, Settings, load_settings
from db import migrate
from db.session import create_database_engine
from ops import broker, ports

BLOCK_START = "# --- written by the launcher at each start; put your own settings above this line ---"
BLOCK_END = "# --- end of the launcher's lines ---"
LOCK_WAIT_S = 60.0
SECRET_BYTES = 32


class AlreadyRunning(Exception):
    """Another launcher runs in this folder; the message names its process and address."""


@dataclass(frozen=True)
class Local:
    """What a start needs to know, once everything lies ready."""

    settings: Settings
    environment: Mapping[str, str]
    """Environment for every service."""
    embedded_broker: bool
    notes: tuple[str, ...]
    """Sentences for the operator, e.g. that another port is used."""

    @property
    def web_url(self) -> str:
        """The address of the pages, as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.settings.web_host, self.settings.web_host)  # noqa: S104
        return f"http://{host}:{self.settings.web_port}"


def var_folder() -> Path:
    """The folder of all state, made when missing; nobody else may look inside."""
    folder = Path(os.environ.get("NEUROSIGHT_VAR_DIR") or ROOT / "var").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


@contextmanager
def only_launcher(var_dir: Path) -> Iterator[int]:
    """Holds the right to run services in this folder; yields the lock's descriptor, for the watchdog to inherit.

    Raises:
        AlreadyRunning: When somebody else holds it.
    """
    path = var_dir / "launcher.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    said = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                facts = running_launcher(var_dir)
                if facts is not None and _lives(facts["pid"]):
                    raise AlreadyRunning(
                        f"NeuroSight already runs in this folder: process {facts['pid']}, "
                        f"{facts['url'] or 'starting'}. Use that one, or end it with Ctrl-C or `kill {facts['pid']}`"
                    ) from None
                if time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"{path} has been held for {LOCK_WAIT_S:.0f} s by a run that is ending"
                    ) from None
                if not said:
                    print("neurosight: the previous run is still ending; waiting for it", flush=True)
                    said = True
                time.sleep(0.2)
        publish(var_dir, url="")
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def publish(var_dir: Path, *, url: str) -> None:
    """Writes who runs here and where, for a second launcher, the doctor and the operator."""
    (var_dir / "launcher.lock").write_text(json.dumps({"pid": os.getpid(), "url": url}) + "\n")


def running_launcher(var_dir: Path) -> dict[str, object] | None:
    """What a running launcher published; None when none runs or it has not written yet."""
    try:
        facts = json.loads((var_dir / "launcher.lock").read_text())
        return {"pid": int(facts["pid"]), "url": str(facts["url"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lives(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def prepare(var_dir: Path) -> Local:
    """Draws secrets, chooses ports, writes the settings file, and reads the settings back.

    Raises:
        SettingsError: When a setting is wrong.
        ports.PortTaken: When a port that the operator set is taken.
        broker.BrokerUnavailable: When this machine cannot run the embedded broker.
    """
    for name in ("log", "run", "secrets"):
        (var_dir / name).mkdir(exist_ok=True)
    env_file = var_dir / "neurosight.env"
    own, previous = _split(env_file)
    explicit = {name for name in (*os.environ, *own) if name.startswith("NEUROSIGHT_")}
    lines, notes = {}, []

    if "NEUROSIGHT_SECRET_KEY" not in explicit:
        lines["NEUROSIGHT_SECRET_KEY"] = secret(var_dir, "secret_key")

    embedded = "NEUROSIGHT_BROKER_URL" not in explicit
    if embedded:
        broker.binary()
        port = _port_of(previous.get("NEUROSIGHT_BROKER_URL", ""))
        if port is None or not ports.is_free("127.0.0.1", port):
            port = ports.any_free("127.0.0.1")
        password = secret(var_dir, "broker_password")
        broker.write_config(var_dir / "broker", port=port, password=password)
        lines["NEUROSIGHT_BROKER_URL"] = broker.url(port, password)

    _write(env_file, lines)
    settings = load_settings(var_dir=var_dir)
    port, note = ports.choose(settings.web_host, settings.web_port, explicit="NEUROSIGHT_WEB_PORT" in explicit)
    if note:
        notes.append(note)
    if "NEUROSIGHT_WEB_PORT" not in explicit:
        lines["NEUROSIGHT_WEB_PORT"] = str(port)
        _write(env_file, lines)
        settings = load_settings(var_dir=var_dir)
    environment = {**os.environ, "NEUROSIGHT_VAR_DIR": str(var_dir), "PYTHONUNBUFFERED": "1"}
    return Local(settings, environment, embedded, tuple(notes))


def migrate_database(settings: Settings) -> str:
    """Brings the database to the newest schema; an existing SQLite file is copied to `var/backups` first.

    Returns:
        A sentence on what was done; empty when nothing was.

    Raises:
        migrate.SchemaMismatch: When the database is newer than the code.
        sqlalchemy.exc.OperationalError: When it cannot be reached.
    """
    url = settings.resolved_database_url
    engine = create_database_engine(url)
    try:
        with engine.connect() as connection:
            before = migrate.current(connection)
    finally:
        engine.dispose()
    if before == migrate.head():
        return ""
    kept = ""
    parsed = make_url(url)
    if before is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        copy = settings.var_dir / "backups" / f"neurosight-{before}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        with closing(sqlite3.connect(parsed.database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        copy.chmod(0o600)
        kept = f"; a copy of the old one is kept as {copy.name} in {copy.parent}"
    migrate.upgrade(url)
    shown = parsed.render_as_string(hide_password=True) if parsed.get_backend_name() != "sqlite" else parsed.database
    return f"database {shown} is at revision {migrate.head()} (was {before or 'empty'}){kept}"


def secret(var_dir: Path, name: str) -> str:
    """A random secret of this machine, drawn once and kept in a file of its owner alone."""
    path = var_dir / "secrets" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    if re.fullmatch(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}", kept):
        return kept
    drawn = secrets.token_hex(SECRET_BYTES)
    _write_private(path, drawn + "\n")
    return drawn


def _split(env_file: Path) -> tuple[set[str], dict[str, str]]:
    """(names the operator set, values of the launcher's last block)."""
    own, block, inside = set(), {}, False
    try:
        text = env_file.read_text()
    except FileNotFoundError:
        return set(), {}
    for line in text.splitlines():
        if line in (BLOCK_START, BLOCK_END):
            inside = line == BLOCK_START
            continue
        name, sign, value = line.partition("=")
        name = name.removeprefix("export ").strip().upper()
        if not sign or name.startswith("#"):
            continue
        if inside:
            block[name] = value
        else:
            own.add(name)
    return own, block


def _write(env_file: Path, lines: Mapping[str, str]) -> None:
    kept, inside = [], False
    if env_file.exists():
        for line in env_file.read_text().splitlines():
            if line in (BLOCK_START, BLOCK_END):
                inside = line == BLOCK_START
            elif not inside:
                kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    text = [*kept, BLOCK_START, *(f"{name}={value}" for name, value in lines.items()), BLOCK_END]
    _write_private(env_file, "\n".join(text) + "\n")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _port_of(url: str) -> int | None:
    found = re.search(r":(\d+)/", url)
    return int(found.group(1)) if found else None
