"""The bytes behind a checkpoint: where they are, and whether they are those of its digest.

Owns finding an artefact by its location and hashing it whole. Refuses to parse it: whoever registers or loads a
checkpoint does (`inference.artefact`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from db.blobs import BlobMissing, BlobStore

PIECE_BYTES: Final = 1024 * 1024


class ArtefactMissing(Exception):
    """There is no file at a checkpoint's location."""


class ArtefactAltered(Exception):
    """The file at a checkpoint's location is not the one of its digest."""


@contextmanager
def local_artefact(location: str, models_dir: Path, blobs: BlobStore) -> Iterator[Path]:
    """The artefact of a checkpoint as a local file, not verified.

    Args:
        location: `models:NAME` or `blob:KEY`.
        models_dir: Folder of `models:` artefacts.
        blobs: Store of `blob:` artefacts.

    Raises:
        ArtefactMissing: When there is no such file.
        ValueError: When the location is of neither form.
    """
    kind, _, name = location.partition(":")
    if kind == "models" and name == Path(name).name and name not in ("", ".", ".."):
        path = models_dir / name
        if not path.is_file():
            raise ArtefactMissing(f"there is no {name} in the models folder")
        yield path
    elif kind == "blob":
        try:
            with blobs.local_path(name) as path:
                yield path
        except BlobMissing as missing:
            raise ArtefactMissing(str(missing)) from None
    else:
        raise ValueError(f"received the location {location!r}; expected models:NAME or blob:KEY")


def check_artefact(location: str, digest: str, models_dir: Path, blobs: BlobStore) -> int:
    """Reads the whole file behind a checkpoint and compares its SHA-256; returns its size in bytes.

    Raises:
        ArtefactMissing: When there is none.
        ArtefactAltered: When it is another one.
    """
    with local_artefact(location, models_dir, blobs) as path:
        return verify(path, digest)


def verify(path: Path, digest: str) -> int:
    """Compares a file's SHA-256; returns its size in bytes.

    Raises:
        ArtefactAltered: When it is another one.
    """
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            found.update(piece)
            size += len(piece)
    if found.hexdigest() != digest:
        raise ArtefactAltered(f"the file has SHA-256 {found.hexdigest()}; expected {digest}")
    return size
