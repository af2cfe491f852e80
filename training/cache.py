"""Arrays kept on disk under the digest of what made them.

Owns: one folder of `.npy` files, each written whole or not at all, and its size: what was not used for longest goes
first. Refuses: to know what the arrays mean, and to trust a file of another shape or type than is asked for.

Several processes may share the folder: a name says exactly what is inside, so whoever writes last writes the same.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.errors import RunError

log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES: Final = 20 * 2**30
_ABANDONED_S: Final = 3600.0
"""A part file that nobody wrote to for so long was left by a process that died."""


class ArrayCache:
    """A bounded folder of arrays.

    Args:
        folder: Made when it does not exist.
        max_bytes: The most that all files together may take.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes

    def require_room(self, size_bytes: int) -> None:
        """Refuse early what could never be kept at once.

        Args:
            size_bytes: Of everything that one training uses again and again.

        Raises:
            RunError: That is more than the folder may hold.
        """
        if size_bytes > self._max_bytes:
            raise RunError(
                f"The frozen part's output takes {size_bytes / 2**30:.1f} GiB, and the cache may hold "
                f"{self._max_bytes / 2**30:.1f} GiB. Choose a later layer in `learns`, fewer `views`, or allow more."
            )

    def get(self, key: str, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """The array of a key, mapped from disk, read-only; None when it is not there.

        A file that is cut off, or has another shape or type, is removed.
        """
        path = self._path(key)
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            os.utime(path)  # what was used last is dropped last
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError) as error:
            log.warning("%s in the cache cannot be read (%s) and is made anew", path.name, error)
            path.unlink(missing_ok=True)
            return None
        if found.shape != tuple(shape) or found.dtype != np.dtype(dtype):
            log.warning("%s in the cache has shape %s and is made anew", path.name, found.shape)
            path.unlink(missing_ok=True)
            return None
        return np.asarray(found)

    def put(
        self, key: str, shape: Sequence[int], dtype: npt.DTypeLike, fill: Callable[[npt.NDArray[Any]], bool]
    ) -> bool:
        """Write an array.

        Args:
            key: Digest of everything that decides the values, hexadecimal.
            shape: Of the array.
            dtype: Of the array.
            fill: Fills a new array of this shape in place; returns whether it came to the end.

        Returns:
            Whether the array was written; not so when `fill` broke off.

        Raises:
            OSError: The disk is full or cannot be written; nothing is left behind then.
        """
        array = np.empty(tuple(shape), dtype)
        if not fill(array):
            return False
        self._make_room(array.nbytes)
        handle, name = tempfile.mkstemp(prefix=f"{key[:16]}.", suffix=".part", dir=self._folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path(key))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return True

    def _make_room(self, size_bytes: int) -> None:
        """Remove what was not used for longest until the new array fits."""
        now = time.time()
        entries = []
        for path in self._folder.iterdir():
            try:
                facts = path.stat()
            except FileNotFoundError:  # another process removed it
                continue
            if path.suffix == ".npy":
                entries.append((facts.st_mtime, facts.st_size, path))
            elif path.suffix == ".part" and now - facts.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total + size_bytes <= self._max_bytes:
                break
            # A process that still has the file mapped keeps its content.
            path.unlink(missing_ok=True)
            total -= size
            log.info("dropped %s from the cache", path.name)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"
