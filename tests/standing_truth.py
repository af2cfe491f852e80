"""The rows in which studies stand, against what they are derived from.

Owns the one comparison: used after each test of a way on which results, jobs, decisions or withdrawals move.
"""

from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.queries import standings
from db.session import Database
from db.standings import StudyStanding
from db.studies import Study


def assert_true(database: Database) -> None:
    """Every study has its row; a row that is not marked as stale says the truth, and all do once they are computed."""
    with database.read() as session:
        assert set(session.scalars(select(Study.id))) == set(session.scalars(select(StudyStanding.study_id)))
        fresh = select(StudyStanding).where(StudyStanding.stale.is_(False))
        wrong = [entry for row in session.scalars(fresh) if (entry := _difference(session, row))]
    assert wrong == [], "a standing row was not told of a change"
    with database.write() as session:
        standings.refresh_stale(session, limit=10_000)
    with database.read() as session:
        assert not standings.any_stale(session)
        assert not any(_difference(session, row) for row in session.scalars(select(StudyStanding)))


def _difference(session: Session, row: StudyStanding) -> dict[str, tuple[object, object]]:
    derived = asdict(standings.compute(session, row.study_id))
    return {name: (getattr(row, name), value) for name, value in derived.items() if getattr(row, name) != value}
