"""Artefacts out of runs and out of files: what is asked of the registry worker, and what became of it.

Owns the requests (an import row, or a work item that names a run) and their ends; a request that was made is not made
twice while it waits. Refuses to judge a file: the worker loads it, and says in a code with facts why it cannot.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from config.queues import QUEUE_REGISTRY, TASK_EXPORT_RUN, TASK_IMPORT
from db.checkpoints import Checkpoint
from db.jobs import WorkItem
from db.queries import checkpoints, claims, requests
from db.queries.checkpoints import CheckpointFacts
from db.queries.claims import Claim
from db.queries.refusals import RegistryRefused
from db.registry import CheckpointImport
from db.states import ITEM_OPEN, ItemState, Priority, RequestState, RunState
from db.sweeps import RunReport, Sweep, TrainingRun
from db.users import User

ARTEFACT: Final = "artefact"
WEIGHTS: Final = "weights"


@dataclass(frozen=True)
class RunToExport:
    """A finished run of which an artefact is wanted."""

    run_id: uuid.UUID
    name: str
    sweep_name: str
    dataset_id: uuid.UUID
    scenario: Mapping[str, Any]
    report: Mapping[str, Any]
    weights_sha256: str


def request_import(
    session: Session,
    *,
    kind: str,
    file_name: str,
    sha256: str,
    parameters: Mapping[str, Any],
    by: uuid.UUID | None,
    max_attempts: int,
) -> tuple[CheckpointImport, WorkItem]:
    """Asks that a file in the blob store become a checkpoint.

    Args:
        session: In a write transaction.
        kind: `artefact` or `weights`.
        file_name: As sent, cleaned for display.
        sha256: Its blob.
        parameters: Of weights: what the user stated.
        by: The user.
        max_attempts: Of the work item.
    """
    row = CheckpointImport(
        requested_by_id=by, kind=kind, file_name=file_name[:200], sha256=sha256, parameters=dict(parameters)
    )
    session.add(row)
    session.flush()
    item = registry_item(session, TASK_IMPORT, {"import_id": str(row.id)}, max_attempts)
    return row, item


def registry_item(session: Session, task: str, arguments: Mapping[str, str], max_attempts: int) -> WorkItem:
    """A work item for the registry worker."""
    item = WorkItem(
        task=task,
        queue=QUEUE_REGISTRY,
        priority_rank=Priority.NORMAL.rank,
        arguments=dict(arguments),
        max_attempts=max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    return item


def named(claim: Claim, name: str) -> uuid.UUID:
    """The row that a claimed item of the registry is about.

    Raises:
        ValueError: When its arguments do not name one.
    """
    try:
        return uuid.UUID(str(claim.arguments[name]))
    except (KeyError, ValueError):
        raise ValueError(f"work item {claim.item_id} names no {name}; expected one in its arguments") from None


def pending_import(session: Session, import_id: uuid.UUID) -> CheckpointImport | None:
    """The import that a claimed item is about; None when it is gone or settled."""
    row = session.get(CheckpointImport, import_id)
    return row if row is not None and row.state == RequestState.PENDING else None


def import_done(session: Session, claim: Claim, import_id: uuid.UUID, facts: CheckpointFacts) -> Checkpoint:
    """Registers what an import came to. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim)
    checkpoint = checkpoints.register(session, facts)
    row = session.get_one(CheckpointImport, import_id)
    row.checkpoint_id = checkpoint.id
    requests.done(session, row)
    return checkpoint


def import_refused(session: Session, claim: Claim, import_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """The file cannot become a checkpoint; why, stands in the row. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim, note="refused")
    import_failed(session, import_id, code, detail)


def import_failed(session: Session, import_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends an import without a checkpoint."""
    requests.failed(session, session.get(CheckpointImport, import_id), code, detail)


def newest_imports(session: Session, limit: int = 20) -> list[tuple[CheckpointImport, str, Checkpoint | None]]:
    """(import, who asked, the checkpoint it became), the newest first."""
    rows = session.execute(
        select(CheckpointImport, User.username, Checkpoint)
        .outerjoin(User, User.id == CheckpointImport.requested_by_id)
        .outerjoin(Checkpoint, Checkpoint.id == CheckpointImport.checkpoint_id)
        .order_by(CheckpointImport.created_at.desc())
        .limit(limit)
    )
    return [(row, username or "", checkpoint) for row, username, checkpoint in rows]


def request_export(session: Session, run_id: uuid.UUID, *, max_attempts: int) -> WorkItem:
    """Asks for an artefact of a finished run.

    Raises:
        RegistryRefused: `unknown_run`, `run_not_finished`, `exported_already` or `export_waits`.
    """
    run = session.get(TrainingRun, run_id, with_for_update=True)
    if run is None:
        raise RegistryRefused("unknown_run", "There is no run of this number.", status=404)
    if run.state != RunState.FINISHED or not run.weights_sha256:
        raise RegistryRefused(
            "run_not_finished", "Only a finished run can become a model; this one is %(state)s.", {"state": run.state}
        )
    if run.checkpoint_id is not None:
        raise RegistryRefused("exported_already", "This run is a model already; look for it in the list of models.")
    item = newest_export(session, run_id)
    if item is not None and item.state in ITEM_OPEN:
        raise RegistryRefused("export_waits", "A model is being made of this run; it takes a minute or two.")
    return registry_item(session, TASK_EXPORT_RUN, {"run_id": str(run_id)}, max_attempts)


def runs_without_model(session: Session, limit: int = 20) -> list[tuple[TrainingRun, Sweep, WorkItem | None]]:
    """(run, sweep, the newest request for a model of it) of finished runs, the newest first."""
    rows = session.execute(
        select(TrainingRun, Sweep)
        .join(Sweep, Sweep.id == TrainingRun.sweep_id)
        .where(
            TrainingRun.state == RunState.FINISHED,
            TrainingRun.checkpoint_id.is_(None),
            TrainingRun.weights_sha256 != "",
        )
        .order_by(TrainingRun.finished_at.desc())
        .limit(limit)
    )
    return [(run, sweep, newest_export(session, run.id)) for run, sweep in rows]


def newest_export(session: Session, run_id: uuid.UUID) -> WorkItem | None:
    """How the newest request for an artefact of a run stands; a dead item says why in `error_code`."""
    items = session.scalars(
        select(WorkItem).where(WorkItem.task == TASK_EXPORT_RUN).order_by(WorkItem.created_at.desc()).limit(500)
    )
    return next((item for item in items if item.arguments.get("run_id") == str(run_id)), None)


def run_to_export(session: Session, run_id: uuid.UUID) -> RunToExport | None:
    """What an artefact is made of; None when the run is gone, not finished, or exported already."""
    row = session.execute(
        select(TrainingRun, Sweep, RunReport.report)
        .join(Sweep, Sweep.id == TrainingRun.sweep_id)
        .join(RunReport, RunReport.run_id == TrainingRun.id)
        .where(TrainingRun.id == run_id, TrainingRun.checkpoint_id.is_(None), TrainingRun.weights_sha256 != "")
    ).one_or_none()
    if row is None:
        return None
    run, sweep, report = row
    return RunToExport(run.id, run.name, sweep.name, sweep.dataset_id, run.scenario, report, run.weights_sha256)


def export_done(session: Session, claim: Claim, run_id: uuid.UUID, facts: CheckpointFacts) -> Checkpoint:
    """Registers a run's artefact and links the run to it. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim)
    checkpoint = checkpoints.register(session, facts)
    run = session.get_one(TrainingRun, run_id)
    run.checkpoint_id = checkpoint.id
    session.flush()
    return checkpoint


def export_failed(session: Session, claim: Claim, code: str, detail: Mapping[str, Any]) -> None:
    """No repetition helps: ends the item with the reason, for the run's page. Raises LeaseLost."""
    claims.bury(session, claim, error_code=code, error_detail=dict(detail))


def settled_blobs(session: Session, *, since: datetime) -> list[str]:
    """Digests of files whose import has ended since then: what became no checkpoint is needed no more."""
    return list(
        session.scalars(
            select(CheckpointImport.sha256).where(
                CheckpointImport.state != RequestState.PENDING, CheckpointImport.finished_at >= since
            )
        )
    )


def run_of(session: Session, checkpoint_id: uuid.UUID) -> tuple[TrainingRun, Sweep] | None:
    """The run of which a checkpoint was made, if it was made here."""
    row = session.execute(
        select(TrainingRun, Sweep)
        .join(Sweep, Sweep.id == TrainingRun.sweep_id)
        .where(TrainingRun.checkpoint_id == checkpoint_id)
        .order_by(TrainingRun.finished_at)
        .limit(1)
    ).one_or_none()
    return (row[0], row[1]) if row else None
