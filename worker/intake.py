"""Takes in what was sent: every file accounted for, every usable slice a row, the job cut into work items.

Owns the order of things: read everything once (archives are unpacked member by member into the blob store), group it
into studies, write it in batches, and conclude in one last transaction that makes the job ready for classification.
Each of these is fenced, and the whole can be done again from the start after a kill.

Refuses to decode pixels: headers decide here, the classify worker meets the pixels. Only of an instance that comes
again as another file the pictures are compared (`worker.same_pictures`).
"""

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from db.blobs import BlobMissing, BlobStore
from db.jobs import Job
from db.queries import claims, originals
from db.queries import intake as rows
from db.queries.claims import Claim
from db.queries.intake import FileLine, NoServingCheckpoint, PlannedFile, SentFile
from db.states import JobState
from imaging.collect import Collected, collect
from imaging.geometry import natural_key
from imaging.outcomes import Outcome, Reason, RejectedFile
from imaging.text_risk import text_risk
from worker.context import Context
from worker.deidentifying import Deidentifier
from worker.faults import Fatal, Transient
from worker.grouping import FoundImage, plan
from worker.lease import Lease
from worker.same_pictures import as_known

FILES_A_TRANSACTION = 200
KEPT_AT_ONCE = 64
SLICES_A_TRANSACTION = 1000
RING_AT_ONCE = 8

T = TypeVar("T")

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed intake item from beginning to end.

    Raises:
        LeaseLost: Somebody else has it, or the job was cancelled.
        Transient: No model is promoted yet.
        Exception: Whatever else `worker.work` is to judge.
    """
    try:
        begin = partial(rows.begin, job_id=claim.of_job, deidentify=context.settings.deidentify)
        deidentify = _fenced(context, claim, lease, begin)
        with context.database.read() as session:
            sent = sorted(rows.sent_files(session, claim.of_job), key=lambda file: natural_key(file.path))
            title = "" if deidentify else session.get_one(Job, claim.of_job).title
        images, refused = _read_all(context, sent, lease, deidentify=deidentify)
        stands_for = _write_all(context, claim, lease, images, refused, title)
        digests = [stands_for.get(image.sha256, image.sha256) for image in images]

        def conclude(session: Session) -> JobState:
            claims.finish(session, claim)
            return rows.conclude(session, claim.of_job, context.settings, content_digests=digests)

        state = context.write(lease, conclude)
        _wake(context, claim.of_job)
    except NoServingCheckpoint as error:
        raise Transient("no_model", str(error)) from None
    log.info("opened", files=len(images) + len(refused), usable=len(images), job_state=state.value)


def _wake(context: Context, job_id: uuid.UUID) -> None:
    """Rings for the first chunks at once; the others are rung by housekeeping, or done without."""
    with context.database.read() as session:
        item_ids = rows.first_items(session, job_id, RING_AT_ONCE)
    context.doorbell.ring_committed(context.database, item_ids)


def _read_all(
    context: Context, sent: list[SentFile], lease: Lease, *, deidentify: bool
) -> tuple[list[FoundImage], list[FileLine]]:
    """Collects and inspects every file once; usable members of archives, and new files, go into the blob store."""
    images: list[FoundImage] = []
    refused: list[FileLine] = []
    storing: deque[Future[None]] = deque()
    # Making a file durable is waiting for the disk: sixteen waits at once take little longer than one.
    with context.blobs.workspace() as workdir, ThreadPoolExecutor(16, thread_name_prefix="store") as pool:
        without = Deidentifier(context.settings, context.decoders, workdir) if deidentify else None
        for collected in _collected(context, sent, workdir):
            lease.check()
            lease.progress += 1
            sequence = lease.progress
            if without is not None:
                collected = _deidentified(without, collected, sequence, workdir)
            found = _inspect(context, collected, sequence, without)
            if isinstance(found, FoundImage):
                images.append(found)
            else:
                refused.append(found)
            local = collected.local_path
            if local is not None and workdir in local.parents:
                if isinstance(found, FoundImage):
                    storing.append(pool.submit(_keep, context.blobs, local, collected.sha256))
                else:
                    local.unlink(missing_ok=True)
            while len(storing) > KEPT_AT_ONCE:
                storing.popleft().result()
        for future in storing:
            future.result()
    return images, refused


def _deidentified(without: Deidentifier, collected: Collected, sequence: int, workdir: Path) -> Collected:
    """The same file with a neutral name and, when it is usable, with new bytes; the original goes if it is ours."""
    name, original = without.name(collected.display_path, sequence), collected.local_path
    if original is None:
        return replace(collected, display_path=name, sha256="")
    try:
        local, digest, size_bytes = without.file(original, sequence)
    except RejectedFile as rejection:
        return replace(collected, display_path=name, local_path=None, sha256="", kind=None, rejection=rejection)
    finally:
        if workdir in original.parents:
            original.unlink(missing_ok=True)
    return replace(collected, display_path=name, local_path=local, sha256=digest, size_bytes=size_bytes)


def _keep(blobs: BlobStore, local: Path, digest: str) -> None:
    """Moves an unpacked file into the blob store; durable when this returns."""
    blobs.require_room(0)
    blobs.adopt(local, digest)
    local.unlink(missing_ok=True)  # still there when the store had these bytes already


def _collected(context: Context, sent: list[SentFile], workdir: Path) -> Iterator[Collected]:
    for file in sent:
        try:
            with context.blobs.local_path(file.sha256) as path:
                yield from collect([(file.path, path)], context.decoders.limits, workdir)
        except BlobMissing:
            # Rows are written after blobs: this is damage to the store, and no repetition brings the bytes back.
            log.error("blob_missing", sha256=file.sha256)
            raise Fatal("blob_missing", f"blob {file.sha256} of the upload is missing") from None


def _inspect(
    context: Context, collected: Collected, sequence: int, without: Deidentifier | None
) -> FoundImage | FileLine:
    rejection = collected.rejection
    if rejection is None and collected.local_path is not None:
        try:
            info = context.decoders.inspect(collected.local_path)
            risk = "" if without is None else without.text_risk(info, collected.local_path)
        except RejectedFile as error:
            rejection = error
        else:
            line = _line(collected, sequence, Outcome.ACCEPTED.value, Reason.ACCEPTED.value, {})
            return FoundImage(line, collected.sha256, info, risk or text_risk(info) or "")
    if rejection is None:
        raise ValueError("a collected file has neither a path nor a rejection; expected one of them")
    if rejection.reason is Reason.FILE_ACCESS:
        raise OSError("a file in the blob store could not be read") from rejection
    return _line(collected, sequence, rejection.outcome.value, rejection.reason.value, dict(rejection.detail))


def _line(collected: Collected, sequence: int, outcome: str, reason: str, detail: dict[str, object]) -> FileLine:
    return FileLine(
        sequence=sequence,
        path=_clean(collected.display_path),
        size_bytes=collected.size_bytes,
        sha256=collected.sha256 or None,
        outcome=outcome,
        reason=reason,
        detail=detail,
    )


def _write_all(
    context: Context, claim: Claim, lease: Lease, images: list[FoundImage], refused: list[FileLine], title: str
) -> dict[str, str]:
    """Writes the receipt, studies, series, instances and the job's slices in fenced batches.

    Returns:
        Of files that were there already in another form: their digest -> that of what was there.
    """
    job_id = claim.of_job
    stands_for: dict[str, str] = {}
    for lines in _batches(refused):
        _fenced(context, claim, lease, partial(rows.add_lines, job_id=job_id, lines=lines))
    for study in plan(images, title):
        study_id = _fenced(context, claim, lease, partial(rows.add_study, job_id=job_id, study=study))
        for series in study.series:
            series_id = _fenced(context, claim, lease, partial(rows.add_series, study_id=study_id, series=series))
            for sent in _file_batches(series.files):
                lease.check()
                files, same = as_known(context, study_id, sent)
                add = partial(
                    _add, job_id=job_id, study_id=study_id, series_id=series_id, files=files, spare=list(same)
                )
                _fenced(context, claim, lease, add)
                stands_for |= same
    return stands_for


def _add(
    session: Session,
    job_id: uuid.UUID,
    study_id: uuid.UUID,
    series_id: uuid.UUID,
    files: Sequence[PlannedFile],
    spare: Sequence[str],
) -> None:
    """Writes some files; bytes that are not needed, because the same pictures are there, go when nothing names them."""
    rows.add_files(session, job_id, study_id, series_id, files)
    originals.mark(session, spare)


def _fenced(context: Context, claim: Claim, lease: Lease, change: Callable[[Session], T]) -> T:
    """One write transaction of this claim."""

    def fenced(session: Session) -> T:
        claims.hold(session, claim, lease_s=context.settings.lease_s, progress=lease.progress)
        return change(session)

    return context.write(lease, fenced)


def _file_batches(files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
    """Batches bounded by files and by slices: a multi-frame file may hold thousands."""
    start = slices = 0
    for place, file in enumerate(files):
        if place > start and (place - start >= FILES_A_TRANSACTION or slices + len(file.slices) > SLICES_A_TRANSACTION):
            yield files[start:place]
            start, slices = place, 0
        slices += len(file.slices)
    if files:
        yield files[start:]


def _batches(sequence: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(sequence), FILES_A_TRANSACTION):
        yield sequence[start : start + FILES_A_TRANSACTION]


def _clean(path: str) -> str:
    """A display path that both databases can keep: no NUL, no lone surrogate."""
    return path.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
