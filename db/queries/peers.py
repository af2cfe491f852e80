"""The archives that an admin has entered.

Owns listing, adding, changing and removing them, and how a name must look. Refuses to hold a secret: a peer names an
entry of the settings. Removing a peer keeps what was sent to it, under its name.
"""

import re
import uuid
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.exchange import Peer
from db.queries.refusals import ExchangeRefused

NAME_LENGTH: Final = 64
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9._-]{0,64}")


def all_peers(session: Session) -> list[Peer]:
    """Every peer, by name."""
    return list(session.scalars(select(Peer).order_by(func.lower(Peer.name))))


def find(session: Session, peer_id: uuid.UUID) -> Peer:
    """A peer.

    Raises:
        ExchangeRefused: `unknown_peer`.
    """
    peer = session.get(Peer, peer_id)
    if peer is None:
        raise ExchangeRefused(
            "unknown_peer", "There is no such archive; an administrator may have removed it.", status=404
        )
    return peer


def add(session: Session, peer: Peer) -> None:
    """Adds a peer whose address was read before.

    Raises:
        ExchangeRefused: `peer_name`, `peer_name_taken` or `secret_name`.
    """
    peer.name = " ".join(peer.name.split())
    if not 0 < len(peer.name) <= NAME_LENGTH:
        raise ExchangeRefused(
            "peer_name", "Give the archive a name of 1 to %(limit)s characters.", {"limit": NAME_LENGTH}, status=422
        )
    if session.scalar(select(Peer.id).where(func.lower(Peer.name) == peer.name.lower())):
        raise ExchangeRefused(
            "peer_name_taken", "There is an archive named %(name)s already; choose another name.", {"name": peer.name}
        )
    if not _SECRET_NAME.fullmatch(peer.secret_name):
        raise ExchangeRefused(
            "secret_name",
            "The name of a secret has letters, digits and . _ - only. Enter its name in NEUROSIGHT_PEER_SECRETS, never "
            "the secret itself.",
            status=422,
        )
    session.add(peer)
    session.flush()


def remove(session: Session, peer_id: uuid.UUID) -> Peer:
    """Removes a peer; what still waits for it ends with a reason when its turn comes. Raises as `find`."""
    peer = find(session, peer_id)
    session.delete(peer)
    session.flush()
    return peer
