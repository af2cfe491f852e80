"""Engines and sessions for SQLite and PostgreSQL.

Owns connection settings (WAL, timeouts, foreign keys) and the two session makers: `Database.write()` opens
BEGIN IMMEDIATE on SQLite, so that a writer waits for its turn instead of failing half-way with SQLITE_BUSY_SNAPSHOT;
`Database.read()` opens a plain BEGIN. Refuses to be global: `open_database()` is called by each process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

import db.models  # noqa: F401 - tables refer to each other: whoever uses one must know them all
from db import audit_chain

SQLITE_BUSY_TIMEOUT_S = 15.0


class Database:
    """One process's access to the store.

    Args:
        url: SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://...`.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_database_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._read = sessionmaker(self.engine, expire_on_commit=False)
        self._write = sessionmaker(
            self.engine.execution_options(neurosight_write=True) if self.is_sqlite else self.engine,
            expire_on_commit=False,
        )
        event.listen(self._write, "before_commit", audit_chain.seal)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; never committed."""
        with self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one write transaction: committed at the end of the block, rolled back on an exception."""
        with self._write.begin() as session:
            yield session

    def dispose_inherited(self) -> None:
        """Forgets pooled connections inherited over a fork, without closing the parent's sockets."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        """Closes all pooled connections."""
        self.engine.dispose()


def create_database_engine(url: str) -> Engine:
    """Builds an engine with the settings each database needs to be safe and quick."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() != "postgresql":
        raise ValueError(
            f"received a database URL for {parsed.get_backend_name()!r}; expected sqlite:/// or postgresql+psycopg://"
        )
    options = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        pool_recycle=1800,
        connect_args={"options": options, "connect_timeout": 10},
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(SQLITE_BUSY_TIMEOUT_S * 1000)}",
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    writing = connection.get_execution_options().get("neurosight_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
