"""Walking what somebody sent: files, folders, archives and archives inside them.

This module owns the promise that every file is yielded exactly once, in a natural order, either as a readable local
path with its format told by content, or with the reason why not. It opens no image: `imaging.reading` does. It follows
no links, opens no devices, and writes only into the work folder it is given, under names of its own.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imaging.archive import Budget, unpack
from imaging.frames import Kind
from imaging.geometry import natural_key
from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason, RejectedFile, access_rejection
from imaging.plain_text import plain
from imaging.sniff import HEAD_BYTES, ZIP, sniff, system_file

_CHUNK_BYTES = 1024 * 1024
_MAX_PATH_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class Collected:
    """One received file.

    Attributes:
        display_path: Where it was found, fit to show: the path as given, then folders and archives joined by "/". It
            may hold whatever people put into file names; keep it out of logs.
        local_path: Where to read it; None when it is refused. Files out of archives lie in the work folder.
        size_bytes: Its size.
        sha256: Digest of its content in hexadecimal; empty when it is refused before it was read.
        kind: Its format, told by content; None when it is refused.
        rejection: Why it is refused; None when it is readable as far as its first bytes show.
        duplicate_of: Display path of the first file with the same content, for duplicates.
    """

    display_path: str
    local_path: Path | None
    size_bytes: int
    sha256: str = ""
    kind: Kind | None = None
    rejection: RejectedFile | None = None
    duplicate_of: str | None = None

    @property
    def outcome(self) -> Outcome:
        """What became of the file so far."""
        return Outcome.ACCEPTED if self.rejection is None else self.rejection.outcome


@dataclass(slots=True)
class _Walk:
    limits: Limits
    workdir: Path
    flag_duplicates: bool
    seen: dict[str, str] = field(default_factory=dict)


def collect(
    paths: Iterable[str | Path | tuple[str, Path]], limits: Limits, workdir: Path, *, flag_duplicates: bool = False
) -> Iterator[Collected]:
    """Yield every file that was sent.

    Args:
        paths: Files, folders and zip archives. A pair names the display path apart from the local one, for uploads
            that are stored under another name.
        limits: Bounds.
        workdir: Existing folder into which archives are unpacked. The unpacked files stay until the caller removes
            them, so that they can be read later or in other threads.
        flag_duplicates: Whether a file with the content of an earlier one is refused as a duplicate.

    Yields:
        Every file once, folders in natural order (`slice 2` before `slice 10`).

    Raises:
        OSError: The work folder cannot be written.
    """
    walk = _Walk(limits=limits, workdir=workdir, flag_duplicates=flag_duplicates)
    for given in paths:
        name, path = given if isinstance(given, tuple) else (str(given), Path(given))
        yield from _tree(walk, plain(name, _MAX_PATH_SHOWN), path)


def _tree(walk: _Walk, name: str, top: Path) -> Iterator[Collected]:
    try:
        status = top.stat()  # a link given by name is followed: whoever started us chose it
    except OSError as error:
        yield _refused(name, 0, access_rejection(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        yield from _file(walk, name, top, status)
        return
    empty = True
    waiting: list[tuple[str, Path]] = [(name, top)]
    while waiting:
        name_here, here = waiting.pop()
        try:
            status = here.stat() if here is top else here.lstat()
            if stat.S_ISDIR(status.st_mode):
                children = sorted(here.iterdir(), key=lambda child: natural_key(child.name), reverse=True)
                waiting += [(f"{name_here}/{_shown(child.name)}", child) for child in children]
                continue
        except OSError as error:
            yield _refused(name_here, 0, access_rejection(error))
            continue
        empty = False
        yield from _file(walk, name_here, here, status)
    if empty:
        yield _refused(name, 0, RejectedFile(Reason.EMPTY_FOLDER))


def _shown(name: str) -> str:
    return plain(name.encode("utf-8", "replace").decode("utf-8"), _MAX_PATH_SHOWN) or "?"


def _file(walk: _Walk, name: str, path: Path, status: os.stat_result) -> Iterator[Collected]:
    if stat.S_ISLNK(status.st_mode):
        yield _refused(name, 0, RejectedFile(Reason.LINK))
        return
    if not stat.S_ISREG(status.st_mode):
        yield _refused(name, 0, RejectedFile(Reason.SPECIAL_FILE))
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            sniffed = sniff(head, name)
            if sniffed.rejection is not None:
                yield _refused(name, status.st_size, sniffed.rejection)
                return
            if sniffed.kind == ZIP:
                digest = ""
            elif status.st_size > walk.limits.max_file_bytes:
                rejection = RejectedFile(Reason.FILE_BYTES, found=status.st_size, limit=walk.limits.max_file_bytes)
                yield _refused(name, status.st_size, rejection)
                return
            else:
                hasher = hashlib.sha256(head)
                while chunk := file.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                digest = hasher.hexdigest()
    except OSError as error:
        yield _refused(name, status.st_size, access_rejection(error))
        return
    if sniffed.kind == ZIP:
        yield from _archive(walk, name, path, status.st_size, Budget.of(walk.limits), depth=0)
    else:
        assert isinstance(sniffed.kind, Kind)  # noqa: S101 - sniff gives a kind, "zip" or a rejection
        yield _readable(walk, name, path, status.st_size, digest, sniffed.kind)


def _archive(walk: _Walk, name: str, archive: Path, size_bytes: int, budget: Budget, depth: int) -> Iterator[Collected]:
    if depth > walk.limits.zip_max_depth:
        yield _refused(name, size_bytes, RejectedFile(Reason.ZIP_DEPTH, limit=walk.limits.zip_max_depth))
        return
    empty = True
    try:
        for member in unpack(archive, walk.limits, walk.workdir, budget):
            empty = False
            inner = f"{name}/{member.name}"
            if member.path is None:
                found = system_file(inner)
                rejection = RejectedFile(Reason.SYSTEM_FILE, found=found) if found else member.rejection
                yield _refused(inner, member.size_bytes, rejection)
                continue
            with member.path.open("rb") as file:
                sniffed = sniff(file.read(HEAD_BYTES), inner)
            if sniffed.rejection is not None:
                member.path.unlink()
                yield _refused(inner, member.size_bytes, sniffed.rejection)
            elif isinstance(sniffed.kind, Kind):
                yield _readable(walk, inner, member.path, member.size_bytes, member.sha256, sniffed.kind)
            else:
                yield from _archive(walk, inner, member.path, member.size_bytes, budget, depth + 1)
                member.path.unlink()
    except RejectedFile as rejection:
        yield _refused(name, size_bytes, rejection)
        return
    if empty:
        yield _refused(name, size_bytes, RejectedFile(Reason.EMPTY_ARCHIVE))


def _readable(walk: _Walk, name: str, path: Path, size_bytes: int, digest: str, kind: Kind) -> Collected:
    first = walk.seen.setdefault(digest, name)
    if walk.flag_duplicates and first is not name:
        if path.parent == walk.workdir:
            path.unlink()
        return Collected(name, None, size_bytes, digest, rejection=RejectedFile(Reason.DUPLICATE), duplicate_of=first)
    return Collected(name, path, size_bytes, digest, kind)


def _refused(name: str, size_bytes: int, rejection: RejectedFile | None) -> Collected:
    return Collected(name, None, size_bytes, rejection=rejection)
