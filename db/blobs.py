"""The blob store: bytes under their SHA-256, on a local folder or any fsspec file system (S3).

Owns durable, content-addressed storage of what users sent. Refuses client-made names: a key is a digest, checked by
its form. A blob is whole or absent: it is written to a temporary name, flushed to disk, then moved into place.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec

KEY = re.compile(r"\A[0-9a-f]{64}\Z")
READ_BYTES = 1024 * 1024


class BlobMissing(Exception):
    """The store has no blob of that digest: an integrity alarm, since rows are written after blobs."""


class StoreFull(Exception):
    """The disk has less room left than the settings ask to keep free."""


class Readable(Protocol):
    """Anything with `read(n) -> bytes`."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; empty at the end."""
        ...


class BlobStore:
    """Content-addressed bytes.

    Args:
        url: `file:///folder` or another fsspec URL such as `s3://bucket/prefix`.
        min_free_bytes: Local store only: writing is refused when less would stay free.
    """

    def __init__(self, url: str, *, min_free_bytes: int = 0) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = Path(self._root) if "file" in _protocols(self._fs) else None
        self._min_free_bytes = min_free_bytes
        if self._local:
            (self._local / "incoming").mkdir(parents=True, exist_ok=True)

    def put(self, source: Readable, *, max_bytes: int | None = None) -> tuple[str, int]:
        """Stores a stream.

        Args:
            source: Read to its end in pieces; never held in memory whole.
            max_bytes: Largest size accepted.

        Returns:
            (SHA-256 as 64 hex digits, size in bytes).

        Raises:
            ValueError: When the stream is longer than `max_bytes`; nothing is kept.
            StoreFull: When the disk is too full; nothing is kept.
        """
        digest, size = hashlib.sha256(), 0
        with self.spool() as (path, file):
            while piece := source.read(READ_BYTES):
                size += len(piece)
                if max_bytes is not None and size > max_bytes:
                    raise ValueError(f"received more than {max_bytes} bytes; expected at most {max_bytes}")
                digest.update(piece)
                file.write(piece)
            file.close()
            self.adopt(path, digest.hexdigest())
        return digest.hexdigest(), size

    @contextmanager
    def spool(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A temporary file on the store's own disk; removed at the end unless `adopt` took it.

        Raises:
            StoreFull: When the disk is too full, now or while writing.
        """
        folder = self._local / "incoming" if self._local else None
        self.require_room(0)
        handle, name = tempfile.mkstemp(prefix="spool-", dir=folder)
        path = Path(name)
        try:
            with _GuardedFile(os.fdopen(handle, "wb"), self) as file:
                yield path, file  # type: ignore[misc] # _GuardedFile has what writers use
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A temporary folder on the store's own disk, from which files can be adopted; removed at the end."""
        folder = self._local / "incoming" if self._local else None
        with tempfile.TemporaryDirectory(prefix="spool-", dir=folder) as name:
            yield Path(name)

    def adopt(self, path: Path, digest: str) -> None:
        """Moves a spooled file into place under its digest; durable when this returns.

        Raises:
            ValueError: When `digest` is not 64 hex digits.
        """
        target = self._path(digest)
        if self._local:
            final = Path(target)
            try:
                # The new time tells `sweep` that somebody is about to name this blob in a row.
                os.utime(final)
                return
            except FileNotFoundError:
                pass
            final.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.rename(final)
            _flush_folder(final.parent)
        else:
            # Also when it is there: like the new time above, that keeps `sweep` from it.
            self._fs.put_file(str(path), target)

    def open(self, digest: str) -> IO[bytes]:
        """Opens a blob for reading.

        Raises:
            BlobMissing: When there is none.
        """
        try:
            file: IO[bytes] = self._fs.open(self._path(digest), "rb")
        except FileNotFoundError:
            raise BlobMissing(f"blob {digest} is not in the store although a row names it") from None
        return file

    def read(self, digest: str) -> bytes:
        """Returns a blob whole. Raises BlobMissing when there is none."""
        with self.open(digest) as file:
            return file.read()

    @contextmanager
    def local_path(self, digest: str) -> Iterator[Path]:
        """The blob as a file on this machine: itself in a local store, else a temporary copy."""
        if self._local:
            path = Path(self._path(digest))
            if not path.exists():
                raise BlobMissing(f"blob {digest} is not in the store although a row names it")
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="blob-") as copy, self.open(digest) as source:
            shutil.copyfileobj(source, copy, READ_BYTES)
            copy.flush()
            yield Path(copy.name)

    def exists(self, digest: str) -> bool:
        """Whether the store has this blob."""
        return bool(self._fs.exists(self._path(digest)))

    def delete(self, digest: str) -> None:
        """Removes a blob for good; no error when it is already gone."""
        try:
            self._fs.rm_file(self._path(digest))
        except FileNotFoundError:
            return

    def sweep(self, digest: str, *, unused_for_s: float, now: float) -> bool:
        """Removes a blob that no row names, unless somebody put it (again) lately.

        Whoever stores the same bytes at this very moment is safe: `adopt` gives an existing blob a new time, or finds
        it gone and stores it anew. A store that is not a folder is looked at by the times it keeps itself; between that
        look and the removal lies one request.

        Args:
            digest: The blob; the caller has seen that no committed row names it.
            unused_for_s: Longer than any transaction between `adopt` and its row may take, seconds.
            now: The time, as `time.time()` gives it.

        Returns:
            Whether it was removed.
        """
        if self._local is None:
            return self._sweep_remote(digest, unused_for_s, now)
        final, aside = Path(self._path(digest)), self._local / "incoming" / f"spool-swept-{digest}"
        try:
            if now - final.stat().st_mtime < unused_for_s:
                return False
            final.rename(aside)
            if now - aside.stat().st_mtime < unused_for_s:
                aside.rename(final)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        return True

    def _sweep_remote(self, digest: str, unused_for_s: float, now: float) -> bool:
        try:
            stored_at = self._fs.modified(self._path(digest)).timestamp()
        except FileNotFoundError:
            return False
        if now - stored_at < unused_for_s:
            return False
        self.delete(digest)
        return True

    def sweep_spool(self, older_than_s: float, now: float) -> int:
        """Removes spooled files and workspaces that a killed process left behind; returns how many."""
        if not self._local:
            return 0
        removed = 0
        for path in (self._local / "incoming").glob("spool-*"):
            try:
                if now - path.stat().st_mtime > older_than_s:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    def require_room(self, more_bytes: int) -> None:
        """Raises StoreFull when the local disk would keep less than the minimum free after `more_bytes`."""
        if self._local is None:
            return
        free = shutil.disk_usage(self._local).free
        if free - more_bytes < self._min_free_bytes:
            raise StoreFull(
                f"the disk has {free} bytes free; {self._min_free_bytes} must stay free: make room or add a disk"
            )

    def _path(self, digest: str) -> str:
        if not KEY.match(digest):
            raise ValueError(f"received the blob key {digest[:80]!r}; expected 64 hexadecimal digits")
        return f"{self._root}/{digest[:2]}/{digest}"


class _GuardedFile:
    """A file whose every write first asks whether there is room."""

    def __init__(self, file: IO[bytes], store: BlobStore) -> None:
        self._file, self._store = file, store

    def write(self, piece: bytes) -> int:
        self._store.require_room(len(piece))
        try:
            return self._file.write(piece)
        except OSError as error:
            raise StoreFull(f"the disk refused a write: {error.strerror}") from error

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise StoreFull(f"the disk refused a write: {error.strerror}") from error

    def __enter__(self) -> "_GuardedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
