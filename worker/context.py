"""What one worker process holds: settings, store, blobs, models.

Owns building it (after the fork, never before). Refuses to be a global of its own: `worker.lifecycle` keeps the one of
this process.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from config.settings import Settings
from db.blobs import BlobStore
from db.doorbell import Doorbell
from db.session import Database
from imaging.decoders import Decoders
from imaging.from_settings import decoders_from
from worker.faults import delay_s, transient_code
from worker.lease import Lease
from worker.predictors import Predictors
from worker.stopwatch import Stopwatch

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass
class Context:
    """One worker process.

    Attributes:
        decoders: The processes in which files are read.
        queues: The queues it serves, the most urgent first.
        predictors: Its models.
        pace: What it did lately, for the heartbeat.
        doorbell: Wakes other workers.
        stopping: Whether this process was told to end.
        busy: Held by the thread that works: one item at a time.
    """

    settings: Settings
    database: Database
    blobs: BlobStore
    decoders: Decoders
    name: str
    queues: tuple[str, ...]
    predictors: Predictors
    pace: Stopwatch
    doorbell: Doorbell
    stopping: Callable[[], bool] = lambda: False
    busy: threading.Lock = field(default_factory=threading.Lock)

    def write(self, lease: Lease, change: Callable[[Session], T]) -> T:
        """Runs `change` in a write transaction, again when the database fails, for as long as the lease holds.

        Work that is done is not thrown away because the database restarts at this moment. `change` must be safe to
        run again: it is fenced, and a transaction that failed left nothing behind.

        Raises:
            LeaseLost: When the lease ran out meanwhile, or `change` found it gone.
        """
        times = 0
        while True:
            lease.check()
            try:
                with self.database.write() as session:
                    return change(session)
            except DBAPIError as error:
                if transient_code(error) is None:
                    raise
                log.warning("write_repeated", error=type(error).__name__, times=times)
                pause_s = min(delay_s(times, 0.1), 2.0)
                if lease.seconds_left <= pause_s:
                    raise
                lease.wait(pause_s)
                times += 1

    def close(self) -> None:
        """Ends models, decoders and connections."""
        self.predictors.close()
        self.decoders.close()
        self.doorbell.close()
        self.database.close()


def build_context(settings: Settings, name: str, queues: tuple[str, ...]) -> Context:
    """Opens everything; to be called in the process that uses it."""
    database = Database(settings.resolved_database_url)
    blobs = BlobStore(settings.resolved_blob_url, min_free_bytes=settings.min_free_disk_bytes)
    return Context(
        settings=settings,
        database=database,
        blobs=blobs,
        decoders=decoders_from(settings),
        name=name,
        queues=queues,
        predictors=Predictors(settings, database, blobs),
        pace=Stopwatch(),
        doorbell=Doorbell(settings),
    )
