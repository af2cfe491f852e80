"""What visitors nobody knows are refused goes into the audit trail, but they do not get to fill it.

Owns counting: the first refusal of an address is a row at once, before the answer goes out; those that follow within a
minute are one row together, with their number, when the minute is over; and so on for as long as they come. So a
flood of requests costs a row a minute and address, and no write lock for each.

Refuses to count together what signed-in users are refused: each of those stays a row of its own. A process that is
killed loses the count of its last minute, never the first row.
"""

import atexit
import threading
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.queries import audit
from db.queries.audit import Actor
from db.session import Database

MOST_ADDRESSES: Final = 1000
"""So many addresses are told apart at a time; beyond, refusals are counted under none (an attacker may have many)."""

log = structlog.get_logger(__name__)

Key = tuple[Actor, str, str]


@dataclass
class _Repeated:
    detail: dict[str, Any]
    count: int = field(default=0)


class Denials:
    """The refusals of one web process.

    Args:
        database: Where the audit trail is.

    Attributes:
        window_s: How long refusals are counted together, seconds; 0: each is a row.
    """

    def __init__(self, database: Database, window_s: float = 60.0) -> None:
        self.window_s = window_s
        self._database = database
        self._lock = threading.Lock()
        self._open: dict[Key, _Repeated] = {}
        self._timer: threading.Timer | None = None
        atexit.register(self.close)

    def note(self, actor: Actor, action: str, detail: dict[str, Any]) -> None:
        """Records a refusal, or counts it.

        Args:
            actor: From where; and a name where one was given.
            action: What was refused, as `db.queries.audit.record` takes it.
            detail: Short facts of this request; of those that are counted only `reason` is kept.

        Raises:
            SQLAlchemyError: It could not be written: without the row there must be no answer but an error.
        """
        reason = {"reason": detail["reason"]} if "reason" in detail else {}
        with self._lock:
            key = (actor, action, str(reason))
            if key not in self._open and len(self._open) >= MOST_ADDRESSES:
                actor = Actor(actor.user_id, "", "")
                key = (actor, action, str(reason))
            known = self._open.get(key)
            if known is not None:
                known.count += 1
                return
        self._write(actor, action, detail)
        with self._lock:
            if self.window_s > 0:
                self._open.setdefault(key, _Repeated(reason))
                self._wake()

    def flush(self) -> None:
        """Writes a row for each address whose refusals were counted; those that went quiet are forgotten."""
        with self._lock:
            self._timer = None
            due = [(key, known, known.count) for key, known in self._open.items()]
            for key, known, count in due:
                if count:
                    known.count = 0
                else:
                    del self._open[key]
        for (actor, action, _), known, count in due:
            if not count:
                continue
            try:
                self._write(actor, action, {**known.detail, "count": count, "within_s": self.window_s})
            except SQLAlchemyError as error:
                log.warning("denials_not_written", error=type(error).__name__)
                known.count += count  # with the next round
        with self._lock:
            if self._open:
                self._wake()

    def close(self) -> None:
        """Writes what was counted and stops."""
        atexit.unregister(self.close)
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self.flush()
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        """Has `flush` called when a window is over; the lock is held."""
        if self._timer is None:
            self._timer = threading.Timer(self.window_s, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _write(self, actor: Actor, action: str, detail: dict[str, Any]) -> None:
        with self._database.write() as session:
            audit.record(session, actor, action, outcome=audit.DENIED, detail=detail)
