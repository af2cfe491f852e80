"""The watched folder: what is put there becomes a submission, and then lies in `done/` or `refused/` with its receipt.

Owns the way of an entry (a file, a zip archive, or a folder), each step of which may be the last one before a kill:

1. When it was still for `watch_quiet_s`, it is renamed into `.neurosight/UUID/`.
2. Its files go into the blob store; one transaction makes an upload *of that UUID* and its job.
3. When intake has answered for every file, the receipt is written, and the entry renamed into `done/` or `refused/`.

Whoever starts next finds the entry where it was, and by its UUID whether it was submitted. One process a folder, by a
lock that ends with it. Refuses to follow a link, and to remove anything that somebody put there.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from config.settings import Settings
from db.blobs import BlobStore, StoreFull
from db.jobs import Job
from db.queries import audit, receptions, results, submissions
from db.queries.audit import Actor
from db.queries.receptions import UnknownSender
from db.queries.submissions import Sent
from db.queries.visibility import Viewer
from db.session import Database
from db.states import JOB_ENDED, JobState, Priority, Role
from db.uploads import Upload
from gateway import watch_receipts
from gateway.entries import Fingerprint, Found, files_of, fingerprint, open_file, waiting

DONE, REFUSED, WORKING = "done", "refused", ".neurosight"
ROUND_S = 1.0
COMPLAIN_AGAIN_S = 300.0

log = logging.getLogger(__name__)


class FolderInUse(OSError):
    """Another process watches this folder."""


class Stopped(Exception):
    """The process was told to end in the middle of an entry; the next one goes on with it."""


class Watcher:
    """Does rounds over one folder.

    Args:
        settings: With a folder and an account.
        database: The store of rows.
        blobs: The store of bytes.
        ended: Set when the process is to end.
    """

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, ended: threading.Event) -> None:
        assert settings.watch_dir is not None  # noqa: S101 - the caller looked
        self._settings, self._database, self._blobs, self._ended = settings, database, blobs, ended
        self._folder = settings.watch_dir
        self._still: dict[Path, tuple[Fingerprint, float]] = {}
        self._complaints: dict[tuple[str, str], float] = {}
        for name in (DONE, REFUSED, WORKING):
            (self._folder / name).mkdir(exist_ok=True)

    def round(self) -> None:
        """Takes what is still, and goes on with what was taken."""
        for entry in self._ready():
            place = self._folder / WORKING / str(uuid.uuid4())
            place.mkdir()
            entry.rename(place / entry.name)
        for place in sorted((self._folder / WORKING).iterdir()):
            if self._ended.is_set():
                return
            with self._complaining(place.name):
                self._go_on(place)

    def _ready(self) -> Iterator[Path]:
        now = time.monotonic()
        before, self._still = self._still, {}
        for entry in waiting(self._folder):
            if entry.name in (DONE, REFUSED):
                continue
            seen = fingerprint(entry)
            if not seen:
                continue  # an empty folder is about to be filled
            known, since = before.get(entry, (None, now))
            if known != seen:
                since = now
            elif now - since >= self._settings.watch_quiet_s:
                yield entry
                continue
            self._still[entry] = (seen, since)

    def _go_on(self, place: Path) -> None:
        try:
            upload_id = uuid.UUID(place.name)
        except ValueError:
            return  # not ours: the lock, or what somebody put here
        entry = next(iter(sorted(place.iterdir())), None)
        if entry is None:  # ended between two steps
            place.rmdir()
            return
        with self._database.read() as session:
            upload = session.get(Upload, upload_id)
            job = session.scalars(select(Job).where(Job.upload_id == upload_id)).one_or_none()
        files = files_of(entry, self._settings.max_file_bytes)
        if upload is None:
            self._submit(entry, upload_id, files)
        elif job is None:
            self._finish(entry, DONE, watch_receipts.GONE, [])
        elif job.opened_at is not None or JobState(job.state) in JOB_ENDED:
            with self._database.read() as session:
                viewer = Viewer(upload.created_by_id, Role.SUBMITTER)
                lines: list[dict[str, Any]] = results.receipt_lines(session, job.id, viewer)
            lines += watch_receipts.not_taken(files, job.id)
            refused = job.opened_at is None and job.state != JobState.CANCELLED
            self._finish(entry, REFUSED if refused else DONE, watch_receipts.of_job(job, lines), lines)

    def _submit(self, entry: Path, upload_id: uuid.UUID, files: Sequence[Found]) -> None:
        settings = self._settings
        taken = [file for file in files if file.rejection is None]
        size_bytes = sum(file.size_bytes for file in taken)
        lines = watch_receipts.not_taken(files, None)
        if not files:
            return self._finish(entry, REFUSED, watch_receipts.NO_FILE, lines)
        if not taken:
            return self._finish(entry, REFUSED, watch_receipts.NOTHING_TAKEN % {"files": len(files)}, lines)
        if len(taken) > settings.max_upload_files:
            words = watch_receipts.TOO_MANY % {"files": len(taken), "limit": settings.max_upload_files}
            return self._finish(entry, REFUSED, words, lines)
        if size_bytes > settings.max_upload_bytes:
            words = watch_receipts.TOO_LARGE % {"size": size_bytes, "limit": settings.max_upload_bytes}
            return self._finish(entry, REFUSED, words, lines)
        before = fingerprint(entry)
        sent = [self._store(file) for file in taken]
        if fingerprint(entry) != before:
            log.info("entry_still_changes", extra={"upload_id": str(upload_id)})
            return None  # stored anew in the next round
        with self._database.write() as session:
            owner = receptions.service_user(session, settings.watch_user)
            upload = submissions.open_upload(
                session,
                owner.id,
                title="",
                priority=Priority.NORMAL,
                expiry_s=settings.upload_expiry_s,
                upload_id=upload_id,
            )
            submissions.add_files(session, upload, sent)
            submitted = submissions.complete(session, upload, max_attempts=settings.max_attempts)
            audit.record(
                session,
                Actor(owner.id, owner.username),
                "job.submit",
                object_kind="job",
                object_id=submitted.job_id,
                detail={"way": "watch", "files": len(sent)},
            )
        log.info("submitted", extra={"job_id": str(submitted.job_id), "files": len(sent), "size_bytes": size_bytes})
        return None

    def _store(self, file: Found) -> Sent:
        if self._ended.is_set():
            raise Stopped
        with os.fdopen(open_file(file.path), "rb") as source:
            digest, size_bytes = self._blobs.put(source, max_bytes=self._settings.max_file_bytes)
        return Sent(file.shown, digest, size_bytes)

    def _finish(self, entry: Path, where: str, words: str, lines: Sequence[dict[str, Any]]) -> None:
        """Receipt first, then the entry: a kill between the two only means that both are done again."""
        folder = self._folder / where
        name, number = entry.name, 1
        while os.path.lexists(folder / name):
            number += 1
            name = f"{entry.stem} ({number}){entry.suffix}"
        watch_receipts.write(folder, name, words, lines)
        entry.rename(folder / name)
        entry.parent.rmdir()
        log.info("entry_moved", extra={"to": where, "upload_id": entry.parent.name, "lines": len(lines)})

    @contextlib.contextmanager
    def _complaining(self, about: str) -> Iterator[None]:
        """An entry that cannot be dealt with now is tried again in the next round, and said once in a while."""
        try:
            yield
        except Stopped:
            return
        except UnknownSender as unknown:
            self._complain(about, "service_account_unusable", detail=str(unknown))
        except StoreFull:
            self._complain(about, "disk_full")
        except DBAPIError as error:
            self._complain(about, "database_failed", error=type(error.orig).__name__)
        except (OSError, ValueError) as error:  # ValueError: a file that grew over the limit while it was read
            self._complain(about, "entry_failed", error=type(error).__name__)

    def _complain(self, about: str, event: str, **facts: str) -> None:
        now = time.monotonic()
        if now - self._complaints.get((about, event), -COMPLAIN_AGAIN_S) >= COMPLAIN_AGAIN_S:
            self._complaints[about, event] = now
            log.error(event, extra={"upload_id": about, **facts})


def run(settings: Settings, ended: threading.Event) -> None:
    """Watches until `ended` is set.

    Raises:
        OSError: The folder cannot be used, or another process watches it.
    """
    folder = settings.watch_dir
    assert folder is not None  # noqa: S101 - the caller looked
    database = Database(settings.resolved_database_url)
    blobs = BlobStore(settings.resolved_blob_url, min_free_bytes=settings.min_free_disk_bytes)
    try:
        watcher = Watcher(settings, database, blobs, ended)
        with _alone(folder / WORKING / "lock"):
            log.info("watching")
            while not ended.wait(ROUND_S):
                try:
                    watcher.round()
                except OSError as error:  # a network disk that is away comes back
                    log.error("folder_failed", extra={"error": type(error).__name__, "number": error.errno})
    finally:
        database.close()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse("another process watches this folder; end it first") from None
        yield
    finally:
        os.close(descriptor)
