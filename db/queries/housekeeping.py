"""What is put right behind everybody's back: lost work, expired uploads, old traces.

Owns the settlement of items that ended without a result, so that a job never waits for what nobody will do. Refuses
to speak to the broker: the dispatcher does, with what these queries return.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from config.queues import (
    TASK_CLASSIFY,
    TASK_COMPARE,
    TASK_IMPORT,
    TASK_INTAKE,
    TASK_PLAN_SWEEP,
    TASK_REGISTER_DATASET,
    TASK_REPRODUCE,
    TASK_RETRIEVE,
    TASK_SEND,
    TASK_TRAIN,
)
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.clock import database_now
from db.datasets import DatasetSample
from db.jobs import Job, JobSlice, WorkItem
from db.queries import audit, claims, classify, comparisons, datasets, imports, retrievals, sendings, settle, training
from db.queries.claims import Claim
from db.receptions import Reception
from db.registry import CheckpointImport
from db.states import ItemState, JobState, RequestState, SliceState, UploadState, check
from db.studies import Instance
from db.sweeps import Sweep, TrainingRun
from db.uploads import Upload, UploadFile
from db.users import LoginFailure

DIVIDE_AFTER = 2
"""A chunk that was lost so often is divided into single slices, a group of training runs into single runs."""


@dataclass(frozen=True)
class Settled:
    """What one pass over lost work did, for the log."""

    returned: int
    divided: int
    dead: int


def settle_lost(session: Session, settings: Settings) -> Settled:
    """Takes back items whose worker is gone, and settles what dead ones covered; one transaction."""
    reaped = claims.reap(session, divide_after=DIVIDE_AFTER)
    for item in reaped.returned:
        training.hand_back(session, item.id)
    for item in reaped.divided:
        _divide(session, item, settings)
    for item in reaped.dead:
        settle_dead(session, item, "worker_lost", {"attempts": item.attempts})
    for item in reaped.divided:  # its slices may all have had their result already
        settle.settle(session, item.job_id)
    return Settled(len(reaped.returned), len(reaped.divided), len(reaped.dead))


def attempts_each(max_attempts: int) -> int:
    """Attempts of a part on its own, after the whole was lost twice: together not more than `max_attempts`."""
    return max(1, max_attempts - DIVIDE_AFTER)


def divide_claimed(session: Session, claim: Claim, settings: Settings) -> None:
    """Ends a claimed item that failed repeatedly and makes an item of each of its parts. Raises LeaseLost."""
    claims.finish(session, claim, note="divided")
    item = session.get_one(WorkItem, claim.item_id, populate_existing=True)
    _divide(session, item, settings)
    settle.settle(session, item.job_id)


def _divide(session: Session, item: WorkItem, settings: Settings) -> None:
    if item.task == TASK_TRAIN:
        training.divide(session, item, attempts_each=attempts_each(settings.training_max_attempts))
    else:
        settle.divide(session, item, attempts_each=attempts_each(settings.max_attempts))


def put_back(
    session: Session, claim: Claim, *, delay_s: float, error_code: str, error_detail: dict[str, Any], counts: bool
) -> None:
    """Gives a claimed item back to be tried again (see `claims.release`). Raises LeaseLost when the fence is gone."""
    claims.release(session, claim, delay_s=delay_s, error_code=error_code, error_detail=error_detail, counts=counts)
    training.hand_back(session, claim.item_id)


def give_up(session: Session, claim: Claim, code: str, detail: dict[str, Any]) -> None:
    """Buries a claimed item and settles what it covered. Raises LeaseLost when the fence is gone."""
    claims.bury(session, claim, error_code=code, error_detail=detail)
    item = session.get_one(WorkItem, claim.item_id, populate_existing=True)
    settle_dead(session, item, code, detail)


def settle_dead(session: Session, item: WorkItem, code: str, detail: dict[str, Any]) -> None:
    """What a dead item covered ends as failed, with the reason; the job ends when nothing else is pending."""
    if item.task == TASK_CLASSIFY:
        settle.fail_slices(session, item.id, code, detail)
        settle.settle(session, item.job_id)
    elif item.task == TASK_INTAKE and item.job_id is not None:
        settle.fail_job(session, item.job_id, code, detail)
    elif item.task == TASK_TRAIN:
        training.fail_group(session, item, code, detail)
    elif item.task == TASK_PLAN_SWEEP:
        training.fail_plan(session, item, code)
    elif item.task == TASK_REGISTER_DATASET:
        dataset_id = uuid.UUID(str(item.arguments["dataset_id"]))
        datasets.refuse_lost(session, dataset_id, [{"code": code, "detail": {}}])
    elif item.task == TASK_COMPARE:
        comparisons.failed(session, uuid.UUID(str(item.arguments["comparison_id"])), code, detail)
    elif item.task == TASK_IMPORT:
        imports.import_failed(session, uuid.UUID(str(item.arguments["import_id"])), code, detail)
    elif item.task == TASK_RETRIEVE:
        retrievals.given_up(session, item, code)
    elif item.task == TASK_SEND:
        sendings.given_up(session, item, code)
    elif item.task == TASK_REPRODUCE:
        reproduction_id = item.arguments.get("reproduction_id")
        if reproduction_id:
            classify.set_reproduction(
                session,
                uuid.UUID(str(reproduction_id)),
                state="failed",
                largest_difference=None,
                detail={"code": code},
            )


def settle_stragglers(session: Session, limit: int = 50) -> int:
    """Ends jobs that are being classified although nothing of them is pending; returns how many.

    No ordinary way leads there; an operator's hand in the database, or a restored backup, may.
    """
    pending = select(JobSlice.id).where(JobSlice.job_id == Job.id, JobSlice.state == SliceState.PENDING)
    job_ids = session.scalars(
        select(Job.id).where(Job.state == JobState.CLASSIFYING, ~pending.exists()).limit(limit)
    ).all()
    return sum(settle.settle(session, job_id) is not None for job_id in job_ids)


def expire_uploads(session: Session, limit: int = 100) -> list[str]:
    """Abandons uploads that were never completed and forgets their files.

    Returns:
        Digests that these files had, for the caller to see which blobs nobody names any more.
    """
    upload_ids = session.scalars(
        select(Upload.id)
        .where(
            Upload.state == UploadState.RECEIVING,
            Upload.expires_at < database_now(session),
            # What a listener acknowledged becomes a job, however late.
            ~select(Reception.id).where(Reception.upload_id == Upload.id).exists(),
        )
        .order_by(Upload.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not upload_ids:
        return []
    digests = session.scalars(select(UploadFile.sha256).where(UploadFile.upload_id.in_(upload_ids)).distinct()).all()
    session.execute(delete(UploadFile).where(UploadFile.upload_id.in_(upload_ids)))
    session.execute(
        update(Upload)
        .where(Upload.id.in_(upload_ids))
        .values(state=check(UploadState.RECEIVING, UploadState.ABANDONED), title="")
        .execution_options(synchronize_session=False)
    )
    return list(digests)


def unnamed(session: Session, digests: Sequence[str]) -> list[str]:
    """Those digests that no upload, slice, checkpoint, data set or training run names."""
    named: set[str] = set()
    for start in range(0, len(digests), 500):
        some = list(digests[start : start + 500])
        named.update(session.scalars(select(UploadFile.sha256).where(UploadFile.sha256.in_(some))))
        named.update(session.scalars(select(Instance.content_sha256).where(Instance.content_sha256.in_(some))))
        waiting = (CheckpointImport.sha256.in_(some), CheckpointImport.state == RequestState.PENDING)
        named.update(session.scalars(select(CheckpointImport.sha256).where(*waiting)))
        named.update(session.scalars(select(DatasetSample.sha256).where(DatasetSample.sha256.in_(some))))
        named.update(session.scalars(select(TrainingRun.weights_sha256).where(TrainingRun.weights_sha256.in_(some))))
        locations = [f"blob:{digest}" for digest in some]
        found = session.scalars(select(Checkpoint.location).where(Checkpoint.location.in_(locations)))
        named.update(location.removeprefix("blob:") for location in found)
    return [digest for digest in digests if digest not in named]


def forgettable_sweeps(session: Session, sweep_ids: Sequence[uuid.UUID], older_than_s: float) -> list[uuid.UUID]:
    """Those of the sweeps that ended so long ago, or that do not exist: nobody needs their files any more."""
    some = list(sweep_ids)
    kept = session.scalars(
        select(Sweep.id).where(
            Sweep.id.in_(some),
            or_(
                Sweep.finished_at.is_(None),
                Sweep.finished_at > database_now(session) - timedelta(seconds=older_than_s),
            ),
        )
    ).all()
    return [sweep_id for sweep_id in some if sweep_id not in kept]


def forget_login_failures(session: Session, older_than_s: float) -> int:
    """Removes failed logins too old to matter for throttling; returns how many."""
    old = session.scalars(
        select(LoginFailure.id)
        .where(LoginFailure.failed_at < database_now(session) - timedelta(seconds=older_than_s))
        .limit(5000)
    ).all()
    if old:
        session.execute(delete(LoginFailure).where(LoginFailure.id.in_(old)))
    return len(old)


def forget_finished_items(session: Session, older_than_s: float, limit: int = 2000) -> int:
    """Removes rows of work long done; failed ones stay to be looked at. Returns how many."""
    old = session.scalars(
        select(WorkItem.id)
        .where(
            WorkItem.state.in_((ItemState.DONE, ItemState.CANCELLED)),
            WorkItem.finished_at < database_now(session) - timedelta(seconds=older_than_s),
        )
        .limit(limit)
    ).all()
    for start in range(0, len(old), 500):
        session.execute(delete(WorkItem).where(WorkItem.id.in_(old[start : start + 500])))
    return len(old)


def note_fenced(session: Session, claim: Claim, why: str) -> None:
    """An audit line: a worker came too late and was kept from writing."""
    audit.record(
        session,
        audit.SYSTEM,
        "fenced",
        object_kind="work_item",
        object_id=claim.item_id,
        outcome=audit.DENIED,
        detail={"worker": claim.worker_name, "job_id": str(claim.job_id), "attempt": claim.attempt, "why": why},
    )
