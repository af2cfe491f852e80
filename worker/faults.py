"""The kinds of fault a work item may meet, and what follows from each.

Owns the judgement: *lost* (somebody else has the item: stop), *transient* (the surroundings are at fault: put it off,
the attempt does not count), *fatal* (no repetition helps: give up at once); everything else counts as a failed attempt.
A user's bad file is none of these: it ends as one failed slice or one line of the receipt.

Refuses to show an exception's message in a log: it may hold a path or a value out of somebody's file.
"""

import traceback
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

from config.settings import ROOT
from db.blobs import StoreFull
from imaging.decoders import DecodersUnavailable

LONGEST_DELAY_S = 60.0
MAX_DEFERRALS = 40
"""Of one item: with the delays growing to a minute, about half an hour of outage."""


class Transient(Exception):
    """The surroundings are at fault; `code` says which part."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class Fatal(Exception):
    """No repetition helps; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def transient_code(error: BaseException) -> str | None:
    """A short name of the fault when it is the surroundings'; None when it is not."""
    if isinstance(error, Transient):
        return error.code
    if isinstance(error, OperationalError | InterfaceError | TimeoutError):
        return "database_unavailable"
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return "database_unavailable"
    if isinstance(error, StoreFull):
        return "disk_full"
    if isinstance(error, DecodersUnavailable):
        return "decoders_unavailable"
    if isinstance(error, OSError):
        return "storage_unavailable"
    return None


def delay_s(times: int, first_s: float) -> float:
    """How long to wait before the next try: doubling, up to a minute.

    Args:
        times: How often it has been put off before.
        first_s: The first delay, seconds.
    """
    return float(min(LONGEST_DELAY_S, max(first_s, 0.0) * 2 ** min(times, 16)))


def place_of(error: BaseException) -> str:
    """Where it was raised, as `file:line` of the innermost frames; no message, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames))


def _short(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-2:])
