"""`python -m ops standings`: computes anew where every study stands, for the worklist and the lists.

Owns the round; the rows keep themselves, so that this is for a database that was written to by hand. Studies without
a row get one. Assignments stay.
"""

from sqlalchemy import select, true

from config.settings import Settings
from db.queries import stale, standings
from db.session import Database
from db.standings import StudyStanding
from db.studies import Study
from db.upserts import insert_missing


def run(settings: Settings) -> int:
    """Marks every row, then computes them some at a time; returns 0."""
    database = Database(settings.resolved_database_url)
    try:
        with database.write() as session:
            without = select(Study.id).where(Study.id.not_in(select(StudyStanding.study_id)))
            insert_missing(session, StudyStanding, [{"study_id": number} for number in session.scalars(without)])
            stale.mark(session, true())
        total = 0
        while True:
            with database.write() as session:
                done = standings.refresh_stale(session)
            if not done:
                break
            total += done
        print(f"Computed anew: {total} studies.")
        return 0
    finally:
        database.close()
