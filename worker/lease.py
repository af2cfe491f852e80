"""Keeps a claim alive while its work goes on, and notices when it is lost.

Owns one background thread a claim: it renews the lease, and asks every second whether the claim still holds, so that a
cancelled job stops within seconds. Refuses to stop work itself: the work asks `check()` between small steps. What
guards the data is not this thread but the fence in every write.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.queries import claims
from db.queries.claims import Claim, LeaseLost
from db.session import Database

ASK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Stopping(Exception):
    """This process has to end: give the item back, so that another one does it."""


class Lease:
    """Use as a context manager around the work on one claim.

    Args:
        database: Where the claim stands.
        claim: The claim.
        lease_s: How long a renewal holds, seconds.
        stopping: Whether this process was told to end.
        grace_s: How long the work may go on after that, seconds.

    Attributes:
        progress: Set by the work: files or slices finished so far; written along with renewals.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        lease_s: float,
        *,
        stopping: Callable[[], bool] = lambda: False,
        grace_s: float = 0.0,
    ) -> None:
        self._database, self._claim, self._lease_s = database, claim, lease_s
        self._stopping, self._grace_s = stopping, grace_s
        self._stop_at: float | None = None
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._good_until = time.monotonic() + lease_s
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.progress = 0

    def __enter__(self) -> Self:
        """Starts to renew."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops renewing; the claim itself is the caller's to finish or release."""
        self._ended.set()
        self._thread.join(timeout=1.0)  # it may be waiting for the database; its renewal is fenced, so leave it

    @property
    def seconds_left(self) -> float:
        """For how long the claim holds at least, unless it was taken away; by this process's clock."""
        return self._good_until - time.monotonic()

    @property
    def winding_down(self) -> bool:
        """Whether this process was told to end: work that reaches a good place to stop should."""
        return self._stop_at is not None

    def check(self) -> None:
        """To be called between small steps of the work.

        Raises:
            LeaseLost: When the claim is known to be lost: cancelled, reaped, or not renewed in time.
            Stopping: When this process has to end and the time of grace is over.
        """
        if self._stop_at is not None and time.monotonic() > self._stop_at:
            raise Stopping(f"work item {self._claim.item_id}: this process has to end")
        if self._lost.is_set() or self.seconds_left <= 0:
            raise LeaseLost(f"work item {self._claim.item_id}: the lease of attempt {self._claim.attempt} is gone")

    def wait(self, seconds: float) -> None:
        """Waits, but not beyond the loss of the claim."""
        self._lost.wait(seconds)

    def _keep(self) -> None:
        renew_every_s = self._lease_s / 3
        renewed = time.monotonic()
        while not self._ended.wait(min(ASK_EVERY_S, renew_every_s / 2)):
            if self._stop_at is None and self._stopping():
                self._stop_at = time.monotonic() + self._grace_s
            try:
                now = time.monotonic()
                if now - renewed >= renew_every_s:
                    with self._database.write() as session:
                        claims.hold(session, self._claim, lease_s=self._lease_s, progress=self.progress)
                    # From before the write: the database may have granted it at any moment since.
                    self._good_until, renewed = now + self._lease_s, now
                else:
                    with self._database.read() as session:
                        held = claims.still_held(session, self._claim)
                    if not held:
                        self._lost.set()
            except LeaseLost:
                self._lost.set()
            except SQLAlchemyError as error:
                # The database is away: go on asking; `check` gives up when the lease must have run out.
                log.warning("lease_not_renewed", error=type(error).__name__)
            if self._lost.is_set():
                return
