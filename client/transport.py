"""One HTTP connection to the server, kept open and made again when it breaks.

Owns requests, patience (retry with growing pauses, `Retry-After` honoured) and the two ways a request can fail for
good: `Refused` (the server said no: repeating would not help) and `Unreachable` (no answer although it was tried
again).
"""

import contextlib
import http.client
import json
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

BLOCK_BYTES = 64 * 1024
REPEATABLE = frozenset({408, 425, 429, 502, 503, 504})
BROKEN = (OSError, http.client.HTTPException)


class Refused(Exception):
    """The server's answer was an error.

    Attributes:
        status: HTTP status.
        code: The problem's machine-readable name; empty when the server sent none.
        problem: The whole problem document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, dict(problem)
        self.code = str(problem.get("code", ""))
        super().__init__(
            f"{problem.get('detail') or problem.get('title') or 'the server refused'} ({status} {self.code})"
        )


class Unreachable(Exception):
    """The server did not answer, however often it was tried."""


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        document = json.loads(self.body)
        if not isinstance(document, dict):
            raise ValueError(f"received JSON of type {type(document).__name__}; expected an object")
        return document


class Transport:
    """Sends requests to one server.

    Args:
        url: `https://host[:port][/prefix]`.
        token: API token.
        timeout_s: Longest silence of the server, seconds.
        patience_s: A request is tried again for so long, seconds.
        context: TLS settings; by default the system's certificates are trusted.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"received the URL {url!r}; expected https://HOST or http://HOST:PORT")
        self._parts, self._token, self._context = parts, token, context
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Callable[[], IO[bytes]] | None = None,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
        on_trouble: Callable[[str, float], None] | None = None,
    ) -> Answer:
        """Sends a request that may be repeated without harm.

        Args:
            method: `GET`, `PUT`, ...
            path: Address on the server.
            body: Bytes, or a function that opens the body anew for each try.
            size: Size of an opened body, bytes.
            headers: Further headers.
            on_trouble: Told of each failed try: what happened, and the pause that follows, seconds.

        Raises:
            Refused: The server said no.
            Unreachable: It did not answer within the patience.
        """
        started, tries = time.monotonic(), 0
        while True:
            tries += 1
            wait_s: float | None = None
            try:
                status, answer_headers, data = self._once(method, path, body, size, headers or {})
                if status < 400:
                    return Answer(status, answer_headers, data)
                refused = Refused(status, _problem(data, status))
                if status not in REPEATABLE:
                    raise refused
                why: Exception = refused
                with contextlib.suppress(ValueError):
                    wait_s = float(answer_headers.get("Retry-After", ""))
            except BROKEN as error:
                why = error
                self.close()
            pause_s = min(wait_s if wait_s is not None else 0.25 * 2 ** min(tries - 1, 6), 30.0)
            pause_s *= random.uniform(0.8, 1.2)  # noqa: S311 - spreads clients, no secret
            if time.monotonic() - started + pause_s > self._patience_s:
                if isinstance(why, Refused):
                    raise why
                raise Unreachable(f"no answer from {self._parts.netloc} in {tries} tries: {_words(why)}") from why
            if on_trouble:
                on_trouble(_words(why), pause_s)
            time.sleep(pause_s)

    def close(self) -> None:
        """Closes the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], IO[bytes]] | None,
        size: int | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = self._open()
        connection.putrequest(method, self._prefix + path, skip_accept_encoding=True)
        connection.putheader("Authorization", f"Bearer {self._token}")
        connection.putheader("Accept", "application/json, text/csv, */*")
        for name, value in headers.items():
            connection.putheader(name, value)
        if isinstance(body, bytes):
            size = len(body)
        if body is not None or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(size or 0))
        connection.endheaders()
        unsent: Exception | None = None
        try:
            if isinstance(body, bytes):
                connection.send(body)
            elif body is not None:
                with body() as source:
                    while piece := source.read(BLOCK_BYTES):
                        connection.send(piece)
        except OSError as error:
            unsent = error  # it may have answered "too large" and hung up: that answer is worth more
        try:
            response = connection.getresponse()
            data = response.read()
        except BROKEN:
            self.close()
            raise (unsent or ConnectionError("the connection broke before the answer came")) from None
        result = response.status, dict(response.headers.items()), data
        if unsent or response.will_close:
            self.close()
        if unsent and response.status < 400:
            raise unsent
        return result

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout_s, context=self._context
                )
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return self._connection


def _problem(data: bytes, status: int) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"title": http.client.responses.get(status, "error")}


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
