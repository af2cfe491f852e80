"""Speaking DIMSE with an archive, as its client (SCU): C-ECHO and C-STORE.

Owns one association at a time, its limits in time, and what a peer's answer means: stored, refused, or not now. The
DICOM network library is loaded here, when a peer is spoken with. Refuses to log what goes over the wire.

Statuses are those of PS3.7 annex C and PS3.4 B.2.3: 0x0000 and 0xBxxx mean that the object is stored, 0xA7xx that the
peer has no room, everything else that it does not want this object.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from exchange.peering import Answer, PeerRefused, PeerUnavailable, Route

PLAIN: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
NOT_SUPPORTED: Final = "0x0122"
"""SOP class not supported (PS3.7 C.5.7): also written when no presentation context for it was accepted."""
COMMENT: Final = 200
LONGEST_CONNECT_S: Final = 10.0


class Line:
    """An association with a peer; use as a context manager.

    Args:
        route: The peer.
        classes: SOP classes to be sent.
    """

    def __init__(self, route: Route, classes: Iterable[str]) -> None:
        self._route = route
        self._entity = entity(route)
        for uid in classes:
            self._entity.add_requested_context(uid, PLAIN)
        self._association: Association | None = None

    def __enter__(self) -> Self:
        """Asks for the association. Raises PeerUnavailable or PeerRefused."""
        self._association = associate(self._entity, self._route)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Releases it."""
        if self._association is not None:
            leave(self._association)

    def store(self, data: bytes, sop_class_uid: str) -> Answer:
        """C-STORE of one object.

        Args:
            data: A DICOM file, uncompressed little endian.
            sop_class_uid: Of the object.

        Raises:
            PeerUnavailable: `peer_silent` when the association broke, `peer_full` when it has no room.
        """
        association = self._association
        assert association is not None  # noqa: S101 - entered, for the type checker
        if not any(context.abstract_syntax == sop_class_uid for context in association.accepted_contexts):
            return Answer(False, NOT_SUPPORTED)
        with warnings.catch_warnings():
            # A value that the library finds odd would be quoted in a warning: it may be a name.
            warnings.simplefilter("ignore")
            try:
                status = association.send_c_store(dcmread(io.BytesIO(data)))
            except RuntimeError as error:  # no association any more
                raise _silent(self._route) from error
        if "Status" not in status:
            raise _silent(self._route)
        code = int(status.Status)
        if code & 0xFF00 == 0xA700:
            raise PeerUnavailable("peer_full", f"status 0x{code:04X}: the peer is out of resources")
        return Answer(
            stored=code == 0 or code & 0xF000 == 0xB000,
            status=f"0x{code:04X}",
            comment=str(status.get("ErrorComment", "") or "")[:COMMENT],
        )


def echo(route: Route) -> str:
    """C-ECHO; returns what to tell the person who asked. Raises PeerUnavailable or PeerRefused."""
    ours = entity(route)
    ours.add_requested_context(Verification, PLAIN)
    association = associate(ours, route)
    try:
        status = association.send_c_echo()
    except ValueError as error:
        raise PeerRefused("peer_no_echo") from error
    except RuntimeError as error:
        raise _silent(route) from error
    finally:
        leave(association)
    if "Status" not in status:
        raise _silent(route)
    return f"0x{int(status.Status):04X}"


def entity(route: Route) -> ApplicationEntity:
    """Our side of an association, with limits on every wait; the library's reports are switched off."""
    quiet()
    ours = ApplicationEntity(ae_title=route.our_title)
    ours.connection_timeout = min(LONGEST_CONNECT_S, route.timeout_s)
    ours.acse_timeout = ours.dimse_timeout = ours.network_timeout = route.timeout_s
    return ours


def associate(ours: ApplicationEntity, route: Route, **more: Any) -> Association:
    """Opens an association.

    Raises:
        PeerUnavailable: `peer_unreachable` or `peer_busy`.
        PeerRefused: `association_rejected`, `no_common_context`, `certificate_unusable`, `certificate_not_trusted`.
    """
    tls = (route.tls_context(), route.host) if route.tls else None
    _knock(ours, route)
    association = ours.associate(route.host, route.port, ae_title=route.their_title, tls_args=tls, **more)
    if association.is_established:
        return association
    answer = association.acceptor.primitive
    if answer is None:
        raise PeerUnavailable("peer_unreachable", "there is no connection to the peer, or it did not answer")
    if answer.result == 0x00:
        raise PeerRefused("no_common_context")
    # PS3.8 9.3.4: a transient rejection is worth another try.
    if answer.result == 0x02:
        raise PeerUnavailable("peer_busy", "the peer rejected the association for the time being")
    raise PeerRefused(
        "association_rejected",
        {"ours": route.our_title, "theirs": route.their_title, "says": str(answer.reason_str)[:100]},
    )


def _knock(ours: ApplicationEntity, route: Route) -> None:
    """Opens and closes a connection first: the library does not say why there is none, and leaves its socket open."""
    try:
        with socket.create_connection((route.host, route.port), timeout=ours.connection_timeout) as plain:
            if route.tls:
                route.tls_context().wrap_socket(plain, server_hostname=route.host).close()
    except ssl.SSLCertVerificationError as error:
        raise PeerRefused("certificate_not_trusted") from error
    except OSError as error:
        raise PeerUnavailable("peer_unreachable", f"no connection: {type(error).__name__}") from error


def leave(association: Association) -> None:
    """Ends an association in the orderly way where that is still possible."""
    if association.is_established:
        association.release()


def quiet() -> None:
    """The library reports what it sends and receives, identifiers among it: off."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def _silent(route: Route) -> PeerUnavailable:
    return PeerUnavailable("peer_silent", f"the peer gave no answer within {route.timeout_s:g} s, or broke off")
