"""How Alembic reaches the database: the settings' URL, or the connection that `db.migrate` hands over.

Runs on SQLite in batch mode with foreign keys off, on PostgreSQL with a lock timeout, each migration in its own
transaction.
"""

from alembic import context
from sqlalchemy import Connection, text

from config.settings import load_settings
from db.models import METADATA
from db.session import create_database_engine


def run(connection: Connection) -> None:
    """Runs the migrations on an open connection."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=sqlite,
        compare_type=True,
        transaction_per_migration=True,
    )
    if sqlite:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.commit()
    else:
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
    with context.begin_transaction():
        context.run_migrations()
    if sqlite:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        connection.commit()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    engine = create_database_engine(
        context.config.get_main_option("sqlalchemy.url") or load_settings().resolved_database_url
    )
    with engine.connect() as own_connection:
        run(own_connection)
    engine.dispose()
