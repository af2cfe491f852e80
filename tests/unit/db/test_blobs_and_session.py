"""Blobs are whole or absent; writers wait for their turn; naive times are refused."""

import io
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from db.blobs import BlobMissing, BlobStore, StoreFull
from db.jobs import Job
from db.session import Database, create_database_engine

WORDS = b"some bytes of an image"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path}/blobs")


def test_a_blob_is_found_under_its_digest(store: BlobStore) -> None:
    digest, size = store.put(io.BytesIO(WORDS))
    assert (len(digest), size) == (64, len(WORDS))
    assert store.read(digest) == WORDS
    assert store.put(io.BytesIO(WORDS)) == (digest, size)
    with store.local_path(digest) as path:
        assert path.read_bytes() == WORDS
    store.delete(digest)
    store.delete(digest)
    assert not store.exists(digest)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_key_is_a_digest_and_nothing_else(store: BlobStore, key: str) -> None:
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits"):
        store.read(key)


def test_a_missing_blob_is_an_alarm(store: BlobStore) -> None:
    with pytest.raises(BlobMissing, match="although a row names it"):
        store.read("0" * 64)
    with pytest.raises(BlobMissing, match="although a row names it"), store.local_path("0" * 64):
        pass


def test_what_is_too_long_or_broken_off_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError("the client is gone")

    with pytest.raises(ValueError, match="expected at most 4"):
        store.put(io.BytesIO(WORDS), max_bytes=4)
    with pytest.raises(ConnectionResetError, match="gone"):
        store.put(Broken())
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_a_full_disk_is_refused_before_a_byte_is_kept(tmp_path: Path) -> None:
    store = BlobStore(f"file://{tmp_path}/blobs", min_free_bytes=2**60)
    with pytest.raises(StoreFull, match="must stay free"):
        store.put(io.BytesIO(WORDS))
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_the_spool_is_swept_by_age(store: BlobStore, tmp_path: Path) -> None:
    left = tmp_path / "blobs" / "incoming"
    (left / "spool-file").write_bytes(WORDS)
    (left / "spool-folder").mkdir()
    (left / "spool-folder" / "member").write_bytes(WORDS)
    assert store.sweep_spool(60, time.time()) == 0
    assert store.sweep_spool(60, time.time() + 120) == 2
    assert list(left.iterdir()) == []


def test_a_workspace_is_gone_after_its_use(store: BlobStore) -> None:
    with store.workspace() as folder:
        (folder / "member").write_bytes(WORDS)
    assert not folder.exists()


def test_writers_on_sqlite_wait_for_their_turn(sqlite_url: str) -> None:
    """A read that becomes a write would fail at once with SQLITE_BUSY_SNAPSHOT; BEGIN IMMEDIATE waits."""
    database = Database(sqlite_url)
    errors: list[Exception] = []

    def write(number: int) -> None:
        try:
            for _ in range(5):
                with database.write() as session:
                    session.scalars(select(Job.id)).all()
                    session.add(Job(title=str(number)))
        except Exception as error:  # reported below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with database.read() as session:
        assert len(session.scalars(select(Job.id)).all()) == 30
    database.close()


def test_sqlite_is_set_up_to_be_safe(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.read() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}
    assert sqlite3.sqlite_version_info >= (3, 35), "RETURNING needs it"


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    def half(session: Session) -> None:
        session.add(Job(title="half"))
        session.flush()
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"), database.write() as session:
        half(session)
    with database.read() as session:
        assert session.scalars(select(Job.id)).all() == []


def test_times_are_utc_and_aware(database: Database) -> None:
    jakarta = timezone(timedelta(hours=7))
    moment = datetime(2026, 5, 1, 8, 30, tzinfo=jakarta)
    with database.write() as session:
        session.add(Job(title="time", opened_at=moment))
    with database.read() as session:
        found = session.scalars(select(Job.opened_at)).one()
    assert found == moment
    assert found is not None
    assert found.tzinfo == UTC
    with pytest.raises(StatementError, match="expected an aware one"), database.write() as session:
        session.add(Job(title="naive", opened_at=datetime(2026, 5, 1)))


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected sqlite:/// or postgresql"):
        create_database_engine("mysql://host/db")
