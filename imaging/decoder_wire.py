"""What an owner of decoders says to them and to their host, and they to it.

This module owns the form of commands, requests and replies: a fixed header, then a path or a piece of JSON; pixels
travel in shared memory beside it. What comes back was made by a process that has just read a hostile file, so nothing
of it is believed: lengths are bounded, every value is checked for its type, and there is no pickle. It refuses to
know processes.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from imaging.frames import (
    DicomFacts,
    Frame,
    FrameGeometry,
    Identity,
    ImageInfo,
    Intensity,
    Kind,
    Pixels,
    Unwindowed,
)
from imaging.limits import Allowance, Limits
from imaging.outcomes import Reason, RejectedFile

REQUEST = struct.Struct("!B?iI")
"""What is wanted (:class:`Wanted`), whether it is the first of those asked together, frame number, bytes of the path
that follows."""

REPLY = struct.Struct("!BIII")
"""What it is (:class:`Kinds`), rows and columns of the pixels in shared memory, bytes of JSON that follow."""

COMMAND = struct.Struct("!BI")
"""To the host: a :class:`Command`, and the process id it is about."""

ANSWER = struct.Struct("!Ii")
"""From the host: process id (0: the system gave none) and wait status."""

READY = b"ready"

MAX_JSON_BYTES = 16 * 1024 * 1024
PIXEL_BYTES = 4
_ALIGNED = 64
_PIECE_BYTES = 16 * 1024
_LONGEST_DETAIL = 200


class Command(IntEnum):
    """What a host is told: to start a decoder (the descriptors of its socket and its pixel memory come along), to wait
    for the end of one that is ending, to end one now."""

    START = 1
    END = 2
    KILL = 3


class Wanted(IntEnum):
    """What a decoder is asked for."""

    INFO = 1
    FRAME = 2
    PIXELS = 3
    WITHOUT_IDENTITY = 4
    UNWINDOWED = 5


class Kinds(IntEnum):
    """What a decoder answers."""

    INFO = 1
    FRAME = 2
    PIXELS = 3
    REJECTED = 4
    FAULT = 5
    LATER = 6
    """There is no room left for this frame beside those asked for together with it: ask again."""
    BYTES = 7
    """A file of so many bytes lies in shared memory."""
    UNWINDOWED = 8


class WireError(Exception):
    """A reply is not of the agreed form: the decoder is no longer itself."""


class Stream:
    """What comes out of a socket, piece by piece of known length.

    Args:
        source: The socket.
    """

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._ahead = b""

    def take(self, count: int) -> bytes:
        """Give exactly so many bytes.

        Raises:
            ConnectionError: The other end closed.
            BlockingIOError: The socket's time is over.
        """
        data = self._ahead
        while len(data) < count:
            # Mostly all of a message at once: each call to the system costs as much as reading a small file.
            piece = self._source.recv(max(_PIECE_BYTES, count - len(data)))
            if not piece:
                raise ConnectionError
            data += piece
        self._ahead = data[count:]
        return data[:count]


def configuration(limits: Limits, allowance: Allowance) -> bytes:
    """Write what a host needs to know.

    Args:
        limits: Bounds of reading.
        allowance: What one file may cost.
    """
    return json.dumps([asdict(limits) | {"modalities": sorted(limits.modalities)}, asdict(allowance)]).encode()


def configured(data: bytes) -> tuple[Limits, Allowance]:
    """Read what :func:`configuration` wrote; it comes from the owner and is believed."""
    limits, allowance = json.loads(data)
    return Limits(**limits | {"modalities": frozenset(limits["modalities"])}), Allowance(**allowance)


def requests(wanted: Wanted, files: Sequence[tuple[Path, int]], key: bytes = b"") -> bytes:
    """Write requests that are sent together.

    Args:
        wanted: What is wanted of each.
        files: Path, and frame number (for a frame or its pixels).
        key: Secret of pseudonyms, `KEY_BYTES` long; empty where none are made.
    """
    written = bytearray()
    for path, index in files:
        name = key + os.fsencode(path.absolute())  # the decoder's working folder is another
        written += REQUEST.pack(wanted, not written, index, len(name)) + name
    return bytes(written)


def room_for(rows: int, columns: int) -> int:
    """Give the bytes that a frame takes in shared memory; the next one begins behind them."""
    return -(-rows * columns * PIXEL_BYTES // _ALIGNED) * _ALIGNED


def info_reply(info: ImageInfo) -> bytes:
    """Write the reply to a request for a file's description."""
    body = {
        "kind": info.kind.value,
        "rows": info.rows,
        "columns": info.columns,
        "frames": info.frames,
        "size_bytes": info.size_bytes,
        "bits": info.bits,
        "colour": info.colour,
        "geometry": [[one.plane, one.position_mm, one.spacing_mm] for one in info.geometry],
        "dicom": None if info.dicom is None else asdict(info.dicom),
        "identity": None if info.identity is None else asdict(info.identity),
    }
    return _reply(Kinds.INFO, body)


def frame_reply(frame: Frame) -> bytes:
    """Write the reply to a request for a frame; its pixels are already in shared memory."""
    body = [frame.index, frame.plane, frame.position_mm, frame.spacing_mm, frame.intensity.value]
    return _reply(Kinds.FRAME, body, *frame.pixels.shape)


def later_reply() -> bytes:
    """Write the reply that puts a request off."""
    return REPLY.pack(Kinds.LATER, 0, 0, 0)


def pixels_reply(rows: int, columns: int) -> bytes:
    """Write the reply to a request for pixels, which are already in shared memory."""
    return REPLY.pack(Kinds.PIXELS, rows, columns, 0)


def bytes_reply(count: int) -> bytes:
    """Write the reply to a request for a file, whose bytes are already in shared memory."""
    return _reply(Kinds.BYTES, count, 1, -(-count // PIXEL_BYTES))


def bytes_of(body: bytes, pixels: Pixels) -> bytes:
    """Read a file.

    Raises:
        WireError: Its length is not that of what lies in shared memory.
    """
    count = _loaded(body)
    if not isinstance(count, int) or not pixels.nbytes - PIXEL_BYTES < count <= pixels.nbytes:
        raise WireError("a file in a reply is not as long as was said")
    return pixels.tobytes()[:count]


def unwindowed_reply(found: Unwindowed) -> bytes:
    """Write the reply to a request for unwindowed values, which are already in shared memory."""
    return _reply(Kinds.UNWINDOWED, [found.centre, found.width, found.inverted], *found.values.shape)


def rejected_reply(rejection: RejectedFile) -> bytes:
    """Write the reply that refuses the file."""
    return _reply(Kinds.REJECTED, [rejection.reason.value, rejection.detail])


def fault_reply(error: BaseException, place: str) -> bytes:
    """Write the reply that confesses a mistake of our own.

    Args:
        error: What was raised; its message may quote the file and stays behind.
        place: Where, as `file:line`.
    """
    return _reply(Kinds.FAULT, [type(error).__name__[:_LONGEST_DETAIL], place[:_LONGEST_DETAIL]])


def info_of(body: bytes) -> ImageInfo:
    """Read a file's description.

    Raises:
        WireError: It is not of the agreed form.
    """
    found = _fields(body, ImageInfo)
    geometry = found["geometry"]
    if not isinstance(geometry, tuple) or len(geometry) != found["frames"]:
        raise WireError("the number of geometries in a reply is not the number of frames")
    found["geometry"] = tuple(
        FrameGeometry(**_checked(dict(zip(("plane", "position_mm", "spacing_mm"), one, strict=True)), FrameGeometry))
        for one in _rows(geometry, 3)
    )
    for name, form in (("dicom", DicomFacts), ("identity", Identity)):
        if found[name] is not None:
            found[name] = form(**_checked(_mapping(found[name]), form))
    found["kind"] = _member(Kind, found["kind"])
    return ImageInfo(**_checked(found, ImageInfo))


def frame_of(body: bytes, pixels: Pixels) -> Frame:
    """Read what is said of a frame, and join it with its pixels.

    Args:
        body: The JSON.
        pixels: A copy of what lay in shared memory.

    Raises:
        WireError: It is not of the agreed form.
    """
    names = ("index", "plane", "position_mm", "spacing_mm", "intensity")
    found = dict(zip(names, *_rows((_loaded(body),), 5), strict=True))
    found["intensity"] = _member(Intensity, found["intensity"])
    found["pixels"] = pixels
    return Frame(**_checked(found, Frame, ("pixels",)))


def unwindowed_of(body: bytes, values: Pixels) -> Unwindowed:
    """Read the window that belongs to values.

    Args:
        body: The JSON.
        values: A copy of what lay in shared memory.

    Raises:
        WireError: It is not of the agreed form.
    """
    found = dict(zip(("centre", "width", "inverted"), *_rows((_loaded(body),), 3), strict=True))
    return Unwindowed(**_checked(found | {"values": values}, Unwindowed, ("values",)))


def rejection_of(body: bytes) -> RejectedFile:
    """Read why a file is refused.

    Raises:
        WireError: It is not of the agreed form.
    """
    ((reason, detail),) = _rows((_loaded(body),), 2)
    facts = _mapping(detail)
    if any(not isinstance(value, str | int | float) or len(str(value)) > _LONGEST_DETAIL for value in facts.values()):
        raise WireError("a fact of a refusal is of the wrong type or too long")
    try:
        return RejectedFile(_member(Reason, reason), **facts)
    except (KeyError, TypeError, ValueError):
        raise WireError("the facts of a refusal do not fill its sentence") from None


def fault_of(body: bytes) -> tuple[str, str]:
    """Read a confession: name of the exception, and where it was raised.

    Raises:
        WireError: It is not of the agreed form.
    """
    ((name, place),) = _rows((_loaded(body),), 2)
    return str(name)[:_LONGEST_DETAIL], str(place)[:_LONGEST_DETAIL]


def _reply(kind: Kinds, body: object, rows: int = 0, columns: int = 0) -> bytes:
    text = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    return REPLY.pack(kind, rows, columns, len(text)) + text


def _loaded(body: bytes) -> object:
    try:
        return _tupled(json.loads(body))
    except (ValueError, RecursionError):
        raise WireError("a reply is no JSON") from None


def _tupled(value: object) -> object:
    if isinstance(value, list):
        return tuple(_tupled(one) for one in value)
    if isinstance(value, dict):
        return {name: _tupled(one) for name, one in value.items()}
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError("a part of a reply is no object")
    return value


def _rows(values: tuple[object, ...], length: int) -> list[tuple[Any, ...]]:
    for one in values:
        if not isinstance(one, tuple) or len(one) != length:
            raise WireError(f"a part of a reply is no list of {length}")
    return typing.cast("list[tuple[Any, ...]]", list(values))


def _fields(body: bytes, form: type) -> dict[str, Any]:
    found = _mapping(_loaded(body))
    if found.keys() != _hints(form).keys():
        raise WireError("a reply has other fields than agreed")
    return found


def _member(enumeration: Any, value: object) -> Any:
    try:
        return enumeration(value)
    except ValueError:
        raise WireError("a reply names something unknown") from None


def _checked(found: dict[str, Any], form: type, trusted: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the fields back when each is of the type that the dataclass states.

    Raises:
        WireError: One is not, or is missing, or is too much.
    """
    hints = _hints(form)
    if found.keys() != hints.keys():
        raise WireError(f"a reply has other fields than {form.__name__}")
    for name, value in found.items():
        if name not in trusted and not _fits(value, hints[name]):
            raise WireError(f"{form.__name__}.{name} of a reply is of the wrong type")
    return found


@cache
def _hints(form: type) -> Mapping[str, Any]:
    return typing.get_type_hints(form)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_fits(one, arguments[0]) for one in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(typing.cast("float", value))
    if hint in (int, bool, str):
        return type(value) is hint
    return isinstance(value, hint)
