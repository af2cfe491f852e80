"""What people do to fetch studies from archives, for the pages and the API alike.

Owns the order of each action: rows and audit row in one transaction, then the doorbell. Refuses to speak with an
archive: a worker does.
"""

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from db.exchange import Retrieval
from db.queries import audit, peers, retrievals
from db.queries.refusals import ExchangeRefused
from db.queries.retrievals import RetrievalView
from db.states import Priority
from exchange.archive import parse_numbers
from exchange.off_peak import seconds_until
from web.access import actor, the_user
from web.objects import Hidden, viewer
from web.services import services
from web.submitting import ring_for


def fetch(peer_id: uuid.UUID, numbers: str, *, title: str, priority: Priority) -> Retrieval:
    """Asks for the studies of a list of accession numbers; with `off_peak`, at off-peak hours only.

    Raises:
        ExchangeRefused: No such archive, or the list is not usable.
    """
    parts = services()
    wanted = parse_numbers(numbers)
    wait_s = seconds_until(datetime.now().astimezone(), parts.settings) if priority == Priority.OFF_PEAK else 0.0
    with parts.database.write() as db:
        peer = peers.find(db, peer_id)
        retrieval, items = retrievals.request(
            db,
            peer=peer,
            numbers=wanted,
            title=title,
            priority=priority,
            by=the_user().id,
            max_attempts=parts.settings.max_attempts,
            not_before=datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s else None,
        )
        detail = {"peer": peer.name, "numbers": len(wanted), "priority": priority.value}
        audit.record(db, actor(), "retrieval.ask", object_kind="retrieval", object_id=retrieval.id, detail=detail)
    if not wait_s:
        ring_for([(item.task, item.queue, item.id) for item in items])
    return retrieval


def find(db: Session, retrieval_id: uuid.UUID) -> RetrievalView:
    """A list that the user may see. Raises Problem 404 otherwise."""
    try:
        return retrievals.one(db, viewer(), retrieval_id)
    except ExchangeRefused:
        raise Hidden("retrieval", retrieval_id, exists=db.get(Retrieval, retrieval_id) is not None) from None


def again(retrieval_id: uuid.UUID) -> None:
    """Takes up what failed of a list. Raises ExchangeRefused."""
    parts = services()
    with parts.database.write() as db:
        find(db, retrieval_id)
        items = retrievals.again(db, viewer(), retrieval_id, max_attempts=parts.settings.max_attempts)
        detail = {"numbers": len(items), "again": True}
        audit.record(db, actor(), "retrieval.ask", object_kind="retrieval", object_id=retrieval_id, detail=detail)
    ring_for([(item.task, item.queue, item.id) for item in items])


def stop(retrieval_id: uuid.UUID) -> None:
    """Stops what of a list is not fetched yet. Raises ExchangeRefused."""
    with services().database.write() as db:
        find(db, retrieval_id)
        lines = retrievals.cancel(db, viewer(), retrieval_id)
        detail = {"lines": lines}
        audit.record(db, actor(), "retrieval.stop", object_kind="retrieval", object_id=retrieval_id, detail=detail)
