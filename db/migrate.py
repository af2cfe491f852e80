"""Brings a database to the newest schema.

Owns the one call by which the launcher, the tests and an operator migrate. Refuses to guess: a database that is
ahead of the code is reported, not touched.
"""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from config.settings import ROOT
from db.session import create_database_engine


class SchemaMismatch(Exception):
    """The database's schema is not one this code knows."""


def upgrade(url: str, revision: str = "head") -> None:
    """Migrates the database at `url` up to `revision`.

    Raises:
        SchemaMismatch: When the database carries a revision that this code does not have.
    """
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Migrates the database at `url` down to `revision` (`base` empties it)."""
    _run(url, lambda config: command.downgrade(config, revision))


def head() -> str:
    """The newest revision of this code."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise SchemaMismatch("found no migration in the migrations folder; expected at least one")
    return revision


def current(connection: Connection) -> str | None:
    """The revision that a database is at; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _run(url: str, action: Callable[[Config], None]) -> None:
    engine = create_database_engine(url)
    config = _config()
    try:
        with engine.connect() as connection:
            at = current(connection)
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if at is not None and at not in known:
                raise SchemaMismatch(
                    f"the database is at revision {at}, which this version of the code does not know; "
                    "run the newer version, or restore a backup made with this one"
                )
            connection.rollback()
            config.attributes["connection"] = connection
            action(config)
    finally:
        engine.dispose()
