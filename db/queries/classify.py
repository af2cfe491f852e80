"""What a classify worker reads before it works, and writes when it has worked.

Owns the one transaction in which a chunk's predictions, heatmaps and slice states become visible, together with the
end of the work item and, when it was the last, of the job. Refuses to write without a live claim.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from db.clock import database_now
from db.jobs import Job, JobSlice, ReceivedFile
from db.predictions import Heatmap, Prediction, Reproduction
from db.queries import claims, settle, shown, standings
from db.queries.claims import Claim
from db.states import JobState, SliceState, check
from db.studies import Instance
from db.upserts import insert_missing


@dataclass(frozen=True)
class SliceToDo:
    """One slice of a chunk: which frame of which blob."""

    slice_id: uuid.UUID
    instance_id: uuid.UUID
    content_sha256: str
    frame_index: int


@dataclass(frozen=True)
class Chunk:
    """What one classify item covers.

    Attributes:
        checkpoint_id: The checkpoint that the job pinned.
        to_do: Slices without a result, in order.
        done: Slices whose result exists already (another job wrote it, or a message came twice).
    """

    job_id: uuid.UUID
    checkpoint_id: uuid.UUID
    to_do: tuple[SliceToDo, ...]
    done: tuple[uuid.UUID, ...]


@dataclass(frozen=True)
class SliceResult:
    """What the network said of one slice; the fields are those of `db.predictions`."""

    slice_id: uuid.UUID
    instance_id: uuid.UUID
    class_name: str
    probability: float
    probabilities: dict[str, float]
    scores: list[float]
    input_sha256: str
    abstention: str
    guard: dict[str, float]
    heatmap_png: bytes | None
    box: tuple[float, float, float, float]
    head_share: float
    heatmap_warning: str


@dataclass(frozen=True)
class SliceFailure:
    """Why one slice has no result.

    Attributes:
        code: A value of `imaging.outcomes.Reason`, or one of the worker's own codes.
        detail: Facts for its sentence.
        outcome: The `imaging.outcomes.Outcome` the file counts as from now on; empty when the file is not to blame.
    """

    slice_id: uuid.UUID
    instance_id: uuid.UUID
    code: str
    detail: dict[str, Any]
    outcome: str = ""


def load_chunk(session: Session, claim: Claim) -> Chunk:
    """What a claimed classify item covers.

    Raises:
        ValueError: When the job has no checkpoint, which intake never leaves so.
    """
    job = session.get_one(Job, claim.job_id)
    if job.checkpoint_id is None:
        raise ValueError(f"job {job.id} is being classified without a pinned checkpoint; expected intake to pin one")
    rows = session.execute(
        select(
            JobSlice.id,
            JobSlice.instance_id,
            Instance.content_sha256,
            Instance.frame_index,
            Prediction.id.label("known"),
        )
        .join(Instance, Instance.id == JobSlice.instance_id)
        .outerjoin(
            Prediction,
            and_(Prediction.instance_id == JobSlice.instance_id, Prediction.checkpoint_id == job.checkpoint_id),
        )
        .where(JobSlice.work_item_id == claim.item_id, JobSlice.state == SliceState.PENDING)
        .order_by(Instance.series_id, Instance.sort_key, JobSlice.id)
    ).all()
    return Chunk(
        job.id,
        job.checkpoint_id,
        tuple(SliceToDo(*row[:4]) for row in rows if row.known is None),
        tuple(row.id for row in rows if row.known is not None),
    )


def record(
    session: Session,
    claim: Claim,
    chunk: Chunk,
    results: Sequence[SliceResult],
    failures: Sequence[SliceFailure],
    *,
    engine: str,
    code_version: str,
) -> JobState | None:
    """Writes a chunk's results, finishes its item and, when nothing of the job is pending, the job.

    Args:
        session: In a write transaction; all of this becomes visible at once or not at all.
        claim: The claim; it is fenced first.
        chunk: What the claim covers.
        results: Of the slices that worked.
        failures: Of the slices that did not.
        engine: Name of the engine and what it ran on.
        code_version: Of the code that ran.

    Returns:
        The state the job ended in now, or None.

    Raises:
        LeaseLost: When the claim does not hold any more; nothing was written.
    """
    claims.finish(session, claim)
    new = _insert_predictions(session, chunk, results, engine, code_version)
    if chunk.done or new < len(results):
        covered = select(JobSlice.instance_id).where(JobSlice.work_item_id == claim.item_id)
        shown.adopt(session, chunk.job_id, chunk.checkpoint_id, session.scalars(covered).all())
    now = database_now(session)
    done = [*chunk.done, *(result.slice_id for result in results)]
    if done:
        session.execute(
            update(JobSlice)
            .where(JobSlice.id.in_(done), JobSlice.state == SliceState.PENDING)
            .values(state=check(SliceState.PENDING, SliceState.DONE), finished_at=now)
            .execution_options(synchronize_session=False)
        )
    for failure in failures:
        session.execute(
            update(JobSlice)
            .where(JobSlice.id == failure.slice_id, JobSlice.state == SliceState.PENDING)
            .values(
                state=check(SliceState.PENDING, SliceState.FAILED),
                failure_code=failure.code,
                failure_detail=failure.detail,
                finished_at=now,
            )
            .execution_options(synchronize_session=False)
        )
        if failure.outcome:
            # Decoding found what the header did not tell: the receipt of a single picture says so from now on.
            session.execute(
                update(ReceivedFile)
                .where(
                    ReceivedFile.job_id == chunk.job_id,
                    ReceivedFile.instance_id == failure.instance_id,
                    ReceivedFile.slices == 1,
                )
                .values(outcome=failure.outcome, reason=failure.code, detail=failure.detail)
                .execution_options(synchronize_session=False)
            )
    ended = settle.settle(session, chunk.job_id)
    standings.changed_with_item(session, claim.item_id)
    return ended


def _insert_predictions(
    session: Session, chunk: Chunk, results: Sequence[SliceResult], engine: str, code_version: str
) -> int:
    """Writes what is new; returns how many that were."""
    # Sorted, so that two workers that write the same instances (of two jobs) wait for each other in the same order.
    ordered = sorted(results, key=lambda result: result.instance_id)
    if not ordered:
        return 0
    ids = {result.instance_id: uuid.uuid4() for result in ordered}
    insert_missing(
        session,
        Prediction,
        [
            {
                "id": ids[result.instance_id],
                "instance_id": result.instance_id,
                "checkpoint_id": chunk.checkpoint_id,
                "job_id": chunk.job_id,
                "class_name": result.class_name,
                "probability": result.probability,
                "probabilities": result.probabilities,
                "scores": result.scores,
                "input_sha256": result.input_sha256,
                "abstention": result.abstention,
                "guard": result.guard,
                "head_share": result.head_share,
                "heatmap_warning": result.heatmap_warning,
                "engine": engine[:64],
                "code_version": code_version[:64],
            }
            for result in ordered
        ],
    )
    ours = set(session.scalars(select(Prediction.id).where(Prediction.id.in_(list(ids.values())))))
    insert_missing(
        session,
        Heatmap,
        [
            {
                "prediction_id": ids[result.instance_id],
                "png": result.heatmap_png,
                "box_x0": result.box[0],
                "box_y0": result.box[1],
                "box_x1": result.box[2],
                "box_y1": result.box[3],
            }
            for result in ordered
            if ids[result.instance_id] in ours and result.heatmap_png is not None
        ],
    )
    return len(ours)


@dataclass(frozen=True)
class ReproductionToDo:
    """A prediction to be computed again, and what it was."""

    reproduction_id: uuid.UUID
    checkpoint_id: uuid.UUID
    content_sha256: str
    frame_index: int
    class_name: str
    probabilities: dict[str, float]
    scores: list[float]
    heatmap_png: bytes | None


def load_reproduction(session: Session, reproduction_id: uuid.UUID) -> ReproductionToDo | None:
    """What has to be computed again; None when the request or the prediction is gone."""
    row = session.execute(
        select(Reproduction.id, Prediction, Instance.content_sha256, Instance.frame_index, Heatmap.png)
        .join(Prediction, Prediction.id == Reproduction.prediction_id)
        .join(Instance, Instance.id == Prediction.instance_id)
        .outerjoin(Heatmap, Heatmap.prediction_id == Prediction.id)
        .where(Reproduction.id == reproduction_id)
    ).one_or_none()
    if row is None:
        return None
    prediction = row.Prediction
    return ReproductionToDo(
        row.id,
        prediction.checkpoint_id,
        row.content_sha256,
        row.frame_index,
        prediction.class_name,
        prediction.probabilities,
        prediction.scores,
        row.png,
    )


def record_reproduction(
    session: Session,
    claim: Claim,
    reproduction_id: uuid.UUID,
    *,
    state: str,
    largest_difference: float | None,
    detail: dict[str, Any],
) -> None:
    """Writes how far a repeated prediction agreed and finishes its item. Raises LeaseLost when the fence is gone."""
    claims.finish(session, claim)
    set_reproduction(session, reproduction_id, state=state, largest_difference=largest_difference, detail=detail)


def set_reproduction(
    session: Session,
    reproduction_id: uuid.UUID,
    *,
    state: str,
    largest_difference: float | None,
    detail: dict[str, Any],
) -> None:
    """Writes how a reproduction ended."""
    session.execute(
        update(Reproduction)
        .where(Reproduction.id == reproduction_id)
        .values(state=state, largest_difference=largest_difference, detail=detail)
        .execution_options(synchronize_session=False)
    )


def reproduction_of(claim: Claim) -> uuid.UUID:
    """The reproduction that a reproduce item is about.

    Raises:
        ValueError: When its arguments do not name one.
    """
    try:
        return uuid.UUID(str(claim.arguments["reproduction_id"]))
    except (KeyError, ValueError):
        raise ValueError(
            f"work item {claim.item_id} has the arguments {sorted(claim.arguments)}; expected a reproduction_id"
        ) from None
