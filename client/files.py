"""Which local files are sent, and under which names.

Owns walking folders and hashing. A folder keeps its own name in front of its files' names, so that several folders in
one submission stay apart. Files are not judged here: the server says of each what became of it. Links are not followed.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class LocalFile:
    """One file to be sent.

    Attributes:
        place: Where it lies.
        name: Under which name it is sent: relative, with forward slashes.
    """

    place: Path
    name: str

    @cached_property
    def size_bytes(self) -> int:
        """Its size."""
        return self.place.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its bytes, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        with self.place.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()


def gather(paths: Iterable[Path | str]) -> list[LocalFile]:
    """All files of the given files and folders, in the order of names.

    Raises:
        FileNotFoundError: When a path does not exist.
        ValueError: When there is no file at all.
    """
    found: dict[str, LocalFile] = {}
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        if path.is_dir():
            top = path.resolve()
            for folder, folders, names in os.walk(top, followlinks=False):
                folders.sort()
                for name in sorted(names):
                    place = Path(folder) / name
                    if place.is_file() and not place.is_symlink():
                        _add(found, place, f"{top.name}/{place.relative_to(top).as_posix()}")
        else:
            _add(found, path, path.name)
    if not found:
        raise ValueError(f"found no file in {', '.join(map(str, given)) or 'nothing'}; expected images or zip archives")
    return list(found.values())


def _add(found: dict[str, LocalFile], place: Path, name: str) -> None:
    number, unique = 1, name
    while unique in found:
        if found[unique].place.resolve() == place.resolve():
            return
        number += 1
        unique = f"{number}/{name}"
    found[unique] = LocalFile(place, unique)
