"""What lies in a watched folder, looked at without following a link.

Owns walking one entry (a file, or a folder with all that is in it), telling whether it still changes, and which of its
files can be taken. Refuses links and whatever is no file: they are named in the receipt and not touched.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from db.queries.submissions import PATH_LIMIT
from imaging.outcomes import Reason, RejectedFile, access_rejection
from imaging.plain_text import plain

UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".tmp")
"""Endings by which programs mark a file that they still write."""

Fingerprint = frozenset[tuple[str, int, int, int]]


@dataclass(frozen=True)
class Found:
    """One file of an entry.

    Attributes:
        path: Where it lies.
        shown: Its name from the entry on, as it is shown.
        size_bytes: Its size.
        rejection: Why it is not taken; None when it is.
    """

    path: Path
    shown: str
    size_bytes: int
    rejection: RejectedFile | None = None


def waiting(folder: Path) -> list[Path]:
    """Entries of the folder that may be taken once they are still: neither hidden nor marked as unfinished."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and not path.name.lower().endswith(UNFINISHED)
    )


def fingerprint(entry: Path) -> Fingerprint:
    """Changes when anything in the entry does: name, inode, size and time of every file."""
    seen = set()
    for path in _walk(entry):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # it will be seen that it is gone
        seen.add((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(seen)


def files_of(entry: Path, max_bytes: int) -> list[Found]:
    """Every file of an entry, in the order of names, and whether it can be taken.

    Args:
        entry: A file or folder.
        max_bytes: Longer ones are not taken.
    """
    found = []
    for path in _walk(entry):
        shown = display_path(path.relative_to(entry.parent))
        try:
            status = path.lstat()
        except OSError as error:
            found.append(Found(path, shown, 0, access_rejection(error)))
            continue
        rejection = None
        if stat.S_ISLNK(status.st_mode):
            rejection = RejectedFile(Reason.LINK)
        elif not stat.S_ISREG(status.st_mode):
            rejection = RejectedFile(Reason.SPECIAL_FILE)
        elif status.st_size > max_bytes:
            rejection = RejectedFile(Reason.FILE_BYTES, found=status.st_size, limit=max_bytes)
        found.append(Found(path, shown, status.st_size, rejection))
    return found


def open_file(path: Path) -> int:
    """Opens a file for reading; a link, or a pipe that took its place since, raises OSError instead of being followed.

    Returns:
        A descriptor that the caller closes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name!r} is no file any more")
    return descriptor


def display_path(path: Path) -> str:
    """A path as it is shown and kept: without control characters, never longer than a row takes."""
    return "/".join(plain(part, 255) or "unnamed" for part in path.parts)[-PATH_LIMIT:].lstrip("/")


def _walk(entry: Path) -> Iterator[Path]:
    if entry.is_symlink() or not entry.is_dir():
        yield entry
        return
    for folder, folders, names in os.walk(entry, followlinks=False):
        folders.sort()
        here = Path(folder)
        # os.walk names links to folders among the folders, and does not enter them.
        yield from (here / name for name in folders if (here / name).is_symlink())
        yield from (here / name for name in sorted(names))
