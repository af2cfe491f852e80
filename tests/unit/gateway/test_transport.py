"""The bounds of the listener's reads."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from config.dicom_peers import parse_peers
from gateway.transport import ASSOCIATE_BYTES, LOOK_AT_DISK_BYTES, Bounds, PeerTooLarge, Traffic, bounded_read


class Connection:
    """What `bounded_read` uses of pynetdicom's socket."""

    def __init__(self, own: socket.socket) -> None:
        self.socket: socket.socket | None = own


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Any]]:
    """(the peer's end, our connection)."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        ours.settimeout(0.2)
        yield theirs, Connection(ours)


def bounds(folder: Path, **changes: Any) -> Bounds:
    wanted: dict[str, Any] = {
        "peers": parse_peers("MR1@127.0.0.1"),
        "connections": 4,
        "pdu_bytes": 16_384,
        "object_bytes": 2 * ASSOCIATE_BYTES,
        "silence_s": 0.2,
        "folder": folder,
        "free_bytes": 0,
    }
    return Bounds(**{**wanted, **changes})


def test_reads_what_was_asked_for_or_what_there_is(pair: tuple[socket.socket, Any], tmp_path: Path) -> None:
    theirs, ours = pair
    traffic = Traffic("127.0.0.1")
    read = bounded_read(ours, bounds(tmp_path), traffic)
    theirs.sendall(b"x" * 5000 + b"y" * 7)
    assert read(5000) == b"x" * 5000
    theirs.shutdown(socket.SHUT_WR)
    assert read(100) == b"y" * 7, "the peer is gone: pynetdicom sees that it is short"
    assert read(1) == b""
    assert traffic.size_bytes == 5101
    ours.socket = None
    with pytest.raises(OSError, match="closed"):
        read(1)


def test_a_peer_that_stops_in_the_middle_is_not_waited_for(pair: tuple[socket.socket, Any], tmp_path: Path) -> None:
    theirs, ours = pair
    theirs.sendall(b"x")
    with pytest.raises(TimeoutError, match="timed out"):
        bounded_read(ours, bounds(tmp_path), Traffic("127.0.0.1"))(2)


@pytest.mark.parametrize(
    ("reason", "count", "before", "changes"),
    [
        ("pdu_too_large", 0xFFFFFFF0, {}, {}),
        ("object_too_large", 1000, {"object_bytes": 3 * ASSOCIATE_BYTES}, {}),
        ("disk_full", 1000, {"unlooked_bytes": LOOK_AT_DISK_BYTES}, {"free_bytes": 2**62}),
    ],
)
def test_too_much_ends_the_connection_before_a_byte_is_held(
    pair: tuple[socket.socket, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    reason: str,
    count: int,
    before: dict[str, int],
    changes: dict[str, int],
) -> None:
    read = bounded_read(pair[1], bounds(tmp_path, **changes), Traffic("10.0.0.5", **before))
    with pytest.raises(PeerTooLarge, match=reason):
        read(count)
    (line,) = caplog.records
    assert (line.getMessage(), cast("Any", line).reason, cast("Any", line).address) == (
        "connection_ended", reason, "10.0.0.5"
    )  # fmt: skip
