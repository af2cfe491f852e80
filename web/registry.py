"""What people do with checkpoints, for the pages and the API alike: promote, roll back, withdraw, run again.

Owns the order of each action: the artefact's bytes are verified first, then rows and audit row in one transaction,
then the doorbell. Every refusal is a `RegistryRefused`, which `web.problems` answers.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime

from flask import Response
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.artefacts import ArtefactAltered, ArtefactMissing, check_artefact
from db.checkpoints import Checkpoint
from db.datasets import TrainingDataset
from db.jobs import WorkItem
from db.queries import audit, comparisons, promotions, reruns, withdrawals
from db.queries.refusals import RegistryRefused
from db.queries.reruns import Rerun
from db.queries.results import csv_line
from db.states import DatasetState, ItemState, Priority
from db.studies import Study
from db.sweeps import TrainingRun
from web.access import actor, the_user
from web.objects import find_study, note
from web.problems import Problem
from web.services import services

MAX_SHADOW_STUDIES = 500
RINGS = 8
"""One message makes a worker do several items; so many wake everybody."""


def find_checkpoint(session: Session, checkpoint_id: uuid.UUID) -> Checkpoint:
    """A registered checkpoint. Raises Problem 404 otherwise."""
    found = session.get(Checkpoint, checkpoint_id)
    if found is None:
        raise Problem(404, "not_found", "There is no model of this number.")
    return found


def find_run(session: Session, run_id: uuid.UUID) -> TrainingRun:
    """A run. Raises Problem 404 otherwise."""
    found = session.get(TrainingRun, run_id)
    if found is None:
        raise Problem(404, "not_found", "There is no run of this number.")
    return found


def ready_datasets(session: Session) -> list[TrainingDataset]:
    """Data sets on which models can be compared."""
    return list(
        session.scalars(
            select(TrainingDataset).where(TrainingDataset.state == DatasetState.READY).order_by(TrainingDataset.name)
        )
    )


def verify(checkpoint: Checkpoint) -> int:
    """Reads the whole artefact of a checkpoint and compares its digest; returns its size in bytes.

    Raises:
        RegistryRefused: `artefact_missing` or `artefact_altered`; what serves goes on serving.
    """
    parts = services()
    try:
        return check_artefact(checkpoint.location, checkpoint.digest, parts.settings.models_dir, parts.blobs)
    except ArtefactMissing:
        raise RegistryRefused(
            "artefact_missing",
            "The file of this model (SHA-256 %(digest)s) is not in the store any more. Nothing was changed; the model "
            "that serves goes on serving. Import the same file again, or restore it from a backup.",
            {"digest": checkpoint.digest},
        ) from None
    except ArtefactAltered:
        raise RegistryRefused(
            "artefact_altered",
            "The file of this model is not the one that was registered: its SHA-256 is not %(digest)s. Nothing was "
            "changed; the model that serves goes on serving. Restore the file from a backup, or delete it from the "
            "store and import it again.",
            {"digest": checkpoint.digest},
        ) from None


def promote(checkpoint_id: uuid.UUID, *, reason: str, seen: uuid.UUID | None, accept_classes: bool) -> Checkpoint:
    """Promotes a checkpoint; new jobs use it from now on."""
    database = services().database
    with database.read() as db:
        checkpoint = find_checkpoint(db, checkpoint_id)
    size = verify(checkpoint)
    with database.write() as db:
        row = promotions.promote(
            db, checkpoint_id, by=the_user().id, reason=reason, seen=seen, accept_classes=accept_classes
        )
        detail = {"digest": checkpoint.digest, "reason": row.reason, "bytes_verified": size, **row.choices}
        _audit(db, "checkpoint.promote", checkpoint_id, detail)
    return checkpoint


def roll_back(*, reason: str, seen: uuid.UUID | None) -> Checkpoint:
    """Promotes what served before and withdraws what serves; returns what serves now."""
    database = services().database
    with database.read() as db:
        target = promotions.before_serving(db)
        newest = promotions.newest_promotion(db)
    if target is not None:
        verify(target)
    with database.write() as db:
        promotions.roll_back(db, to=target.id if target else None, by=the_user().id, reason=reason, seen=seen)
        assert target is not None  # noqa: S101 - refused above, for the type checker
        assert newest is not None  # noqa: S101 - as above
        _audit(db, "checkpoint.rollback", target.id, {"digest": target.digest, "reason": reason[:500]})
        _audit(db, "checkpoint.withdraw", newest.checkpoint_id, {"reason": reason[:500]})
    return target


def withdraw(checkpoint_id: uuid.UUID, *, reason: str) -> None:
    """Marks every result of a checkpoint that does not serve."""
    with services().database.write() as db:
        row = promotions.withdraw(db, checkpoint_id, by=the_user().id, reason=reason)
        _audit(db, "checkpoint.withdraw", checkpoint_id, {"reason": row.reason})


def lift(checkpoint_id: uuid.UUID) -> None:
    """Removes the mark again."""
    with services().database.write() as db:
        withdrawals.lift(db, find_checkpoint(db, checkpoint_id), by=the_user().id)
        _audit(db, "checkpoint.lift", checkpoint_id, {})


def run_again(checkpoint_id: uuid.UUID, *, priority: Priority) -> list[Rerun]:
    """Every study with results of a checkpoint, under the serving one."""
    with services().database.read() as db:
        name = find_checkpoint(db, checkpoint_id).name
    which = reruns.studies_with_results_of(checkpoint_id)
    return _reclassify(which, f"Recall of {name}", priority, "checkpoint.rerun", "checkpoint", checkpoint_id)


def reclassify_study(study_id: uuid.UUID, *, priority: Priority) -> list[Rerun]:
    """One study under the serving checkpoint."""
    with services().database.read() as db:
        study = find_study(db, study_id)
    title = study.title or study.description or str(study_id)
    return _reclassify(Study.id == study_id, title, priority, "study.reclassify", "study", study_id)


def reclassify_period(since: datetime, until: datetime, *, priority: Priority) -> list[Rerun]:
    """Every study received in [since, until) under the serving checkpoint."""
    if since >= until:
        raise RegistryRefused("period_empty", "The period ends before it begins; give a later end.", status=422)
    title = f"Studies received from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
    which = reruns.studies_received_between(since, until)
    return _reclassify(which, title, priority, "studies.reclassify", "", "")


def affected_csv(checkpoint_id: uuid.UUID) -> Response:
    """Every result of a checkpoint as CSV; the export is in the audit trail before the first line goes out."""
    with services().database.read() as db:
        find_checkpoint(db, checkpoint_id)
    note("checkpoint", "checkpoint.export", checkpoint_id)
    with services().database.read() as db:
        newest = promotions.newest_promotion(db)
        rows = list(withdrawals.affected_rows(db, checkpoint_id, newest.checkpoint_id if newest else None))
    columns = withdrawals.CSV_COLUMNS
    lines = (csv_line([row[name] for name in columns]) for row in rows)
    response = Response(iter([csv_line(columns), *lines]), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="results-of-{checkpoint_id}.csv"'
    return response


def compare(checkpoint_id: uuid.UUID, *, dataset_id: uuid.UUID | None) -> uuid.UUID:
    """Asks for a comparison of a candidate with the serving checkpoint; returns its id."""
    parts = services()
    with parts.database.write() as db:
        row, item = comparisons.request(
            db,
            find_checkpoint(db, checkpoint_id),
            dataset_id=dataset_id,
            by=the_user().id,
            max_attempts=parts.settings.max_attempts,
        )
        _audit(db, "checkpoint.compare", checkpoint_id, {"comparison_id": str(row.id)})
    ring([item.id])
    return row.id


def start_shadow(checkpoint_id: uuid.UUID, *, studies: int) -> uuid.UUID:
    """Runs a candidate on the newest studies, its results kept apart; returns the job's id."""
    if not 1 <= studies <= MAX_SHADOW_STUDIES:
        raise RegistryRefused(
            "studies_out_of_range",
            "Received %(received)s studies; a shadow run covers 1 to %(limit)s.",
            {"received": studies, "limit": MAX_SHADOW_STUDIES},
            status=422,
        )
    parts = services()
    with parts.database.write() as db:
        candidate = find_checkpoint(db, checkpoint_id)
        run = reruns.shadow(
            db, candidate, studies, parts.settings, by=the_user().id, title=f"Shadow run of {candidate.name}"
        )
        _audit(db, "checkpoint.shadow", checkpoint_id, {"job_id": str(run.job_id), "studies": run.studies})
    ring_job(run.job_id)
    return run.job_id


def ring(item_ids: list[uuid.UUID]) -> None:
    """Wakes workers for committed items."""
    parts = services()
    parts.doorbell.ring_committed(parts.database, item_ids[:RINGS])


def ring_job(job_id: uuid.UUID) -> None:
    """Wakes workers for a committed job."""
    with services().database.read() as db:
        items = db.scalars(
            select(WorkItem.id)
            .where(WorkItem.job_id == job_id, WorkItem.state == ItemState.PENDING)
            .order_by(WorkItem.sequence)
            .limit(RINGS)
        ).all()
    ring(list(items))


def _reclassify(
    which: ColumnElement[bool], title: str, priority: Priority, action: str, kind: str, object_id: object
) -> list[Rerun]:
    """As many jobs as it takes, each in a transaction of its own, so that nobody waits long for the database."""
    parts = services()
    made: list[Rerun] = []
    while not made or made[-1].more:
        with parts.database.write() as db:
            done = reruns.reclassify(db, which, parts.settings, by=the_user().id, title=title, priority=priority)
            if done is None:
                break
            detail = {"job_id": str(done.job_id), "slices": done.slices, "studies": done.studies}
            _audit(db, action, object_id, detail, kind)
        made.append(done)
        ring_job(done.job_id)
    if not made:
        raise RegistryRefused(
            "nothing_to_rerun",
            "Every slice of these studies has its result of the serving model already, or waits for it. Nothing was "
            "started.",
        )
    return made


def _audit(db: Session, action: str, object_id: object, detail: Mapping[str, object], kind: str = "checkpoint") -> None:
    audit.record(db, actor(), action, object_kind=kind, object_id=object_id, detail=detail)
