"""The audit trail's chain: it holds with many writers, and any row that is edited, removed or put in is found."""

import threading
import uuid
from contextlib import suppress

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from config.settings import load_settings
from db import audit_chain
from db.migrate import downgrade, upgrade
from db.queries import audit
from db.queries.audit import Actor
from db.session import Database
from db.users import AuditEvent, AuditHead
from ops import audit as command

WHO = Actor(uuid.uuid4(), "clara", "127.0.0.1")


def write(database: Database, rows: int, name: str = "study.view") -> None:
    with database.write() as session:
        for number in range(rows):
            audit.record(
                session, WHO, name, object_id=number, detail={"café": [1, 1.5, 1e22, None, {"z": True, "a": 2.0}]}
            )


def verdict(database: Database, expected: dict[int, str] | None = None) -> audit_chain.Verdict:
    with database.read() as session:
        return audit_chain.verify(session, expected)


def behind(database: Database, statement: str) -> None:
    """What somebody with all rights in the database does: the guards are taken away first."""
    if database.is_sqlite:
        guards = ["DROP TRIGGER audit_event_no_delete", "DROP TRIGGER audit_event_no_update"]
    else:
        guards = ["ALTER TABLE audit_event DISABLE TRIGGER USER"]
    with database.write() as session:
        for guard in guards:
            session.execute(text(guard))
        session.execute(text(statement))


def test_the_chain_holds_with_many_writers_and_leaves_no_gap(database: Database) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            write(database, 3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()

    class Undone(Exception):
        """A fault in the middle of a transaction."""

    with suppress(Undone), database.write() as session:
        audit.record(session, WHO, "rolled.back")
        raise Undone
    for thread in threads:
        thread.join()
    with database.write() as session, session.begin_nested():
        audit.record(session, WHO, "in.a.savepoint")
    found = verdict(database)
    assert (found.faults, found.rows, found.last_number) == ([], 61, 61)


@pytest.mark.parametrize(
    ("statement", "kind", "at"),
    [
        ("UPDATE audit_event SET actor_name = 'carl' WHERE chain_number = 3", "altered", 3),
        ("UPDATE audit_event SET detail = '{}' WHERE chain_number = 3", "altered", 3),
        ("DELETE FROM audit_event WHERE chain_number = 3", "missing", 3),
        ("DELETE FROM audit_event WHERE chain_number = 5", "end", 5),
        ("UPDATE audit_event SET chain_number = NULL WHERE chain_number = 5", "unsealed", 0),
    ],
)
def test_what_was_done_behind_its_back_is_found(database: Database, statement: str, kind: str, at: int) -> None:
    write(database, 5)
    behind(database, statement)
    assert (kind, at) in [(fault.kind, fault.at) for fault in verdict(database).faults]


def test_a_chain_made_anew_is_found_with_a_digest_that_was_kept(
    database: Database, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(database_url=database_url)
    write(database, 3)
    assert command.run(settings, expected=[]) == 0
    kept = capsys.readouterr().out.split()[-1]
    assert command.run(settings, expected=[kept]) == 0
    assert command.run(settings, expected=["3"]) == 2
    behind(database, "UPDATE audit_event SET actor_name = 'carl'")
    with database.write() as session:
        before = ""
        for row in session.scalars(select(AuditEvent).order_by(AuditEvent.chain_number)):
            row.previous_sha256 = before
            row.row_sha256 = before = audit_chain.digest(audit_chain.content(row))
        session.get_one(AuditHead, audit_chain.HEAD_ID).row_sha256 = before
    capsys.readouterr()
    assert command.run(settings, expected=[]) == 0, "without the kept digest nothing shows"
    assert command.run(settings, expected=[kept]) == 1
    assert "another digest" in capsys.readouterr().out


def test_the_database_refuses_to_change_or_remove_a_row(database: Database) -> None:
    write(database, 1)
    for statement in ("UPDATE audit_event SET action = 'x'", "DELETE FROM audit_event"):
        with pytest.raises(DBAPIError, match="audit rows are never"), database.write() as session:
            session.execute(text(statement))
    assert verdict(database).faults == []


def test_rows_from_before_are_chained_by_the_migration(database: Database, database_url: str) -> None:
    write(database, 4)
    downgrade(database_url, "0003")
    upgrade(database_url)
    write(database, 2)
    found = verdict(database)
    assert (found.faults, found.rows) == ([], 6)
