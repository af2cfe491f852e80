"""The listener's sockets: who may connect at all, TLS, and bounds on what a peer may make us hold.

Owns the gaps between pynetdicom 3.0.4 and a port that strangers reach: a PDU is read whole by the length that its peer
states (up to 4 GiB), the TLS handshake runs in the one thread that accepts, an object may grow until the disk is full,
and a peer that stops in the middle of a PDU is waited for without end. Refuses to know DICOM above the PDU.
"""

import logging
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.events import EventType
from pynetdicom.transport import AddressInformation, AssociationSocket, RequestHandler, ThreadedAssociationServer

from config.dicom_peers import Peer, known_address

ASSOCIATE_BYTES = 1024 * 1024
"""An A-ASSOCIATE-RQ is not bound by the largest PDU; with 128 presentation contexts it has some 30 KiB."""
LOOK_AT_DISK_BYTES = 8 * 1024 * 1024
HANDSHAKE_S = 10.0
PIECE_BYTES = 256 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What a peer may make us hold.

    Attributes:
        peers: The allow-list.
        connections: Most connections at once, also those that have not said who they are.
        pdu_bytes: Largest PDU.
        object_bytes: Largest object, all its PDUs together.
        silence_s: A read that takes longer ends the connection.
        folder: Where objects are spooled.
        free_bytes: The disk of `folder` must keep so much free.
    """

    peers: tuple[Peer, ...]
    connections: int
    pdu_bytes: int
    object_bytes: int
    silence_s: float
    folder: Path
    free_bytes: int


@dataclass
class Traffic:
    """What one association brought.

    Attributes:
        address: The peer's IP address.
        object_bytes: Of the object that is being received.
        stored: Instances acknowledged.
        refused: Instances refused.
        size_bytes: Of all that was received.
        unlooked_bytes: Since the disk was last looked at.
    """

    address: str
    object_bytes: int = 0
    stored: int = 0
    refused: int = 0
    size_bytes: int = 0
    unlooked_bytes: int = 0


class PeerTooLarge(OSError):
    """A peer sends more than it may; pynetdicom answers every OSError of a read by ending the connection."""


def bounded_read(connection: AssociationSocket, bounds: Bounds, traffic: Traffic) -> Callable[[int], bytearray]:
    """A replacement of `AssociationSocket.recv` that keeps to the bounds, and reads larger pieces.

    Args:
        connection: Whose reads are bounded.
        bounds: The limits.
        traffic: Counts what is read.
    """

    def receive(count: int) -> bytearray:
        if count > max(bounds.pdu_bytes, ASSOCIATE_BYTES):
            raise _ended("pdu_too_large", traffic, received=count, expected_at_most=bounds.pdu_bytes)
        traffic.object_bytes += count
        traffic.size_bytes += count
        traffic.unlooked_bytes += count
        if traffic.object_bytes > bounds.object_bytes + ASSOCIATE_BYTES:
            raise _ended("object_too_large", traffic, expected_at_most=bounds.object_bytes)
        if traffic.unlooked_bytes > LOOK_AT_DISK_BYTES:
            traffic.unlooked_bytes = 0
            # Half of the reserve may go to what is under way; the next object is refused with a status of its own.
            if shutil.disk_usage(bounds.folder).free < bounds.free_bytes // 2:
                raise _ended("disk_full", traffic, expected_free_bytes=bounds.free_bytes)
        source = connection.socket
        if source is None:
            raise OSError("the connection is closed")
        whole = bytearray(count)
        view, done = memoryview(whole), 0
        while done < count:
            read = source.recv_into(view[done : done + PIECE_BYTES])
            if not read:
                view.release()
                del whole[done:]
                return whole
            done += read
        view.release()
        return whole

    return receive


class Server(ThreadedAssociationServer):
    """Accepts connections of known addresses; what a peer does is done in a thread of its own.

    Args:
        entity: The application entity, whose title and contexts count.
        address: Where to listen.
        ssl_context: For TLS; None for none.
        handlers: (event, function) pairs.
        bounds: What a peer may make us hold.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        *,
        ssl_context: ssl.SSLContext | None,
        handlers: list[tuple[EventType, Callable[..., Any]]],
        bounds: Bounds,
    ) -> None:
        self.bounds = bounds
        self.traffic: dict[Association, Traffic] = {}
        super().__init__(
            entity,
            address,
            entity.ae_title,
            entity.supported_contexts,
            ssl_context=ssl_context,
            evt_handlers=list(handlers),
            request_handler=Handler,
        )
        entity._servers.append(self)  # `shutdown` takes it off again

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts without the TLS handshake: a peer that is silent in it would keep all others out."""
        assert self.socket is not None  # noqa: S101 - bound since it was built
        connection, address = self.socket.accept()
        connection.settimeout(self.bounds.silence_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether anybody of the allow-list may come from this address, and there is room."""
        address = client_address[0]
        if not known_address(self.bounds.peers, address):
            log.warning("connection_refused", extra={"reason": "address_not_allowed", "address": address})
            return False
        if len(self.active_associations) >= self.bounds.connections:
            log.warning("connection_refused", extra={"reason": "too_many_connections", "address": address})
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: the handshake, then the association."""
        if self.ssl_context is not None:
            request.settimeout(HANDSHAKE_S)
            try:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            except (ssl.SSLError, OSError) as error:
                reason = getattr(error, "reason", "") or type(error).__name__
                log.warning(
                    "connection_refused", extra={"reason": "tls", "detail": reason, "address": client_address[0]}
                )
                self.shutdown_request(request)
                return
            request.settimeout(self.bounds.silence_s)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs instead of printing a traceback."""
        log.error("connection_failed", extra={"address": client_address[0]}, exc_info=sys.exc_info())

    def forget_ended(self) -> None:
        """Drops the counts of associations that are gone."""
        for association in [found for found in list(self.traffic) if not found.is_alive() and found.ident is not None]:
            self.traffic.pop(association, None)

    @property
    def active_associations(self) -> list[Association]:
        """Running associations of this server."""
        return [found for found in threading.enumerate() if isinstance(found, Association) and found._server is self]


class Handler(RequestHandler):
    """Makes an association whose reads are bounded."""

    server: Server

    def _create_association(self) -> Association:
        association: Association = super()._create_association()
        traffic = Traffic(AddressInformation.from_tuple(self.client_address).address)
        self.server.traffic[association] = traffic
        connection = association.dul.socket
        assert connection is not None  # noqa: S101 - set by the line before
        connection.recv = bounded_read(connection, self.server.bounds, traffic)  # type: ignore[method-assign,assignment]
        return association


def _ended(reason: str, traffic: Traffic, **facts: int) -> PeerTooLarge:
    log.warning("connection_ended", extra={"reason": reason, "address": traffic.address, **facts})
    return PeerTooLarge(reason)
