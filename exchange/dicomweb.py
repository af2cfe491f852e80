"""Speaking DICOMweb with an archive, as its client: STOW-RS, and a first look (QIDO-RS).

Owns the HTTP of it: one connection that is kept, bodies of bounded size, a secret that goes to the peer's own host and
nowhere else (no redirect is followed), and what an answer means. The standard library's client suffices. Refuses to
log an address with its query, which may hold an accession number.

Statuses are those of PS3.18 10.5.3: 200 stored; 202 and 409 name the refused objects with a reason (0008,1197).
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from exchange.peering import Answer, PeerRefused, PeerUnavailable, Route

COMMENT: Final = 200
MAX_DOCUMENT_BYTES: Final = 32 * 1024 * 1024
_SUCCESS: Final = "0x0000"


class Line:
    """A connection to a DICOMweb service; use as a context manager.

    Args:
        route: The peer.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._parts = urlsplit(route.url)
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        """Opens nothing yet: the first request does."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def store(self, data: bytes, sop_class_uid: str) -> Answer:
        """STOW-RS of one object, so that every object has its own answer.

        Args:
            data: A DICOM file.
            sop_class_uid: Of the object; not needed here.

        Raises:
            PeerUnavailable: No connection, 429, or a fault of the server (5xx).
            PeerRefused: `peer_denied` (401, 403), `peer_no_service` (3xx, 404, 405).
        """
        boundary = secrets.token_hex(16)
        body = b"".join(
            (f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(), data, f"\r\n--{boundary}--".encode())
        )
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        with self.request("POST", "/studies", headers, body) as response:
            status, document = response.status, _document(response)
        if status in (200, 202, 409):
            return _judged(status, document)
        return Answer(False, f"HTTP {status}", http.client.responses.get(status, ""))

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """One request below the peer's root; the answer is read by the caller.

        Raises:
            PeerUnavailable: As `store`.
            PeerRefused: As `store`.
        """
        for fresh in (False, True):
            reused = self._connection is not None
            try:
                response = self._send(method, path, headers, body)
                break
            except (http.client.HTTPException, OSError) as error:
                self.close()
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise PeerRefused("certificate_not_trusted") from error
                # A connection that was kept may have been closed by the peer meanwhile: once more on a new one.
                if not reused or fresh:
                    silent = isinstance(error, socket.timeout)
                    raise PeerUnavailable(
                        "peer_silent" if silent else "peer_unreachable", f"no answer: {type(error).__name__}"
                    ) from error
        status = response.status
        if status in (401, 403):
            self.close()
            raise PeerRefused("peer_denied", {"status": status})
        if 300 <= status < 400 or status in (404, 405, 410, 501):
            self.close()
            raise PeerRefused("peer_no_service", {"status": status})
        if status == 429 or status >= 500:
            self.close()
            raise PeerUnavailable("peer_full" if status == 507 else "peer_busy", f"HTTP {status}")
        return response

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> http.client.HTTPResponse:
        if self._connection is None:
            host, timeout_s = self._parts.hostname or "", self._route.timeout_s
            if self._parts.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    host, self._parts.port, timeout=timeout_s, context=self._route.tls_context()
                )
            else:
                self._connection = http.client.HTTPConnection(host, self._parts.port, timeout=timeout_s)
        self._connection.request(method, self._parts.path + path, body=body, headers={**headers, **self._proof()})
        return self._connection.getresponse()

    def _proof(self) -> dict[str, str]:
        secret = self._route.secret
        if not secret:
            return {}
        if ":" in secret:  # user and password (RFC 7617); a bearer token holds no colon (RFC 6750)
            return {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}
        return {"Authorization": f"Bearer {secret}"}


def probe(route: Route) -> str:
    """Asks for one study with the secret; returns what to tell the person who asked.

    Raises:
        PeerUnavailable: No connection.
        PeerRefused: No access, or no such service there.
    """
    with (
        Line(route) as line,
        line.request("GET", "/studies?limit=1", {"Accept": "application/dicom+json"}) as response,
    ):
        response.read(MAX_DOCUMENT_BYTES)
        if response.status not in (200, 204):
            raise PeerRefused("peer_no_service", {"status": response.status})
        return f"HTTP {response.status}"


def values(item: Mapping[str, Any], tag: str) -> list[Any]:
    """The values of an element in DICOM JSON (PS3.18 F.2); empty when it is not there or not a list."""
    element = item.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def _document(response: http.client.HTTPResponse) -> dict[str, Any]:
    text = response.read(MAX_DOCUMENT_BYTES)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}  # XML, or a page of a proxy: the status alone has to do
    if isinstance(found, list):
        found = found[0] if found else {}
    return found if isinstance(found, dict) else {}


def _judged(status: int, document: Mapping[str, Any]) -> Answer:
    """What the answer says of the one object that was sent."""
    failed = next((item for item in values(document, "00081198") if isinstance(item, dict)), None)
    if failed is not None or status == 409:
        reason = next(iter(values(failed or {}, "00081197")), None)
        return Answer(False, f"0x{reason:04X}" if isinstance(reason, int) else f"HTTP {status}")
    warned = next((item for item in values(document, "00081199") if isinstance(item, dict)), {})
    reason = next(iter(values(warned, "00081196")), None)
    return Answer(True, f"0x{reason:04X}" if isinstance(reason, int) else _SUCCESS)
