"""What an administrator does to data sets: ask for one, have it read again, delete it.

Owns these steps for pages and API alike: the change, its audit row in the same transaction, the bell after the commit.
Refuses to read a picture: a worker does, and its answer stands in the data set.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from config import dataset_folders
from db.datasets import TrainingDataset
from db.queries import audit, datasets, submissions
from db.queries.datasets import DatasetRefused, Kind, Registered
from db.queries.reviews import Filter
from db.states import Priority
from web.access import actor, the_user
from web.objects import find_upload
from web.problems import Problem
from web.reception import Received
from web.services import services

REFUSALS = {
    "no_name": (422, "Give the data set a name of a few words."),
    "name_taken": (409, "There is a data set of this name already. Choose another name."),
    "no_folder": (422, "There is no such folder to register. There are: %(folders)s."),
    "no_files": (400, "Received no file. Send a zip archive with manifest.csv or one folder for each class."),
    "upload_closed": (409, "This upload takes no more files. Start a new one."),
    "not_found": (404, "There is no such data set."),
    "in_use": (409, "A sweep or a comparison names this data set; it cannot be deleted."),
    "not_refused": (409, "The data set is not one that can be read again. Register it anew under another name."),
}


def from_folder(name: str, folder: str, *, labels_as_they_are: bool = False) -> uuid.UUID:
    """Registers a folder below `datasets_dir`; returns the data set, committed.

    Raises:
        Problem: 409 `name_taken`, 422 `no_name` or `no_folder`.
    """
    settings = services().settings
    if dataset_folders.find(settings.datasets_dir, folder) is None:
        names = ", ".join(found.name for found in dataset_folders.offered(settings.datasets_dir)) or "–"
        raise _problem("no_folder", folders=names)
    origin = {"folder": folder, "labels_as_they_are": labels_as_they_are}
    return _carry_out("dataset.register", lambda db: _register(db, name, "folder", origin), origin)


def from_upload(name: str, upload_id: uuid.UUID, *, labels_as_they_are: bool = False) -> uuid.UUID:
    """Registers the files of an upload, which ends with that. Raises Problem: 400, 404, 409, 422."""
    origin = {"upload": str(upload_id), "labels_as_they_are": labels_as_they_are}

    def change(db: Session) -> Registered:
        upload = find_upload(db, upload_id, receiving=True, lock=True)
        datasets.close_upload(db, upload)
        return _register(db, name, "folder", {**origin, "title": upload.title})

    return _carry_out("dataset.register", change, origin)


def from_files(name: str, received: Received, *, labels_as_they_are: bool = False) -> uuid.UUID:
    """Registers files that arrived in one request. Raises Problem: 400, 409, 413, 422."""
    parts = services()
    if not received.files:
        raise _problem("no_files")
    if sum(spooled.size_bytes for spooled in received.files) > parts.settings.max_upload_bytes:
        raise Problem(
            413,
            "too_large",
            "All files together are larger than the %(limit_bytes)s bytes accepted in one submission.",
            facts={"limit_bytes": parts.settings.max_upload_bytes},
        )
    files = received.store(parts.blobs)
    title = files[0].path if len(files) == 1 else ""
    origin = {"title": title[:200], "labels_as_they_are": labels_as_they_are}

    def change(db: Session) -> Registered:
        upload = submissions.open_upload(
            db, the_user().id, title=title, priority=Priority.NORMAL, expiry_s=parts.settings.upload_expiry_s
        )
        submissions.add_files(db, upload, files)
        datasets.close_upload(db, upload)
        return _register(db, name, "folder", {**origin, "upload": str(upload.id)})

    return _carry_out("dataset.register", change, {"labels_as_they_are": labels_as_they_are})


def from_reviews(name: str, wanted: Filter) -> uuid.UUID:
    """Registers slices of the store whose confirmed label fits. Raises Problem: 409, 422."""
    return _carry_out(
        "dataset.register", lambda db: _register(db, name, "studies", wanted.to_json()), {"reviewed": wanted.to_json()}
    )


def again(dataset_id: uuid.UUID, *, labels_as_they_are: bool) -> uuid.UUID:
    """Has a refused data set read once more. Raises Problem: 404, 409."""
    settings = services().settings
    return _carry_out(
        "dataset.again",
        lambda db: datasets.register_again(db, settings, dataset_id, labels_as_they_are=labels_as_they_are),
        {"labels_as_they_are": labels_as_they_are},
    )


def delete(dataset_id: uuid.UUID) -> None:
    """Deletes a data set that nothing uses; housekeeping removes pictures that nothing else names.

    Raises:
        Problem: 404 `not_found`, 409 `in_use`.
    """
    try:
        with services().database.write() as db:
            fingerprint = find(db, dataset_id).fingerprint
            datasets.remove(db, dataset_id, by=the_user().id)
            detail = {"fingerprint": fingerprint}
            audit.record(db, actor(), "dataset.delete", object_kind="dataset", object_id=dataset_id, detail=detail)
    except DatasetRefused as refused:
        raise _problem(refused.code) from refused


def find(db: Session, dataset_id: uuid.UUID) -> TrainingDataset:
    """A data set. Raises Problem 404 when there is none."""
    found = db.get(TrainingDataset, dataset_id)
    if found is None:
        raise _problem("not_found")
    return found


def _register(db: Session, name: str, kind: Kind, origin: Mapping[str, Any]) -> Registered:
    return datasets.register(db, services().settings, name=name, kind=kind, origin=origin, by=the_user().id)


def _carry_out(action: str, change: Callable[[Session], Registered], detail: Mapping[str, Any]) -> uuid.UUID:
    """The change, its audit row, and the bell."""
    parts = services()
    try:
        with parts.database.write() as db:
            done = change(db)
            audit.record(db, actor(), action, object_kind="dataset", object_id=done.dataset_id, detail=detail)
    except DatasetRefused as refused:
        raise _problem(refused.code) from refused
    parts.doorbell.ring_committed(parts.database, done.item_ids)
    return done.dataset_id


def _problem(code: str, **facts: object) -> Problem:
    status, detail = REFUSALS[code]
    return Problem(status, code, detail, facts=facts)
