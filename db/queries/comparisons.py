"""A candidate against the serving checkpoint on slices that were held back: asked for, loaded, and kept.

Owns which slices: the test part of the run that made the candidate; else that of the run that made the reference; else
the whole of a data set that the user names. Refuses to score: the worker does.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from config.queues import TASK_COMPARE
from db.checkpoints import Checkpoint
from db.datasets import TrainingDataset
from db.jobs import WorkItem
from db.queries import claims, requests
from db.queries.checkpoints import serving
from db.queries.claims import Claim
from db.queries.imports import registry_item, run_of
from db.queries.refusals import RegistryRefused
from db.registry import Comparison
from db.states import DatasetState, RequestState
from db.sweeps import RunReport


@dataclass(frozen=True)
class Slices:
    """On which slices two checkpoints would be compared.

    Attributes:
        run_name: The run whose test part it is; empty: the whole data set.
        files: Names in the data set; None: all.
        owner: `candidate` or `reference`: whose run it is; empty for a whole data set.
    """

    dataset_id: uuid.UUID
    dataset_name: str
    run_name: str
    files: tuple[str, ...] | None
    owner: str = ""


@dataclass(frozen=True)
class ComparisonToDo:
    """What the worker needs."""

    comparison_id: uuid.UUID
    candidate: Checkpoint
    reference: Checkpoint
    slices: Slices


def slices_for(
    session: Session, candidate: Checkpoint, reference: Checkpoint, dataset_id: uuid.UUID | None = None
) -> Slices | None:
    """The slices on which to compare; None when nothing is known and no data set is named."""
    sides = () if dataset_id else (("candidate", candidate), ("reference", reference))
    for owner, checkpoint in sides:
        made_by = run_of(session, checkpoint.id)
        if made_by is None:
            continue
        run, sweep = made_by
        report = session.scalar(select(RunReport.report).where(RunReport.run_id == run.id)) or {}
        files = tuple(str(item["file"]) for item in (report.get("slices") or {}).get("test") or ())
        dataset = session.get(TrainingDataset, sweep.dataset_id)
        if files and dataset is not None:
            return Slices(dataset.id, dataset.name, run.name, files, owner)
    dataset = session.get(TrainingDataset, dataset_id) if dataset_id else None
    if dataset is None or dataset.state != DatasetState.READY:
        return None
    return Slices(dataset.id, dataset.name, "", None)


def request(
    session: Session, candidate: Checkpoint, *, dataset_id: uuid.UUID | None, by: uuid.UUID | None, max_attempts: int
) -> tuple[Comparison, WorkItem]:
    """Asks for a comparison with the serving checkpoint.

    Raises:
        RegistryRefused: `no_serving`, `serving_already`, `no_test_part` or `comparison_waits`.
    """
    reference = serving(session)
    if reference is None:
        raise RegistryRefused("no_serving", "No model serves; promote one first.")
    if reference.id == candidate.id:
        raise RegistryRefused("serving_already", "This model serves already; nothing was changed.")
    found = slices_for(session, candidate, reference, dataset_id)
    if found is None:
        raise RegistryRefused(
            "no_test_part",
            "Neither model was trained here, so no slices are known that were held back. Name a registered data set.",
            status=422,
        )
    before = newest(session, candidate.id, reference.id)
    if before is not None and before.state == RequestState.PENDING:
        raise RegistryRefused("comparison_waits", "This comparison is under way; it takes a few minutes.")
    row = Comparison(
        candidate_id=candidate.id, reference_id=reference.id, dataset_id=found.dataset_id, requested_by_id=by
    )
    row.result = {"run": found.run_name, "dataset": found.dataset_name}
    session.add(row)
    session.flush()
    return row, registry_item(session, TASK_COMPARE, {"comparison_id": str(row.id)}, max_attempts)


def newest(session: Session, candidate_id: uuid.UUID, reference_id: uuid.UUID | None) -> Comparison | None:
    """The newest comparison of a candidate with another checkpoint."""
    return session.scalars(
        select(Comparison)
        .where(Comparison.candidate_id == candidate_id, Comparison.reference_id == reference_id)
        .order_by(Comparison.created_at.desc())
        .limit(1)
    ).one_or_none()


def to_do(session: Session, comparison_id: uuid.UUID) -> ComparisonToDo | None:
    """What a claimed item is about; None when it is gone or settled."""
    row = session.get(Comparison, comparison_id)
    if row is None or row.state != RequestState.PENDING or row.dataset_id is None:
        return None
    candidate = session.get_one(Checkpoint, row.candidate_id)
    reference = session.get_one(Checkpoint, row.reference_id)
    whole = not row.result.get("run")
    found = slices_for(session, candidate, reference, row.dataset_id if whole else None)
    return ComparisonToDo(row.id, candidate, reference, found) if found else None


def done(session: Session, claim: Claim, comparison_id: uuid.UUID, result: Mapping[str, Any]) -> None:
    """Keeps what a comparison gave. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim)
    row = session.get_one(Comparison, comparison_id)
    row.result = dict(result)
    requests.done(session, row)


def failed(session: Session, comparison_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a comparison without a result."""
    requests.failed(session, session.get(Comparison, comparison_id), code, detail)
