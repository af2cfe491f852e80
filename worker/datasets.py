"""A registered data set as a folder on this machine, made of the blobs that its rows name.

Owns the local copies: a folder a data set, with the pictures and a `manifest.csv` that `training.datasets` reads. A
copy is made under another name and moved into place, so that it is whole or absent, and several processes of one
machine may make it at the same time. Every file is checked against its digest while it is copied, and its presence and
size each time it is used. Copies of data sets that were deleted are removed.

Refuses to change what a data set holds: a copy that does not fit its rows is made anew.
"""

import csv
import hashlib
import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from config.dataset_folders import MANIFEST
from db.blobs import READ_BYTES, BlobMissing, StoreFull
from db.datasets import DatasetSample
from db.queries import datasets as rows
from worker.context import Context
from worker.faults import Fatal

COLUMNS: Final = ("file", "label", "patient", "plane", "source", "box_x", "box_y", "box_w", "box_h")
_ATTEMPT: Final = "making-"
_ABANDONED_S: Final = 24 * 3600.0
_THREADS: Final = 8

log = structlog.get_logger(__name__)


def materialise(context: Context, dataset_id: uuid.UUID, folder: Path) -> Path:
    """The data set's pictures and `manifest.csv` in a folder of this machine.

    Args:
        context: Database and blobs.
        dataset_id: A data set that is ready.
        folder: Holds the copies, one folder a data set; made when it is not there.

    Returns:
        `folder` / the data set's id. To be read only; it stays for the next run.

    Raises:
        Fatal: `dataset_missing`: there is no such data set, or it is not ready; `dataset_blob_missing`: the store lost
            a picture, or holds other bytes than its name says.
        StoreFull: The disk is full.
        OSError: The store or the disk cannot be read.
    """
    with context.database.read() as session:
        samples = rows.samples_of(session, dataset_id)
        known = rows.known_ids(session)
    if not samples:
        raise Fatal("dataset_missing", f"the data set {dataset_id} is not there or not ready; expected a ready one")
    folder.mkdir(parents=True, exist_ok=True)
    _clean(folder, known)
    target = folder / str(dataset_id)
    if _is_whole(target, samples):
        return target
    made = Path(tempfile.mkdtemp(prefix=_ATTEMPT, dir=folder))
    try:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="dataset") as pool:
            list(pool.map(lambda sample: _copy(context, sample, made), samples))
        _write(made / MANIFEST, manifest_of(samples).encode())
        _move(made, target, samples)
    except OSError as error:
        raise StoreFull(f"the disk refused a data set's copy: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    log.info("dataset_copied", dataset_id=str(dataset_id), slices=len(samples))
    return target


def manifest_of(samples: Sequence[DatasetSample]) -> str:
    """The samples as the text of a `manifest.csv`, in their order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for sample in samples:
        box = sample.box or ("", "", "", "")
        writer.writerow((sample.file, sample.label, sample.patient, sample.plane, sample.source, *box))
    return out.getvalue()


def _is_whole(target: Path, samples: Sequence[DatasetSample]) -> bool:
    """Whether a copy is there and fits its rows: the manifest to the byte, every file present and not empty."""
    try:
        if (target / MANIFEST).read_bytes() != manifest_of(samples).encode():
            return False
        return all((target / sample.file).stat().st_size > 0 for sample in samples)
    except OSError:
        return False


def _copy(context: Context, sample: DatasetSample, root: Path) -> None:
    path = root / PurePosixPath(sample.file)
    if not path.resolve().is_relative_to(root.resolve()):
        raise Fatal("dataset_missing", "a sample's name leads out of the data set's folder; register it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with context.blobs.open(sample.sha256) as source, path.open("xb") as file:
            while piece := source.read(READ_BYTES):
                digest.update(piece)
                file.write(piece)
    except BlobMissing:
        log.error("blob_missing", sha256=sample.sha256)
        raise Fatal("dataset_blob_missing", f"blob {sample.sha256} of the data set is missing") from None
    if digest.hexdigest() != sample.sha256:
        log.error("blob_damaged", sha256=sample.sha256)
        raise Fatal("dataset_blob_missing", f"blob {sample.sha256} of the data set is damaged")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move(made: Path, target: Path, samples: Sequence[DatasetSample]) -> None:
    """Puts a finished copy in place; one that another process finished meanwhile is left alone."""
    for _ in range(3):
        try:
            made.rename(target)
            return
        except OSError:
            if _is_whole(target, samples):
                return
            if not target.exists():
                raise
        # What stands there does not fit: out of the way under a name of its own, then away with it.
        with suppress(OSError):
            aside = target.with_name(f"{_ATTEMPT}{uuid.uuid4().hex}")
            target.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    made.rename(target)


def _clean(folder: Path, known: set[uuid.UUID]) -> None:
    """Removes copies of deleted data sets, and attempts that a killed process left behind."""
    for path in folder.iterdir():
        with suppress(OSError, ValueError):
            abandoned = path.name.startswith(_ATTEMPT) and time.time() - path.stat().st_mtime > _ABANDONED_S
            if abandoned or (not path.name.startswith(_ATTEMPT) and uuid.UUID(path.name) not in known):
                shutil.rmtree(path, ignore_errors=True)
