"""Registered data sets: asked for, written by a worker, listed, deleted.

Owns every change of `TrainingDataset.state` and of its samples. A worker's writes are fenced by its claim; its last
transaction makes the data set ready, so that nobody meets half of one. Refuses to delete a data set that a sweep or a
comparison names, and to read a picture.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from config.queues import QUEUE_REGISTRY, TASK_REGISTER_DATASET
from config.settings import Settings
from db.clock import database_now
from db.datasets import DatasetSample, TrainingDataset
from db.jobs import Job, WorkItem
from db.queries import claims
from db.queries.claims import Claim
from db.queries.views import Page
from db.registry import Comparison
from db.states import ITEM_OPEN, DatasetState, ItemState, UploadState, check
from db.sweeps import Sweep
from db.uploads import Upload, UploadFile
from db.users import User

NAME_LIMIT = 128
PAGE_SAMPLES = 60

Kind = Literal["folder", "manifest", "studies"]


class DatasetRefused(ValueError):
    """A wish that cannot be granted.

    Attributes:
        code: `no_name`, `name_taken`, `not_found`, `in_use`, `not_refused`, `no_files` or `upload_closed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Registered:
    """A committed wish.

    Attributes:
        dataset_id: The data set, in state `registering`.
        item_ids: Work items to ring for after the commit (`Doorbell.ring_committed`).
    """

    dataset_id: uuid.UUID
    item_ids: list[uuid.UUID]


@dataclass(frozen=True)
class DatasetRow:
    """One data set in a list."""

    dataset: TrainingDataset
    creator: str
    sweeps: int


@dataclass(frozen=True)
class Waiting:
    """How far a registration is: looked at `done` of `total` steps; `code` says why it waits, if it does."""

    state: ItemState
    done: int
    total: int
    code: str = ""


@dataclass(frozen=True)
class Content:
    """What a worker found, to be written.

    Attributes:
        kind: `folder`, `manifest` or `studies`.
        samples: Values of the columns of `DatasetSample` but `dataset_id` and `sequence`, in order.
        fingerprint: As `training.datasets.fingerprint` gives it.
        counts: See `TrainingDataset.counts`.
        leaks: See `TrainingDataset.leaks`.
        remarks: Entries {code, detail} that do not hinder.
    """

    kind: Kind
    samples: Sequence[Mapping[str, Any]]
    fingerprint: str
    counts: dict[str, Any]
    leaks: dict[str, Any]
    remarks: list[dict[str, Any]] = field(default_factory=list)


def register(
    session: Session, settings: Settings, *, name: str, kind: Kind, origin: Mapping[str, Any], by: uuid.UUID | None
) -> Registered:
    """Asks for a data set; a worker of the role `registry` reads it.

    Args:
        session: In a write transaction.
        settings: Attempts.
        name: For people; unique.
        kind: `folder` also for what turns out to have a manifest.
        origin: `{"folder": NAME}`, `{"upload": ID, "title": NAME}` (see `close_upload`) or `{"since", "until",
            "classes"}`; and `labels_as_they_are`: whether labels that look misspelt are meant so.
        by: Who asked.

    Raises:
        DatasetRefused: `no_name` or `name_taken`.
    """
    name = " ".join(name.split())[:NAME_LIMIT]
    if not name:
        raise DatasetRefused("no_name", "received no name; expected one to three words")
    if session.scalar(select(TrainingDataset.id).where(TrainingDataset.name == name)) is not None:
        raise DatasetRefused("name_taken", f"there is a data set named {name!r} already; expected another name")
    dataset = TrainingDataset(name=name, kind=kind, origin=dict(origin), created_by_id=by)
    session.add(dataset)
    try:
        session.flush()
    except IntegrityError:
        raise DatasetRefused("name_taken", f"there is a data set named {name!r} already") from None
    return Registered(dataset.id, [_item(session, dataset.id, settings).id])


def register_again(
    session: Session, settings: Settings, dataset_id: uuid.UUID, *, labels_as_they_are: bool = False
) -> Registered:
    """Reads a refused data set once more, after its folder was mended.

    Raises:
        DatasetRefused: `not_found`, or `not_refused`: it is ready or being read, or its files were sent with it.
    """
    dataset = locked(session, dataset_id)
    if dataset.state != DatasetState.REFUSED or "upload" in dataset.origin:
        raise DatasetRefused("not_refused", f"the data set is {dataset.state}; expected a refused one of a folder")
    dataset.state = check(DatasetState(dataset.state), DatasetState.REGISTERING)
    dataset.problems = []
    if labels_as_they_are:
        dataset.origin = {**dataset.origin, "labels_as_they_are": True}
    return Registered(dataset.id, [_item(session, dataset.id, settings).id])


def close_upload(session: Session, upload: Upload) -> None:
    """Ends an upload whose files become a data set, so that it neither expires nor becomes a job.

    Raises:
        DatasetRefused: `upload_closed` or `no_files`.
    """
    if upload.state != UploadState.RECEIVING:
        raise DatasetRefused("upload_closed", f"the upload is {upload.state}; expected one that is receiving")
    if session.scalar(select(UploadFile.id).where(UploadFile.upload_id == upload.id).limit(1)) is None:
        raise DatasetRefused("no_files", "the upload holds no file; expected a zip archive or pictures")
    upload.state = check(UploadState(upload.state), UploadState.COMPLETED)
    session.flush()


def locked(session: Session, dataset_id: uuid.UUID) -> TrainingDataset:
    """A data set, its row held until the end of the transaction. Raises DatasetRefused `not_found`."""
    dataset = session.scalar(
        select(TrainingDataset)
        .where(TrainingDataset.id == dataset_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if dataset is None:
        raise DatasetRefused("not_found", f"there is no data set {dataset_id}")
    return dataset


def remove(session: Session, dataset_id: uuid.UUID, *, by: uuid.UUID) -> None:
    """Deletes a data set that nothing uses, with its samples; a worker that reads it at this moment is stopped.

    Its pictures are kept as files of an upload that became nothing, until `forget_files` finds them.

    Args:
        session: In a write transaction.
        dataset_id: The data set.
        by: Who deletes it.

    Raises:
        DatasetRefused: `not_found`, or `in_use`: a sweep or a comparison names it.
    """
    # Work items before the data set, as a worker's own transactions lock them.
    items = session.scalars(
        select(WorkItem)
        .where(
            WorkItem.state.in_(ITEM_OPEN),
            WorkItem.queue == QUEUE_REGISTRY,
            WorkItem.task == TASK_REGISTER_DATASET,
            WorkItem.arguments["dataset_id"].as_string() == str(dataset_id),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    dataset = locked(session, dataset_id)
    used = session.scalar(select(Sweep.id).where(Sweep.dataset_id == dataset_id).limit(1)) or session.scalar(
        select(Comparison.id).where(Comparison.dataset_id == dataset_id).limit(1)
    )
    if used is not None:
        raise DatasetRefused("in_use", "the data set is in use; expected one that nothing names")
    for item in items:
        item.state = check(ItemState(item.state), ItemState.CANCELLED)
        item.lease_token = item.lease_until = None
        item.finished_at = database_now(session)
    digests = session.scalars(
        select(DatasetSample.sha256).where(DatasetSample.dataset_id == dataset_id).distinct()
    ).all()
    if digests:
        left = Upload(created_by_id=by, state=UploadState.COMPLETED, expires_at=database_now(session))
        session.add(left)
        session.flush()
        names = [(f"deleted/{digest}", digest) for digest in digests]
        session.execute(
            insert(UploadFile),
            [
                {
                    "upload_id": left.id,
                    "path": path,
                    "path_digest": hashlib.sha256(path.encode()).hexdigest(),
                    "sha256": digest,
                    "size_bytes": 0,
                }
                for path, digest in names
            ],
        )
    session.delete(dataset)  # its samples go with it
    session.flush()


def forget_files(session: Session, *, older_than_s: float, uploads: int = 20) -> list[str]:
    """Forgets files of completed uploads that became no job and that no worker is reading a data set from.

    These are archives of which a data set was made, or refused, and pictures of deleted data sets. They are kept for a
    while because a blob that was stored lately is not removed (`BlobStore.sweep`).

    Args:
        session: In a write transaction.
        older_than_s: Age of the upload from which on its files are forgotten, seconds.
        uploads: Most uploads in one call.

    Returns:
        Their digests, for the caller to see which blobs nobody names any more.
    """
    reading = [
        uuid.UUID(str(origin["upload"]))
        for origin in session.scalars(
            select(TrainingDataset.origin).where(TrainingDataset.state == DatasetState.REGISTERING)
        )
        if origin.get("upload")
    ]
    found = session.scalars(
        select(Upload.id)
        .where(
            Upload.state == UploadState.COMPLETED,
            Upload.created_at < database_now(session) - timedelta(seconds=older_than_s),
            Upload.id.not_in(reading),
            ~exists(select(Job.id).where(Job.upload_id == Upload.id)),
            exists(select(UploadFile.id).where(UploadFile.upload_id == Upload.id)),
        )
        .limit(uploads)
    ).all()
    digests = session.scalars(select(UploadFile.sha256).where(UploadFile.upload_id.in_(found)).distinct()).all()
    session.execute(delete(UploadFile).where(UploadFile.upload_id.in_(found)))
    return list(digests)


def by_name(session: Session, name: str) -> TrainingDataset | None:
    """The data set of this name."""
    return session.scalar(select(TrainingDataset).where(TrainingDataset.name == name))


def listed(session: Session) -> list[DatasetRow]:
    """All data sets, the newest first."""
    sweeps = {
        row[0]: row[1] for row in session.execute(select(Sweep.dataset_id, func.count()).group_by(Sweep.dataset_id))
    }
    rows = session.execute(
        select(TrainingDataset, User)
        .outerjoin(User, User.id == TrainingDataset.created_by_id)
        .order_by(TrainingDataset.created_at.desc(), TrainingDataset.id)
    )
    return [DatasetRow(row.TrainingDataset, _name(row.User), sweeps.get(row.TrainingDataset.id, 0)) for row in rows]


def known_ids(session: Session) -> set[uuid.UUID]:
    """Every data set that there is."""
    return set(session.scalars(select(TrainingDataset.id)))


def creator(session: Session, dataset: TrainingDataset) -> str:
    """Who asked for it, for people."""
    return _name(session.get(User, dataset.created_by_id) if dataset.created_by_id else None)


def sweeps_of(session: Session, dataset_id: uuid.UUID) -> list[Sweep]:
    """The sweeps that name a data set, the newest first."""
    return list(
        session.scalars(select(Sweep).where(Sweep.dataset_id == dataset_id).order_by(Sweep.created_at.desc(), Sweep.id))
    )


def samples_of(session: Session, dataset_id: uuid.UUID) -> list[DatasetSample]:
    """The samples of a ready data set in their order; empty when it is not there or not ready."""
    return list(
        session.scalars(
            select(DatasetSample)
            .join(TrainingDataset, TrainingDataset.id == DatasetSample.dataset_id)
            .where(DatasetSample.dataset_id == dataset_id, TrainingDataset.state == DatasetState.READY)
            .order_by(DatasetSample.sequence)
        )
    )


def samples_page(session: Session, dataset_id: uuid.UUID, *, label: str = "", number: int = 1) -> Page[DatasetSample]:
    """Samples of one class, or of all, by page."""
    query = select(DatasetSample).where(DatasetSample.dataset_id == dataset_id)
    if label:
        query = query.where(DatasetSample.label == label)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    pages = max(1, -(-total // PAGE_SAMPLES))
    page = min(max(1, number), pages)
    found = session.scalars(
        query.order_by(DatasetSample.sequence).limit(PAGE_SAMPLES).offset((page - 1) * PAGE_SAMPLES)
    ).all()
    return Page(found, page, pages, total, {"label": label} if label else {})


def sequences(session: Session, dataset_id: uuid.UUID, files: Sequence[str]) -> dict[str, int]:
    """file -> sequence of the samples of these names."""
    rows = session.execute(
        select(DatasetSample.file, DatasetSample.sequence).where(
            DatasetSample.dataset_id == dataset_id, DatasetSample.file.in_(files)
        )
    )
    return {row.file: row.sequence for row in rows}


def numbered_examples(
    session: Session, dataset_id: uuid.UUID, leaks: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """The pairs of copies of a leak report (docs/run-report.md) by kind, each file with its number in `numbers`.

    A file that the data set does not hold has the number None.
    """
    examples: Mapping[str, list[dict[str, Any]]] = leaks.get("examples") or {}
    files = {file for pairs in examples.values() for pair in pairs for file in pair["files"]}
    numbers = sequences(session, dataset_id, sorted(files))
    return {
        kind: [{**pair, "numbers": [numbers.get(file) for file in pair["files"]]} for pair in pairs]
        for kind, pairs in examples.items()
    }


def waiting(session: Session, dataset: TrainingDataset) -> Waiting | None:
    """How far its registration is; None when no work item is left."""
    item = session.scalar(
        select(WorkItem)
        .where(
            WorkItem.state.in_(ITEM_OPEN),
            WorkItem.queue == QUEUE_REGISTRY,
            WorkItem.task == TASK_REGISTER_DATASET,
            WorkItem.arguments["dataset_id"].as_string() == str(dataset.id),
        )
        .order_by(WorkItem.created_at.desc())
        .limit(1)
    )
    if item is None:
        return None
    code = item.error_code if item.state == ItemState.PENDING else ""
    return Waiting(ItemState(item.state), item.progress, int(dataset.counts.get("steps", 0)), code)


# What a worker writes.


def dataset_of(claim: Claim) -> uuid.UUID:
    """The data set that a claimed item is about."""
    return uuid.UUID(str(claim.arguments["dataset_id"]))


def to_register(session: Session, dataset_id: uuid.UUID) -> TrainingDataset | None:
    """A data set that waits to be read; None when it is gone or read already."""
    dataset = session.get(TrainingDataset, dataset_id)
    return dataset if dataset is not None and dataset.state == DatasetState.REGISTERING else None


def begin(session: Session, dataset_id: uuid.UUID, *, steps: int) -> None:
    """Notes how much there is to do and forgets what an earlier attempt wrote. In a fenced transaction."""
    session.execute(delete(DatasetSample).where(DatasetSample.dataset_id == dataset_id))
    locked(session, dataset_id).counts = {"steps": steps}


def add_samples(session: Session, dataset_id: uuid.UUID, samples: Sequence[Mapping[str, Any]], *, first: int) -> None:
    """Writes some samples, numbered from `first`. In a fenced transaction, after `begin`."""
    session.execute(
        insert(DatasetSample),
        [{**sample, "dataset_id": dataset_id, "sequence": first + place} for place, sample in enumerate(samples)],
    )


def conclude(session: Session, claim: Claim, dataset_id: uuid.UUID, content: Content) -> None:
    """Makes a data set ready, whose samples are written, and ends the work item."""
    claims.finish(session, claim)
    dataset = locked(session, dataset_id)
    dataset.state = check(DatasetState(dataset.state), DatasetState.READY)
    dataset.kind = content.kind
    dataset.fingerprint, dataset.counts, dataset.leaks = content.fingerprint, content.counts, content.leaks
    dataset.problems = list(content.remarks)


def refuse(session: Session, claim: Claim, dataset_id: uuid.UUID, problems: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a data set with everything that is wrong with it, and ends the work item."""
    claims.finish(session, claim, note="refused")
    refuse_lost(session, dataset_id, problems)


def refuse_lost(session: Session, dataset_id: uuid.UUID, problems: Sequence[Mapping[str, Any]]) -> None:
    """As `refuse`, for an item that is dead already."""
    dataset = session.get(TrainingDataset, dataset_id, with_for_update=True, populate_existing=True)
    if dataset is None or dataset.state != DatasetState.REGISTERING:
        return
    dataset.state = check(DatasetState(dataset.state), DatasetState.REFUSED)
    dataset.problems = [dict(problem) for problem in problems]
    dataset.counts = {}
    session.execute(delete(DatasetSample).where(DatasetSample.dataset_id == dataset_id))


def _item(session: Session, dataset_id: uuid.UUID, settings: Settings) -> WorkItem:
    item = WorkItem(
        task=TASK_REGISTER_DATASET,
        queue=QUEUE_REGISTRY,
        arguments={"dataset_id": str(dataset_id)},
        max_attempts=settings.max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    return item


def _name(user: User | None) -> str:
    return (user.display_name or user.username) if user else ""
