"""INSERT that leaves an existing row alone, on both databases.

Owns the one difference of dialect that idempotent writing needs. Refuses to update: what is there stays.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.base import Base

ROWS_A_STATEMENT = 200


def insert_missing(session: Session, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows whose unique keys are free; the others are silently left out.

    Args:
        session: In a write transaction.
        model: The table.
        rows: Column values. Two transactions that insert the same keys wait for each other on PostgreSQL: sort the
            rows by their key, so that they wait in the same order.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        session.execute(insert(model).on_conflict_do_nothing(), list(rows[start : start + ROWS_A_STATEMENT]))
