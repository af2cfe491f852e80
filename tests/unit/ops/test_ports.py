"""The choice of a port: the wanted one, the next free one with a reason, or a refusal that names who is in the way."""

import os
import socket
from collections.abc import Iterator

import pytest

from ops import ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_free_port_is_used_without_a_word() -> None:
    port = ports.any_free("127.0.0.1")
    assert ports.choose("127.0.0.1", port, explicit=False) == (port, "")


def test_a_taken_default_gives_the_next_free_port_and_names_the_holder(taken: int) -> None:
    port, note = ports.choose("127.0.0.1", taken, explicit=False)
    assert taken < port <= taken + ports.PORTS_TRIED
    assert ports.is_free("127.0.0.1", port)
    assert note.startswith(f"port {taken} is taken by process {os.getpid()} (")
    assert note.endswith(f"; using {port} instead")


def test_a_taken_port_that_was_asked_for_is_refused(taken: int) -> None:
    with pytest.raises(ports.PortTaken, match=rf"port {taken} is taken by process {os.getpid()} .*NEUROSIGHT_WEB_PORT"):
        ports.choose("127.0.0.1", taken, explicit=True)


def test_a_port_that_somebody_listens_on_at_every_address_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))  # noqa: S104 - the case that is tested
        holder.listen()
        assert not ports.is_free("127.0.0.1", holder.getsockname()[1])


def test_nobody_holds_a_free_port() -> None:
    assert ports.holder(ports.any_free("127.0.0.1")) == ""
