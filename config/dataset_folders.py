"""The folders that may be registered as data sets: those directly below `datasets_dir`.

Owns finding them by name, for web (which offers them) and worker (which reads them). Refuses paths: a name is chosen
from the list, and a link that leads out of `datasets_dir` is not followed.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

MANIFEST: Final = "manifest.csv"
_SHOWN_CLASSES: Final = 12
_LOOKED_AT: Final = 500


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder on offer.

    Attributes:
        name: Its name below `datasets_dir`.
        has_manifest: Whether it holds `manifest.csv`; else each of its folders is a class.
        classes: Names of its first folders, sorted.
    """

    name: str
    has_manifest: bool
    classes: tuple[str, ...]


def offered(datasets_dir: Path) -> list[Folder]:
    """The folders below `datasets_dir` by name; empty when there is no such folder."""
    return [
        Folder(path.name, (path / MANIFEST).is_file(), _classes(path))
        for path in sorted(_children(datasets_dir))
        if find(datasets_dir, path.name) is not None
    ]


def find(datasets_dir: Path, name: str) -> Path | None:
    """The folder of this name.

    Args:
        datasets_dir: The setting.
        name: A plain name.

    Returns:
        Its real path; None when there is none, when the name is no plain name, or when it is a link that leads out.
    """
    if not name or name.startswith(".") or any(character in name for character in "/\\\0"):
        return None
    try:
        root = datasets_dir.resolve(strict=True)
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return path if path.is_dir() and path != root and path.is_relative_to(root) else None


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in islice(folder.iterdir(), _LOOKED_AT) if not path.name.startswith(".")]
    except OSError:
        return []


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in _children(folder) if path.is_dir())
    return tuple(names[:_SHOWN_CLASSES])
