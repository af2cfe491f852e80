"""Bodies that were refused unread: the connection ends instead of waiting for the rest.

Owns one rule: a request that was answered before its body had arrived (not logged in, too large, too many at once)
must not hold a thread while its sender takes his time. What has arrived already is thrown away, so that the sender gets
to read the answer, and the receiving side is closed.
"""

import contextlib
import socket
import ssl

from flask import Flask, Response, request

THROWN_AWAY_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024


def init_app(app: Flask) -> None:
    """Looks at every answered request."""
    app.after_request(_end_unread)


def _end_unread(response: Response) -> Response:
    connection = request.environ.get("gunicorn.socket")
    if connection is None or isinstance(connection, ssl.SSLSocket) or not _unread():
        return response
    with contextlib.suppress(OSError):  # gone already
        before = connection.gettimeout()
        connection.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            left = THROWN_AWAY_BYTES
            while left > 0 and (piece := connection.recv(PIECE_BYTES)):
                left -= len(piece)
        connection.settimeout(before)
        connection.shutdown(socket.SHUT_RD)
    return response


def _unread() -> bool:
    """Whether a part of the body has not been read; a chunked one does not tell, and counts as unread when refused."""
    if not request.content_length and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        return False
    reader = getattr(request.environ["wsgi.input"], "reader", None)
    left = getattr(reader, "length", None)
    if isinstance(left, int):
        return left > 0
    return request.environ.get("neurosight.body_read") is not True
