"""The audit trail as a chain: each row carries the digest of the row before it, so that a change shows.

Owns the digest of a row, and sealing: as the last thing before a commit the transaction takes hold of the chain's end
and gives its rows their places. It comes last so that nobody who holds the end waits for anybody else; the rows of a
transaction that is rolled back leave no gap.

Whoever may write to the database can make a whole new chain. Only a digest that was kept elsewhere shows that:
`python -m ops audit` prints it. Refuses to be quiet about an unsealed row.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from db.users import AuditEvent, AuditHead

HEAD_ID = 1
_WAITING = "neurosight_unsealed"


def remember(session: Session, row: AuditEvent) -> None:
    """Has a flushed row sealed when its transaction commits."""
    session.info.setdefault(_WAITING, []).append(row)


def seal(session: Session) -> None:
    """Gives the transaction's rows their places in the chain; called before each commit of a writing session."""
    if session.in_nested_transaction():
        return  # a savepoint: what follows it could wait for others
    rows = [row for row in session.info.pop(_WAITING, []) if inspect(row).persistent]
    if not rows:
        return
    head = session.scalars(select(AuditHead).where(AuditHead.id == HEAD_ID).with_for_update()).one()
    number, before = head.chain_number, head.row_sha256
    for row in rows:
        number += 1
        row.chain_number, row.previous_sha256 = number, before
        row.row_sha256 = before = digest(content(row))
    head.chain_number, head.row_sha256 = number, before
    session.flush()


@dataclass(frozen=True)
class Fault:
    """A place where the chain does not hold.

    Attributes:
        at: Place in the chain; 0 for rows that have none.
        kind: `altered`, `missing`, `relinked`, `unsealed`, `end` or `expected`.
        text: In words.
    """

    at: int
    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a look at the whole chain found."""

    rows: int
    last_number: int
    last_sha256: str
    faults: list[Fault]


def verify(session: Session, expected: Mapping[int, str] | None = None, *, most: int = 20) -> Verdict:
    """Computes every row's digest anew and follows the chain.

    Args:
        session: For reading.
        expected: Digests by place that were kept elsewhere: with one, also a chain that was made anew is found.
        most: Faults that are named; the search ends there.

    Returns:
        The verdict; the chain holds when it names no fault.
    """
    faults: list[Fault] = []
    expected = dict(expected or {})
    head = session.scalars(select(AuditHead).where(AuditHead.id == HEAD_ID)).one_or_none()
    unsealed = session.scalar(select(func.count()).where(AuditEvent.chain_number.is_(None))) or 0
    if unsealed:
        faults.append(Fault(0, "unsealed", f"{unsealed} rows have no place in the chain: they were put in beside it"))
    number, before, rows = 0, "", 0
    query = select(AuditEvent).where(AuditEvent.chain_number.is_not(None)).order_by(AuditEvent.chain_number)
    for row in session.scalars(query.execution_options(yield_per=1000)):
        place = row.chain_number or 0
        rows += 1
        if place != number + 1:
            faults.append(Fault(number + 1, "missing", f"rows {number + 1} to {place - 1} are missing"))
        elif row.previous_sha256 != before:
            faults.append(Fault(place, "relinked", f"row {place} does not follow row {number}: either was exchanged"))
        if digest(content(row)) != row.row_sha256:
            faults.append(
                Fault(place, "altered", f"row {place} ({row.action}, {row.occurred_at:%Y-%m-%d}) was altered")
            )
        wanted = expected.pop(place, None)
        if wanted is not None and wanted != row.row_sha256:
            faults.append(Fault(place, "expected", f"row {place} has another digest than the one that was kept"))
        number, before = place, row.row_sha256
        session.expunge(row)
        if len(faults) >= most:
            return Verdict(rows, number, before, faults)
    if head is None or (head.chain_number, head.row_sha256) != (number, before):
        kept = head.chain_number if head else 0
        faults.append(Fault(number + 1, "end", f"the chain ends with row {number}; its end was noted as row {kept}"))
    faults += [Fault(place, "expected", f"row {place}, of which a digest was kept, is missing") for place in expected]
    return Verdict(rows, number, before, faults)


def content(row: AuditEvent) -> dict[str, Any]:
    """What a row's digest is over: all of it but its own digest and its number in the table."""
    return {
        "chain_number": row.chain_number,
        "previous_sha256": row.previous_sha256,
        "occurred_at": row.occurred_at.isoformat(timespec="microseconds"),
        "actor_id": str(row.actor_id) if row.actor_id else "",
        "actor_name": row.actor_name,
        "action": row.action,
        "object_kind": row.object_kind,
        "object_id": row.object_id,
        "outcome": row.outcome,
        "remote_address": row.remote_address,
        "detail": row.detail,
    }


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON: keys sorted, no spaces, ASCII, whole numbers without a point."""
    text = json.dumps(_canonical(values), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """The same value whichever database it was read from: PostgreSQL keeps 1e22 as a whole number."""
    if isinstance(value, Mapping):
        return {str(name): _canonical(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
