"""A training worker on a machine that cannot train: TensorFlow is not installed.

Owns what it does meanwhile: it says so once in its log, shows it with its heartbeat (pages, doctor), takes no work and
no message away from workers that can train, and becomes a real worker when TensorFlow is there. Refuses to fail: the
rest of the installation runs without it.
"""

import importlib
import signal
import threading
from importlib.util import find_spec
from types import FrameType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.queues import QUEUE_TRAINING
from config.settings import Settings
from config.version import code_version
from db.queries import heartbeats
from db.session import Database
from worker.processes import resident_bytes, worker_name

LOOK_AGAIN_S = 30.0
HOW_TO_INSTALL = "make environment-train"

log = structlog.get_logger(__name__)


def is_installed() -> bool:
    """Whether TensorFlow can be imported; it is not imported to find out."""
    importlib.invalidate_caches()
    return find_spec("tensorflow") is not None


def wait(settings: Settings) -> bool:
    """Waits until TensorFlow is installed, or this process is told to end.

    Returns:
        Whether it is installed now.
    """
    ended = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.warning("no_tensorflow", mend=HOW_TO_INSTALL, meaning="this process trains nothing before it is installed")
    database = Database(settings.resolved_database_url)
    name = worker_name("training")
    period_s = min(5.0, settings.worker_ready_age_s / 4)
    looked_s = 0.0
    try:
        while True:
            _beat(database, name)
            if ended.wait(period_s):
                return False
            looked_s += period_s
            if looked_s >= LOOK_AGAIN_S:
                looked_s = 0.0
                if is_installed():
                    return True
    finally:
        _leave(database, name)


def _beat(database: Database, name: str) -> None:
    facts = {"missing": "tensorflow", "resident_bytes": resident_bytes(), "code_version": code_version()}
    try:
        with database.write() as session:
            heartbeats.beat(session, name=name, queues=[QUEUE_TRAINING], engine="", checkpoint_id=None, facts=facts)
    except SQLAlchemyError as error:
        log.warning("heartbeat_missed", error=type(error).__name__)


def _leave(database: Database, name: str) -> None:
    try:
        with database.write() as session:
            heartbeats.leave(session, name)
    except SQLAlchemyError as error:
        log.warning("heartbeat_left_behind", error=type(error).__name__)
    database.close()
