"""Classifies one chunk: blobs in, predictions and heatmaps out.

Owns the way of a chunk: read what it covers (and close the session), decode and prepare in threads while the engine
runs, then write everything in one fenced transaction. A slice that cannot be decoded fails alone, with its reason.

Refuses to hold a database session while the engine runs, and to write part of a chunk.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from config.version import code_version
from db.blobs import BlobMissing
from db.queries import classify as rows
from db.queries.claims import Claim
from db.queries.classify import Chunk, SliceFailure, SliceResult, SliceToDo
from db.states import JobState
from imaging import heatmaps
from imaging.frames import Pixels
from imaging.outcomes import Reason, RejectedFile
from worker.context import Context
from worker.lease import Lease
from worker.predictors import describe
from worker.writer import LastStep

BLOB_MISSING = "blob_missing"
PIXELS_UNUSABLE = "pixels_unusable"

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> LastStep:
    """Does a claimed classify item.

    Returns:
        What is left to do: writing its results.

    Raises:
        LeaseLost: Somebody else has it, or the job was cancelled; nothing was written.
        Exception: Whatever `worker.work` is to judge; nothing was written.
    """
    started = time.monotonic()
    with context.database.read() as session:
        chunk = rows.load_chunk(session, claim)
    with context.predictors.use(chunk.checkpoint_id) as predictor:
        missing: set[str] = set()
        results, failures = [], []
        for todo, outcome in predictor.predict_each(
            _while_held(chunk, lease), lambda to_do: read_slices(context, to_do, missing)
        ):
            lease.check()
            if isinstance(outcome, Exception):
                failures.append(_failure(todo, outcome, missing))
            else:
                results.append(
                    SliceResult(
                        slice_id=todo.slice_id,
                        instance_id=todo.instance_id,
                        class_name=outcome.class_name,
                        probability=outcome.probability,
                        probabilities=dict(outcome.probabilities),
                        scores=list(outcome.scores),
                        input_sha256=todo.content_sha256,
                        abstention=outcome.abstention or "",
                        guard=dict(outcome.judgement.measures),
                        # Where the model does not answer there is nothing to explain.
                        heatmap_png=None if outcome.abstention else heatmaps.encode(outcome.heatmap),
                        box=(
                            float(outcome.box.x0),
                            float(outcome.box.y0),
                            float(outcome.box.x1),
                            float(outcome.box.y1),
                        ),
                        head_share=outcome.attention.head_share,
                        heatmap_warning=outcome.attention.warning or "",
                    )
                )
            lease.progress = len(results) + len(failures)
        engine = describe(predictor)

    def record(session: Session) -> JobState | None:
        return rows.record(session, claim, chunk, results, failures, engine=engine, code_version=code_version())

    seconds = time.monotonic() - started

    def finish() -> None:
        ended = context.write(lease, record)
        if chunk.to_do:
            context.pace.add(len(chunk.to_do), seconds)
        log.info(
            "chunk_done",
            results=len(results),
            failures=len(failures),
            known_before=len(chunk.done),
            seconds=round(seconds, 3),
            job_ended=ended.value if ended else None,
        )

    return finish


def read_slices(context: Context, to_do: Sequence[SliceToDo], missing: set[str]) -> list[Pixels | RejectedFile]:
    """Decodes a few slices from their blobs; called in threads.

    Args:
        context: Blobs and decoders.
        to_do: Which frames of which blobs.
        missing: Digests of blobs that were not there are added here.

    Returns:
        For each its pixels, or why it cannot be decoded (or that it is gone, see `missing`).

    Raises:
        OSError: The store, not a file, is at fault.
        DecodersUnavailable: There is no process to read them in.
    """
    found: list[Pixels | RejectedFile] = [RejectedFile(Reason.FILE_MISSING)] * len(to_do)
    with ExitStack() as held:
        files: dict[int, tuple[Path, int]] = {}
        for place, todo in enumerate(to_do):
            try:
                files[place] = held.enter_context(context.blobs.local_path(todo.content_sha256)), todo.frame_index
            except BlobMissing:
                missing.add(todo.content_sha256)
        for place, pixels in zip(files, context.decoders.read_pixels(list(files.values())), strict=True):
            if isinstance(pixels, RejectedFile) and pixels.reason is Reason.FILE_ACCESS:
                raise OSError("the blob store could not be read") from pixels
            found[place] = pixels
    return found


def _while_held(chunk: Chunk, lease: Lease) -> Iterator[SliceToDo]:
    """The slices, one after another, for as long as the claim holds."""
    for todo in chunk.to_do:
        lease.check()
        yield todo


def _failure(todo: SliceToDo, error: Exception, missing: set[str]) -> SliceFailure:
    if todo.content_sha256 in missing:
        log.error("blob_missing", sha256=todo.content_sha256)
        return SliceFailure(todo.slice_id, todo.instance_id, BLOB_MISSING, {})
    if isinstance(error, RejectedFile):
        return SliceFailure(
            todo.slice_id, todo.instance_id, error.reason.value, dict(error.detail), error.outcome.value
        )
    return SliceFailure(todo.slice_id, todo.instance_id, PIXELS_UNUSABLE, {"error": type(error).__name__})
