"""The schema comes from the migrations alone, on both databases, and can go down and up again."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from config.settings import ROOT
from db.migrate import current, downgrade, head, upgrade
from db.models import METADATA
from db.session import Database


def test_there_is_one_head() -> None:
    assert ScriptDirectory(str(ROOT / "migrations")).get_heads() == [head()]


def test_the_models_ask_for_nothing_that_the_migrations_do_not_make(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_down_to_nothing_and_up_again(database: Database, database_url: str) -> None:
    downgrade(database_url, "base")
    left = set(inspect(database.engine).get_table_names()) - {"alembic_version"}
    assert left == set()
    upgrade(database_url)
    with database.engine.connect() as connection:
        assert current(connection) == head()
        assert connection.execute(text("SELECT count(*) FROM work_item")).scalar() == 0
