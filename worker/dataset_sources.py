"""Where a data set comes from, brought into the form that `training.datasets` reads: a folder on this machine.

Owns the three origins: a folder below `datasets_dir`, which is read where it lies; files that were sent (a zip archive
or single pictures), unpacked into a workspace under the names that the archive gives them; and slices of the store
whose label a clinician confirmed, written as pictures with a manifest.

Refuses names that lead out of the workspace or of the folder, and to write down who a patient is: slices of the store
get a pseudonym that is drawn anew for each data set and kept nowhere.
"""

import csv
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from config.dataset_folders import MANIFEST, find
from db.blobs import BlobMissing
from db.datasets import TrainingDataset
from db.queries import reviews, submissions
from db.queries.datasets import Kind
from db.queries.reviews import ReviewedSlice
from imaging import heatmaps
from imaging.archive import Budget, check_name, unpack
from imaging.outcomes import Reason, RejectedFile
from imaging.sniff import HEAD_BYTES, ZIP, sniff
from worker.context import Context
from worker.faults import Fatal

SOURCE_OF_STUDIES: Final = "reviewed"
_THREADS: Final = 4
_LONGEST_NAME: Final = 200
_HIDDEN: Final = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})


class Refused(Exception):
    """A data set cannot be used.

    Attributes:
        problems: Entries {code, detail}, as `TrainingDataset.problems` keeps them.
    """

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(", ".join(problem["code"] for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Source:
    """A folder to be read.

    Attributes:
        root: The folder.
        kind: Of the data set.
        instances: file -> slice of the store it was made from.
    """

    root: Path
    kind: Kind
    instances: dict[str, uuid.UUID] = field(default_factory=dict)


def open_source(context: Context, dataset: TrainingDataset, workdir: Path, step: Callable[[], None]) -> Source:
    """Brings a data set's origin into the form of a folder.

    Args:
        context: Settings, database, blobs, decoders.
        dataset: Asked for; its `origin` says what.
        workdir: Empty folder for what must be unpacked or drawn.
        step: Called between files; raises when the work must stop.

    Raises:
        Refused: There is nothing usable.
        Fatal: The store lost a blob.
        OSError: The disk failed, or is full.
    """
    if dataset.kind == "studies":
        return _from_studies(context, dataset.origin, workdir, step)
    if "upload" in dataset.origin:
        root = _from_upload(context, uuid.UUID(str(dataset.origin["upload"])), workdir, step)
    else:
        name = str(dataset.origin.get("folder", ""))
        found = find(context.settings.datasets_dir, name)
        if found is None:
            raise Refused([problem("dataset_no_folder", folder=name[:100])])
        root = found
    return Source(root, "manifest" if (root / MANIFEST).is_file() else "folder")


def problem(code: str, **detail: object) -> dict[str, Any]:
    """One entry of `TrainingDataset.problems`."""
    return {"code": code, "detail": detail}


def listed(names: Iterable[str], shown: int = 20) -> dict[str, Any]:
    """Facts about files for a sentence: `files` (the first ones) and `count`."""
    whole = list(names)
    return {"files": ", ".join(whole[:shown]) + (", …" if len(whole) > shown else ""), "count": len(whole)}


# Files that were sent.


def _from_upload(context: Context, upload_id: uuid.UUID, workdir: Path, step: Callable[[], None]) -> Path:
    with context.database.read() as session:
        sent = submissions.files_of(session, upload_id)
    root, parts = workdir / "sent", workdir / "parts"
    root.mkdir()
    parts.mkdir()
    refused: list[tuple[str, RejectedFile]] = []
    budget = Budget.of(context.decoders.limits)
    for file in sent:
        step()
        try:
            with context.blobs.local_path(file.sha256) as path:
                with path.open("rb") as opened:
                    packed = sniff(opened.read(HEAD_BYTES), file.path).kind == ZIP
                if packed:
                    refused += _unpack(context, path, root, parts, budget, step)
                else:
                    copy = parts / uuid.uuid4().hex
                    shutil.copyfile(path, copy)
                    _place(copy, root, file.path)
        except BlobMissing:
            raise Fatal("blob_missing", f"blob {file.sha256} of the upload is missing") from None
        except RejectedFile as rejection:
            refused.append((file.path, rejection))
    if refused:
        raise Refused(rejections(refused))
    return _without_wrapping(root)


def _unpack(
    context: Context, archive: Path, root: Path, parts: Path, budget: Budget, step: Callable[[], None]
) -> list[tuple[str, RejectedFile]]:
    """Unpacks an archive below `root`; returns what was refused."""
    refused = []
    for member in unpack(archive, context.decoders.limits, parts, budget):
        step()
        if _HIDDEN & set(PurePosixPath(member.name).parts):
            continue
        if member.rejection is not None or member.path is None:
            refused.append((member.name, member.rejection or RejectedFile(Reason.ENTRY_DAMAGED)))
            continue
        try:
            check_name(member.name, context.decoders.limits)
            _place(member.path, root, member.name)
        except RejectedFile as rejection:
            refused.append((member.name, rejection))
    return refused


def _place(file: Path, root: Path, name: str) -> None:
    """Moves a file to its name below `root`.

    Raises:
        RejectedFile: The name leads out, is too long, or is taken.
    """
    parts = PurePosixPath(name).parts
    if not parts or any(part in ("", ".", "..", "/") for part in parts):
        raise RejectedFile(Reason.NAME_ESCAPES)
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise RejectedFile(Reason.NAME_LENGTH, found=max(map(len, parts)), limit=_LONGEST_NAME)
    target = root.joinpath(*parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RejectedFile(Reason.OVERLAP) from None
    if target.exists():
        raise RejectedFile(Reason.DUPLICATE)
    file.rename(target)


def _without_wrapping(root: Path) -> Path:
    """The folder that holds the manifest or the classes: archives often hold one folder around everything."""
    while not (root / MANIFEST).is_file():
        inside = list(root.iterdir())
        if len(inside) != 1 or not inside[0].is_dir() or not any(path.is_dir() for path in inside[0].iterdir()):
            if len(inside) == 1 and inside[0].is_dir() and (inside[0] / MANIFEST).is_file():
                return inside[0]
            break
        root = inside[0]
    return root


def rejections(refused: Iterable[tuple[str, RejectedFile]], shown: int = 50) -> list[dict[str, Any]]:
    """An entry for each of the first refused files, with its reason, and one for how many more there are."""
    whole = list(refused)
    problems = [
        problem(
            "dataset_file",
            file=name,
            reason=rejection.reason.value,
            facts=dict(rejection.detail),
            why=str(rejection),
        )
        for name, rejection in whole[:shown]
    ]
    return problems + ([problem("dataset_more_files", count=len(whole) - shown)] if len(whole) > shown else [])


# Slices of the store.


def _from_studies(context: Context, origin: dict[str, Any], workdir: Path, step: Callable[[], None]) -> Source:
    with context.database.read() as session:
        reviewed = reviews.reviewed_slices(session, reviews.Filter.from_json(origin))
    if not reviewed:
        raise Refused([problem("dataset_nothing_reviewed")])
    patients: dict[str, str] = {}
    refused: list[tuple[str, RejectedFile]] = []

    def draw(found: ReviewedSlice) -> None:
        step()
        path = workdir / _file_of(found)
        path.parent.mkdir(exist_ok=True)
        try:
            with context.blobs.local_path(found.content_sha256) as stored:
                path.write_bytes(heatmaps.slice_png(context.decoders.read_frame(stored, found.frame_index).pixels))
        except BlobMissing:
            raise Fatal("blob_missing", f"blob {found.content_sha256} of a slice is missing") from None
        except RejectedFile as rejection:
            refused.append((_file_of(found), rejection))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="draw") as pool:
        list(pool.map(draw, reviewed))
    if refused:
        raise Refused(rejections(sorted(refused, key=lambda item: item[0])))
    with (workdir / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "label", "patient", "plane", "source"))
        for found in reviewed:
            patient = patients.setdefault(found.patient_key, f"p-{secrets.token_hex(8)}")
            plane = found.plane if found.plane in ("axial", "coronal", "sagittal") else ""
            writer.writerow((_file_of(found), found.label, patient, plane, SOURCE_OF_STUDIES))
    return Source(workdir, "studies", {_file_of(found): found.instance_id for found in reviewed})


def _file_of(found: ReviewedSlice) -> str:
    return f"{found.label}/{found.instance_id}.png"
