"""What is done to a whole file to make one that nobody tested: a Hypothesis strategy, so that failures shrink.

Owns the mutations. Each is small and knows nothing of formats, but numbers are replaced by those that break parsers,
and places are drawn more often from the beginning, where headers are.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from tests.fuzz.seeds import seeds

_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4095, 32767, 32768, 65534, 65535, 2**24, 2**31 - 1, 2**31)
_FORMS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d")
_VRS = (b"US", b"UL", b"SS", b"SQ", b"OB", b"OW", b"UN", b"DS", b"IS", b"LO", b"PN", b"UI", b"AT", b"FD", b"OF", b"UT")
_TEXTS = (b"NaN", b"inf", b"1e400", b"-1", b"\\\\\\", b"../", b"\x00\x00", b"<svg", b"\xff\xfe\xff", b"9" * 40)
_MOST_BYTES = 1_000_000


class Mutated(NamedTuple):
    """A file that nobody tested.

    Attributes:
        seed: The whole file that it was.
        data: What it is now.
    """

    seed: str
    data: bytes


@st.composite
def mutated(draw: st.DrawFn) -> Mutated:
    """Draws a whole file and mutates it one to eight times."""
    name = draw(st.sampled_from(sorted(seeds())))
    data = seeds()[name]
    for _ in range(draw(st.integers(1, 8))):
        change = draw(st.sampled_from(_CHANGES))
        if data:
            data = change(draw, data, _place(draw, data))[:_MOST_BYTES]
    return Mutated(name, data)


def _place(draw: st.DrawFn, data: bytes) -> int:
    last = len(data) - 1
    return draw(st.one_of(st.integers(0, last), st.integers(0, min(last, 1200)), st.integers(max(0, last - 300), last)))


def _flip(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]


def _number(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    form, number = draw(st.sampled_from(_FORMS)), draw(st.sampled_from(_NUMBERS))
    size = struct.calcsize(form)
    packed = struct.pack(form, number if form[1] in "fd" else number % 2 ** (8 * size))
    return data[:at] + packed + data[at + size :]


def _negative(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    size = draw(st.sampled_from((1, 2, 4, 8)))
    return data[:at] + b"\xff" * size + data[at + size :]


def _representation(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    return data[:at] + draw(st.sampled_from(_VRS)) + data[at + 2 :]


def _text(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    text = draw(st.sampled_from(_TEXTS))
    return data[:at] + text + data[at + len(text) :]


def _cut(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    return data[:at]


def _without(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    return data[:at] + data[at + draw(st.integers(1, 64)) :]


def _again(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    return data[: at + draw(st.integers(1, 512))] + data[at:]


def _moved(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    size, other = draw(st.integers(1, 64)), _place(draw, data)
    return data[:at] + data[other : other + size] + data[at + size :]


def _spliced(draw: st.DrawFn, data: bytes, at: int) -> bytes:
    other = seeds()[draw(st.sampled_from(sorted(seeds())))]
    return data[:at] + other[_place(draw, other) :]


_CHANGES: tuple[Callable[[st.DrawFn, bytes, int], bytes], ...] = (
    _flip,
    _number,
    _number,
    _negative,
    _representation,
    _text,
    _cut,
    _without,
    _again,
    _moved,
    _spliced,
)
