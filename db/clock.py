"""The one clock by which leases are judged.

On PostgreSQL it is the server's, so that workers with wrong clocks cannot steal or overstay a lease. SQLite has no
server: all its users share one machine and so one clock.
"""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def database_now(session: Session) -> datetime:
    """Aware UTC time of the database server (wall clock, not transaction start)."""
    if session.get_bind().dialect.name == "postgresql":
        moment = session.scalar(select(func.clock_timestamp()))
        assert isinstance(moment, datetime)  # noqa: S101 - the server's type, for the type checker
        return moment.astimezone(UTC)
    return datetime.now(UTC)
