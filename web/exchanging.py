"""What people do with archives, for the pages and the API alike: enter one, try it, send a study's results to it.

Owns the order of each action: rows and audit row in one transaction, then the doorbell. Sending itself is a worker's;
only the trial of a connection happens here, while the admin waits for it.
"""

import uuid
from dataclasses import replace
from typing import Final

from db.exchange import Content, Peer, PeerKind, Sending
from db.jobs import WorkItem
from db.queries import audit, peers, sendings
from db.queries.refusals import ExchangeRefused
from exchange.peering import PeerRefused, PeerUnavailable, Route, parse_dimse, parse_url
from web.access import actor, the_user
from web.objects import find_study
from web.services import services
from web.submitting import ring_for

TRIAL_S: Final = 8.0
"""So long an admin waits at most for an archive that does not answer."""


def add_peer(*, name: str, kind: str, address: str, secret_name: str, tls: bool, automatic: bool) -> Peer:
    """Enters an archive.

    Raises:
        ExchangeRefused: With what is wrong and how to mend it; nothing was changed.
    """
    peer = Peer(name=name, secret_name=secret_name.strip(), automatic=automatic)
    if kind == PeerKind.DICOMWEB:
        peer.kind, peer.url = PeerKind.DICOMWEB, parse_url(address)
    elif kind == PeerKind.DIMSE:
        peer.kind, peer.tls = PeerKind.DIMSE, tls
        peer.ae_title, peer.host, peer.port = parse_dimse(address)
        peer.secret_name = ""
    else:
        raise ExchangeRefused(
            "peer_kind", "Received the kind %(received)s; expected dimse or dicomweb.", {"received": kind[:32] or "–"}
        )
    with services().database.write() as db:
        peers.add(db, peer)
        detail = {"name": peer.name, "kind": str(peer.kind), "address": peer.address, "automatic": automatic}
        audit.record(db, actor(), "peer.add", object_kind="peer", object_id=peer.id, detail=detail)
    return peer


def set_automatic(peer_id: uuid.UUID, automatic: bool) -> Peer:
    """Switches sending by itself on or off for an archive. Raises ExchangeRefused `unknown_peer`."""
    with services().database.write() as db:
        peer = peers.find(db, peer_id)
        peer.automatic = automatic
        detail = {"name": peer.name, "automatic": automatic}
        audit.record(db, actor(), "peer.automatic", object_kind="peer", object_id=peer_id, detail=detail)
    return peer


def remove_peer(peer_id: uuid.UUID) -> Peer:
    """Removes an archive. Raises ExchangeRefused `unknown_peer`."""
    with services().database.write() as db:
        peer = peers.remove(db, peer_id)
        audit.record(db, actor(), "peer.remove", object_kind="peer", object_id=peer_id, detail={"name": peer.name})
    return peer


def try_peer(peer_id: uuid.UUID) -> tuple[Peer, str, str, dict[str, object]]:
    """Speaks with an archive: C-ECHO, or a search with the secret.

    Returns:
        (the peer, what it answered or empty, code of the reason why not or empty, facts of the reason).

    Raises:
        ExchangeRefused: `unknown_peer`.
    """
    parts = services()
    with parts.database.read() as db:
        peer = peers.find(db, peer_id)
    said, code, detail = "", "", {}
    try:
        route = Route.to(peer, parts.settings)
        route = replace(route, timeout_s=min(route.timeout_s, TRIAL_S))
        if route.kind == PeerKind.DICOMWEB:
            from exchange import dicomweb

            said = dicomweb.probe(route)
        else:
            from exchange import dimse  # its library is large, and few requests need it

            said = dimse.echo(route)
    except PeerRefused as error:
        code, detail = error.code, error.detail
    except PeerUnavailable as error:
        code = error.code
    with parts.database.write() as db:
        audit.record(
            db,
            actor(),
            "peer.try",
            object_kind="peer",
            object_id=peer_id,
            outcome=audit.FAILED if code else audit.OK,
            detail={"name": peer.name, "answer": said or code},
        )
    return peer, said, code, detail


def send(study_id: uuid.UUID, peer_id: uuid.UUID, *, content: Content, digest: str) -> Sending:
    """Asks that a study's results be sent to an archive.

    Raises:
        Problem: 404.
        ExchangeRefused: There is nothing to send, no such archive, or it is on its way already.
    """
    parts = services()
    with parts.database.write() as db:
        find_study(db, study_id)
        peer = peers.find(db, peer_id)
        checkpoint = sendings.wanted_checkpoint(db, study_id, digest)
        sending, item = sendings.request(
            db,
            study_id=study_id,
            peer=peer,
            checkpoint=checkpoint,
            content=content,
            by=the_user().id,
            max_attempts=parts.settings.max_attempts,
        )
        detail = {"sending": str(sending.id), "peer": peer.name, "content": content.value, "digest": checkpoint.digest}
        audit.record(db, actor(), "study.send", object_kind="study", object_id=study_id, detail=detail)
    _ring(item)
    return sending


def send_again(study_id: uuid.UUID, sending_id: uuid.UUID) -> None:
    """Takes up a sending that failed. Raises Problem 404 and ExchangeRefused."""
    parts = services()
    with parts.database.write() as db:
        find_study(db, study_id)
        item = sendings.again(db, study_id, sending_id, max_attempts=parts.settings.max_attempts)
        detail = {"sending": str(sending_id)}
        audit.record(db, actor(), "study.send", object_kind="study", object_id=study_id, detail=detail)
    _ring(item)


def stop(study_id: uuid.UUID, sending_id: uuid.UUID) -> None:
    """Stops a sending. Raises Problem 404 and ExchangeRefused."""
    with services().database.write() as db:
        find_study(db, study_id)
        sendings.cancel(db, study_id, sending_id)
        detail = {"sending": str(sending_id)}
        audit.record(db, actor(), "study.send_stop", object_kind="study", object_id=study_id, detail=detail)


def _ring(item: WorkItem) -> None:
    ring_for([(item.task, item.queue, item.id)])
