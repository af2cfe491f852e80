"""Fixtures that every test may use: both databases, a real broker, settings in a temporary folder.

`database_url` is parametrised: a test that asks for it (or for `settings`, `database`) runs once on SQLite and once on
PostgreSQL. The schema always comes from the migrations, applied once a session and copied for each test.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, load_settings
from db.migrate import upgrade
from db.session import Database
from tests import distribution
from tests.servers import BrokerServer, PostgresServer

TEMPLATE = "neurosight_template"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """See `tests.distribution`."""
    return distribution.scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """See `tests.distribution`."""
    distribution.order(config, items)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """No NEUROSIGHT_ variable of this shell reaches a test."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("NEUROSIGHT_")}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL 18 server a session, with a migrated template database."""
    server = PostgresServer()
    try:
        server.execute(f"CREATE DATABASE {TEMPLATE}")
        upgrade(server.url(TEMPLATE))
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "neurosight.db"
    upgrade(f"sqlite:///{path}")
    leftovers = [name.name for name in path.parent.iterdir() if name != path and name.stat().st_size]
    assert leftovers == [], f"the template is not one file: {leftovers}"
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    path = tmp_path / "database" / "neurosight.db"
    path.parent.mkdir()
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield postgres_server.url(name)
    if not postgres_server.is_running():
        postgres_server.start()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database: the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open `Database` on `database_url`."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def broker_server() -> Iterator[BrokerServer]:
    """One Valkey server a session."""
    server = BrokerServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def broker(broker_server: BrokerServer) -> BrokerServer:
    """The session's Valkey server, running and empty; the test may stop, kill, wipe and restart it."""
    broker_server.empty()
    return broker_server


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Settings:
    """Settings on a fresh database and a temporary `var_dir`; with the broker when the test asks for `broker`."""
    broker_url = ""
    if "broker" in request.fixturenames:
        served: BrokerServer = request.getfixturevalue("broker")
        broker_url = served.url
    var_dir = tmp_path / "var"
    var_dir.mkdir(exist_ok=True)
    return load_settings(var_dir=var_dir, database_url=database_url, broker_url=broker_url, min_free_disk_bytes=0)


@pytest.fixture
def process_environment(settings: Settings) -> dict[str, str]:
    """The environment with which a real web or worker process gets exactly `settings`; add to it as needed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")}
    for name in settings.model_fields_set:
        environment[f"NEUROSIGHT_{name.upper()}"] = str(getattr(settings, name))
    return environment
