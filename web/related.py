"""Reading a multipart/related body (RFC 2387) as a stream, part by part.

Owns the syntax of RFC 2046 5.1 for bodies whose parts have no names, which form parsers insist on. Holds one piece of
the network at a time, whatever a part's size. Refuses to know what the parts are.
"""

import re
from collections.abc import Iterator
from typing import Protocol

PIECE_BYTES = 64 * 1024
HEADER_BYTES = 16 * 1024
BOUNDARY = re.compile(r"\A[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]\Z")
"""RFC 2046 5.1.1, which allows 70 characters; Orthanc 1.10 takes two UUIDs and a hyphen, which is 73."""


class Malformed(ValueError):
    """The body is no multipart of this boundary, or ends early."""


class Readable(Protocol):
    """A body."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; empty at the end."""
        ...


class Parts:
    """The parts of a body; each is to be read to its end before the next one is asked for.

    Args:
        stream: The body.
        boundary: Of its content type.

    Raises:
        Malformed: The boundary is none.
    """

    def __init__(self, stream: Readable, boundary: str) -> None:
        if not BOUNDARY.match(boundary):
            raise Malformed("the boundary is missing or malformed")
        self._stream = stream
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # As if a line had ended just before: the first boundary may stand at the very beginning.
        self._buffer = bytearray(b"\r\n")

    def __iter__(self) -> Iterator[tuple[dict[str, str], Iterator[bytes]]]:
        """(headers with names in lower case, pieces of the content) of each part. Raises Malformed."""
        for _ in self._until_delimiter():
            pass  # the preamble
        while not self._last():
            content = self._until_delimiter()
            yield self._headers(), content
            for _ in content:
                pass  # what the caller left

    def _until_delimiter(self) -> Iterator[bytes]:
        """What stands in front of the next delimiter, which is taken off too."""
        while True:
            place = self._buffer.find(self._delimiter)
            if place >= 0:
                if place:
                    yield bytes(self._buffer[:place])
                del self._buffer[: place + len(self._delimiter)]
                return
            sure = len(self._buffer) - len(self._delimiter) + 1
            if sure > 0:
                yield bytes(self._buffer[:sure])
                del self._buffer[:sure]
            self._more()

    def _last(self) -> bool:
        """Whether the delimiter just read was the last one; takes the rest of its line off."""
        while len(self._buffer) < 2:
            self._more()
        if self._buffer.startswith(b"--"):
            return True
        line = self._line()
        if line.strip(b" \t"):
            raise Malformed("something stands behind a boundary")
        return False

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        left = HEADER_BYTES
        while line := self._line():
            left -= len(line)
            if left < 0:
                raise Malformed("a part has too many headers")
            name, sign, value = line.decode("latin-1").partition(":")
            if not sign:
                raise Malformed("a header of a part has no colon")
            headers[name.strip().lower()] = value.strip()
        bare = self._delimiter[2:]
        while len(self._buffer) < len(bare):
            self._more()
        if self._buffer.startswith(bare):
            self._buffer[:0] = b"\r\n"  # an empty part: the line break that ended the headers is the delimiter's too
        return headers

    def _line(self) -> bytes:
        while (place := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > HEADER_BYTES:
                raise Malformed("a header of a part is too long")
            self._more()
        line = bytes(self._buffer[:place])
        del self._buffer[: place + 2]
        return line

    def _more(self) -> None:
        piece = self._stream.read(PIECE_BYTES)
        if not piece:
            raise Malformed("the body ends before its last boundary")
        self._buffer += piece
