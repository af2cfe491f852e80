"""How what somebody asked for ends: an import, a comparison, a sending, a line of a retrieval.

Owns the two ends, the same for all of them. Refuses to finish the work item: the fence is its caller's.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from db.clock import database_now
from db.exchange import RetrievalLine, Sending
from db.registry import CheckpointImport, Comparison
from db.states import RequestState, check

Request = CheckpointImport | Comparison | RetrievalLine | Sending


def done(session: Session, row: Request) -> None:
    """Ends a request that gave what was asked for."""
    row.state = check(RequestState(row.state), RequestState.DONE)
    row.finished_at = database_now(session)
    session.flush()


def failed(session: Session, row: Request | None, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a request that gave nothing; no effect when it has ended before, or is gone."""
    if row is None or row.state != RequestState.PENDING:
        return
    row.state = check(RequestState(row.state), RequestState.FAILED)
    row.failure_code, row.failure_detail = code, dict(detail)
    row.finished_at = database_now(session)
    session.flush()
