"""Receiving files: streamed from the network to disk, never held in memory whole.

Owns reading bodies (multipart or raw), the limits on them, the bound on how many are read at once, and the cleaning of
names. Files are spooled into a workspace on the blob store's own disk, hashed on the way, and moved into the store when
the whole body has arrived; whatever goes wrong before, nothing of them stays.

Refuses to use a client's file name as a path: the n-th file is called n on disk.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from flask import current_app, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from db.blobs import BlobStore, StoreFull
from db.queries.submissions import PATH_LIMIT, Sent
from imaging.plain_text import plain
from web.problems import Problem
from web.related import Malformed, Parts
from web.services import services

PIECE_BYTES = 64 * 1024
FIELD_BYTES = 64 * 1024
SILENCE_S = 30.0
"""A client that sends nothing for so long is let go: it would hold a thread that others need."""
DRAIN_BYTES = 32 * 1024 * 1024
"""So much of a refused body is read and thrown away, so that the client gets to read why it was refused."""
_SLOTS = "neurosight.upload_slots"


@dataclass
class Spooled:
    """A file in the workspace."""

    path: str
    sha256: str
    size_bytes: int
    place: Path

    @property
    def sent(self) -> Sent:
        """For `db.queries.submissions`."""
        return Sent(self.path, self.sha256, self.size_bytes)


@dataclass
class Received:
    """A body that has arrived whole."""

    files: list[Spooled] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    def store(self, blobs: BlobStore) -> list[Sent]:
        """Moves the files into the blob store; durable when this returns."""
        for spooled in self.files:
            blobs.adopt(spooled.place, spooled.sha256)
        return [spooled.sent for spooled in self.files]


@contextlib.contextmanager
def receive_form() -> Iterator[Received]:
    """Reads a multipart body with any number of files; their spool is gone when the block ends.

    The path of a file is its filename; a field `paths` (or `path`) before it gives another one.

    Raises:
        Problem: 400 malformed or broken off, 413 too large or too many, 415 not multipart, 503 too many at once.
        StoreFull: The disk is full.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not 0 < len(boundary) <= 200:
        raise Problem(
            415,
            "not_multipart",
            "Received the content type %(received)s; expected multipart/form-data with files, or application/zip.",
            facts={"received": request.mimetype or "none"},
        )
    with _reading() as (stream, workspace):
        yield _parse_form(stream, boundary, workspace)


@contextlib.contextmanager
def receive_raw(path: str) -> Iterator[Received]:
    """Reads a body that is one file; its spool is gone when the block ends. Raises as `receive_form` does."""
    with _reading() as (stream, workspace):
        with workspace.file(path) as write:
            while piece := stream.read(PIECE_BYTES):
                write(piece)
        yield workspace.received


@contextlib.contextmanager
def receive_related(part_type: str) -> Iterator[Received]:
    """Reads a multipart/related body; its spool is gone when the block ends. The n-th file is called n.

    Args:
        part_type: Content type of each part, `type` of the whole (RFC 2387).

    Raises:
        Problem: As `receive_form` does; 415 also when a part is of another type.
    """
    stated = request.mimetype_params.get("type", part_type).lower()
    if request.mimetype != "multipart/related" or stated != part_type:
        kind = f"{request.mimetype or 'none'}; type={stated}" if stated != part_type else request.mimetype or "none"
        raise _not_of_type(kind, part_type)
    with _reading() as (stream, workspace):
        try:
            for headers, pieces in Parts(stream, request.mimetype_params.get("boundary", "")):
                kind = headers.get("content-type", part_type).partition(";")[0].strip().lower()
                if kind != part_type:
                    raise _not_of_type(kind, part_type)
                with workspace.file(str(len(workspace.received.files) + 1)) as write:
                    for piece in pieces:
                        write(piece)
        except Malformed as error:
            raise Problem(
                400,
                "malformed_multipart",
                "The multipart body is malformed: %(reason)s. Check it and send it again; nothing was kept.",
                facts={"reason": str(error)},
            ) from error
        yield workspace.received


def _not_of_type(received: str, expected: str) -> Problem:
    return Problem(
        415,
        "not_related",
        'Received the content type %(received)s; expected multipart/related; type="%(expected)s".',
        facts={"received": received[:100], "expected": expected},
    )


def clean_path(name: str) -> str:
    """A client's file name as it is shown: forward slashes, no drive, no `.` or `..`, no control characters."""
    parts = [plain(part, 255) for part in name.replace("\\", "/").split("/")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts = parts[1:]
    kept = [part for part in parts if part not in ("", ".", "..")]
    return "/".join(kept)[-PATH_LIMIT:].lstrip("/") or "unnamed"


class _Workspace:
    """The folder into which one body is spooled."""

    def __init__(self, folder: Path, blobs: BlobStore, max_files: int, max_file_bytes: int) -> None:
        self.received = Received()
        self._folder, self._blobs = folder, blobs
        self._max_files, self._max_file_bytes = max_files, max_file_bytes

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Any]:
        """Opens the next file; yields a function that writes a piece to it."""
        number = len(self.received.files)
        if number >= self._max_files:
            raise Problem(
                413,
                "too_many_files",
                "Received more than %(limit_files)s files; send the rest as another submission, or as a zip archive.",
                facts={"limit_files": self._max_files},
            )
        place = self._folder / str(number)
        digest, size = hashlib.sha256(), 0
        with _open(place) as file:

            def write(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                if size > self._max_file_bytes:
                    raise Problem(
                        413,
                        "file_too_large",
                        "A file is larger than the %(limit_bytes)s bytes accepted for one.",
                        facts={"limit_bytes": self._max_file_bytes},
                    )
                self._blobs.require_room(len(piece))
                digest.update(piece)
                _write(file, piece)

            yield write
            _close(file)
        self.received.files.append(Spooled(clean_path(name), digest.hexdigest(), size, place))


@contextlib.contextmanager
def _reading() -> Iterator[tuple[IO[bytes], _Workspace]]:
    """Everything around a body: a slot, limits, a workspace, and what to say when it goes wrong."""
    parts = services()
    settings = parts.settings
    request.max_content_length = settings.max_request_bytes
    with _slot(), _patience(), parts.blobs.workspace() as folder:
        try:
            parts.blobs.require_room(request.content_length or 0)
            request.environ["neurosight.body_read"] = True  # whatever becomes of it, it is ours to read or drain
            yield request.stream, _Workspace(folder, parts.blobs, settings.max_upload_files, settings.max_file_bytes)
        except (Problem, StoreFull):
            _drain()
            raise
        except RequestEntityTooLarge:
            _drain()
            raise Problem(
                413,
                "too_large",
                "The request is larger than the %(limit_bytes)s bytes accepted in one; send the files in several "
                "requests (see /uploads), or as several submissions.",
                facts={"limit_bytes": settings.max_request_bytes},
            ) from None
        except (ClientDisconnected, ConnectionError, TimeoutError, ParseException) as error:
            raise Problem(
                400,
                "broken_off",
                "The connection broke before everything had arrived; nothing was kept. Send it again.",
            ) from error


def _parse_form(stream: IO[bytes], boundary: str, workspace: _Workspace) -> Received:
    settings = services().settings
    decoder = MultipartDecoder(
        boundary.encode("latin-1", "ignore"), FIELD_BYTES * 4, max_parts=settings.max_upload_files * 2 + 10
    )
    received = workspace.received
    named: list[str] = []
    with contextlib.ExitStack() as opened:
        write: Any = None
        text: bytearray | None = None
        name = ""
        try:
            for event in _events(decoder, stream, boundary.encode("latin-1", "ignore")):
                if isinstance(event, File):
                    given = named.pop(0) if named else event.filename
                    write, text = opened.enter_context(workspace.file(given)), None
                elif isinstance(event, Field):
                    name, text, write = event.name or "", bytearray(), None
                elif isinstance(event, Data):
                    if write is not None:
                        write(event.data)
                        if not event.more_data:
                            opened.pop_all().close()
                    elif text is not None:
                        text += event.data
                        if len(text) > FIELD_BYTES:
                            raise RequestEntityTooLarge
                        if not event.more_data:
                            value = text.decode("utf-8", "replace")
                            if name in ("path", "paths"):
                                named.append(value)
                            else:
                                received.fields[name] = value
        except (ValueError, AttributeError) as error:  # what the decoder raises on a malformed body
            raise Problem(400, "malformed_form", "The multipart body is malformed or ends early.") from error
    received.files = [spooled for spooled in received.files if spooled.path != "unnamed" or spooled.size_bytes]
    return received


def _events(decoder: MultipartDecoder, stream: IO[bytes], boundary: bytes) -> Iterator[Any]:
    """The decoder's events until the end of the body."""
    # Werkzeug 3.1 leaves a CR too much with a part when a piece ends within the two hyphens of the last boundary.
    awkward, tail = b"--" + boundary + b"-", b""
    while True:
        event = decoder.next_event()
        if isinstance(event, Epilogue):
            return
        if not isinstance(event, NeedData):
            yield event
            continue
        piece = stream.read(PIECE_BYTES)
        if (tail + piece).endswith(awkward):
            piece += stream.read(1)
        tail = (tail + piece)[-len(awkward) :]
        decoder.receive_data(piece or None)


@contextlib.contextmanager
def _slot() -> Iterator[None]:
    """At most half of the threads read bodies at once: slow senders must not keep others from their pages."""
    slots: threading.BoundedSemaphore = current_app.extensions.setdefault(
        _SLOTS, threading.BoundedSemaphore(max(1, services().settings.web_threads // 2))
    )
    if not slots.acquire(blocking=False):
        raise Problem(
            503, "busy_uploads", "Too many uploads run at this moment; try again.", headers={"Retry-After": "3"}
        )
    try:
        yield
    finally:
        slots.release()


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Limits how long the socket may stay silent, where the server lets us."""
    socket = request.environ.get("gunicorn.socket")
    if socket is None:
        yield
        return
    before = socket.gettimeout()
    socket.settimeout(SILENCE_S)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            socket.settimeout(before)


def _drain() -> None:
    """Reads on for a while, and throws away."""
    left = DRAIN_BYTES
    source = request.environ["wsgi.input"]
    with contextlib.suppress(Exception):  # whatever it is: the answer is on its way already
        while left > 0 and (piece := source.read(min(left, PIECE_BYTES))):
            left -= len(piece)


@contextlib.contextmanager
def _open(place: Path) -> Iterator[IO[bytes]]:
    try:
        file = place.open("xb")
    except OSError as error:
        raise StoreFull(f"the disk refused a file: {error.strerror}") from error
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


def _write(file: IO[bytes], piece: bytes) -> None:
    try:
        file.write(piece)
    except OSError as error:
        raise StoreFull(f"the disk refused a write: {error.strerror}") from error


def _close(file: IO[bytes]) -> None:
    try:
        file.close()
    except OSError as error:
        raise StoreFull(f"the disk refused a write: {error.strerror}") from error
