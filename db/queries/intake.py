"""What intake writes: the receipt, studies, series, slices, and the job's slices to be done.

Owns making that repeatable: an attempt that was killed half-way is done again from the start and ends with the same
rows. Rows of studies, series and instances are only ever added; rows that belong to the job alone are made afresh.

Refuses to read files: it is handed plain plans (`PlannedStudy`), made from what imaging found.
"""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from config.settings import Settings
from db.clock import database_now
from db.jobs import Job, JobSlice, JobStudy, ReceivedFile, WorkItem
from db.predictions import Prediction
from db.queries import originals, selection, settle, shown, stale, standings
from db.queries.checkpoints import serving
from db.standings import StudyStanding
from db.states import ItemState, JobState, Role, SliceState, check
from db.studies import Instance, Series, Study, StudyIdentity
from db.uploads import UploadFile
from db.upserts import insert_missing
from db.users import User

# Outcomes and reasons that only the store can tell; the sentences stand in imaging.outcomes.
DUPLICATE, SENT_BEFORE, CONFLICT = "duplicate", "sent_before", "uid_conflict"


class NoServingCheckpoint(Exception):
    """No checkpoint has been promoted yet: nothing can be classified until one is."""


@dataclass(frozen=True)
class FileLine:
    """One line of the receipt.

    Attributes:
        sequence: Place in the receipt, counted from 1.
        path: Name for display.
        outcome: A value of `imaging.outcomes.Outcome`.
        reason: A value of `imaging.outcomes.Reason`.
        detail: Facts for the reason's sentence.
    """

    sequence: int
    path: str
    size_bytes: int | None
    sha256: str | None
    outcome: str
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedSlice:
    """One frame of a file."""

    frame_index: int
    rows: int
    columns: int
    plane: str | None
    position_mm: float | None
    sort_key: float


@dataclass(frozen=True)
class PlannedFile:
    """One accepted file of a series."""

    line: FileLine
    sha256: str
    size_bytes: int
    kind: str
    sop_instance_uid: str | None
    instance_number: int | None
    slices: tuple[PlannedSlice, ...]
    text_risk: str = ""
    """See `db.studies.Instance.text_risk`."""


@dataclass(frozen=True)
class PlannedSeries:
    """One series, or one folder's images."""

    key: str
    series_instance_uid: str | None
    number: int | None
    description: str
    modality: str
    plane: str | None
    facts: dict[str, Any]
    files: tuple[PlannedFile, ...]


@dataclass(frozen=True)
class PlannedStudy:
    """One study and, apart from it, who it is of."""

    key: str
    study_instance_uid: str | None
    study_date: str
    description: str
    title: str
    identity: dict[str, str]
    series: tuple[PlannedSeries, ...]


@dataclass(frozen=True)
class SentFile:
    """One file of an upload."""

    path: str
    sha256: str
    size_bytes: int


def sent_files(session: Session, job_id: uuid.UUID) -> list[SentFile]:
    """The files of a job's upload, by name; not those whose bytes were removed."""
    rows = session.execute(
        select(UploadFile.path, UploadFile.sha256, UploadFile.size_bytes)
        .join(Job, Job.upload_id == UploadFile.upload_id)
        .where(Job.id == job_id, UploadFile.sha256 != "")
        .order_by(UploadFile.path, UploadFile.id)
    )
    return [SentFile(*row) for row in rows]


def begin(session: Session, job_id: uuid.UUID, *, deidentify: bool = False) -> bool:
    """Starts (again) to open a job's files: what an earlier attempt wrote for this job alone goes.

    Args:
        session: In a fenced write transaction.
        job_id: The job.
        deidentify: Whether files are to be de-identified; once said of a job, it stays so.

    Returns:
        Whether this job's files are to be de-identified.

    Raises:
        NoServingCheckpoint: When there is no model to classify with; nothing is changed.
    """
    if serving(session) is None:
        raise NoServingCheckpoint("no checkpoint is promoted; put an artefact into the models folder")
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    if JobState(job.state) != JobState.OPENING:
        job.state = check(JobState(job.state), JobState.OPENING)
    stale.mark_with_job(session, job_id)
    job.deidentified = job.deidentified or deidentify
    for model in (ReceivedFile, JobSlice, JobStudy):
        session.execute(delete(model).where(model.job_id == job_id))
    return job.deidentified


def add_lines(session: Session, job_id: uuid.UUID, lines: Iterable[FileLine]) -> None:
    """Writes lines of the receipt for files that gave no slice."""
    insert_missing(session, ReceivedFile, [_line_row(job_id, line) for line in lines])


def add_study(session: Session, job_id: uuid.UUID, study: PlannedStudy) -> uuid.UUID:
    """The study's row, made when it is new; identity is filled in where it was empty."""
    insert_missing(
        session,
        Study,
        [
            {
                "id": uuid.uuid4(),
                "study_key": study.key,
                "study_instance_uid": study.study_instance_uid,
                "study_date": study.study_date,
                "description": study.description,
                "title": study.title,
                "deidentified": session.get_one(Job, job_id).deidentified,
            }
        ],
    )
    study_id = session.scalars(select(Study.id).where(Study.study_key == study.key)).one()
    insert_missing(session, JobStudy, [{"job_id": job_id, "study_id": study_id}])
    stale.begin(session, study_id)
    if any(study.identity.values()):
        insert_missing(session, StudyIdentity, [{"study_id": study_id, **study.identity}])
    return study_id


def add_series(session: Session, study_id: uuid.UUID, series: PlannedSeries) -> uuid.UUID:
    """The series' row, made when it is new."""
    insert_missing(
        session,
        Series,
        [
            {
                "id": uuid.uuid4(),
                "study_id": study_id,
                "series_key": series.key,
                "series_instance_uid": series.series_instance_uid,
                "number": series.number,
                "description": series.description,
                "modality": series.modality,
                "plane": series.plane,
                "facts": series.facts,
            }
        ],
    )
    return session.scalars(select(Series.id).where(Series.study_id == study_id, Series.series_key == series.key)).one()


def instances_by_uid(session: Session, study_id: uuid.UUID, uids: Sequence[str]) -> dict[str, tuple[str, int, int]]:
    """Instances of a study by their SOP Instance UID: digest and size of the file, and its number of slices.

    Of several with one UID the one that came first.
    """
    found: dict[str, tuple[str, int, int]] = {}
    for uid, digest, size, frames in session.execute(
        select(Instance.sop_instance_uid, Instance.content_sha256, func.max(Instance.size_bytes), func.count())
        .where(Instance.study_id == study_id, Instance.sop_instance_uid.in_(uids))
        .group_by(Instance.sop_instance_uid, Instance.content_sha256)
        .order_by(func.min(Instance.created_at), Instance.content_sha256)
    ):
        if uid is not None:
            found.setdefault(uid, (digest, size, frames))
    return found


def add_files(
    session: Session,
    job_id: uuid.UUID,
    study_id: uuid.UUID,
    series_id: uuid.UUID,
    files: Sequence[PlannedFile],
) -> None:
    """Writes instances, the job's slices and the lines of the receipt for some files of one series.

    A file whose bytes the study already has is a duplicate and points to the earlier slice; it is analysed once. One
    that another job sent before is asked for again by this job, so that its result is shown here too. A file that
    carries the SOP Instance UID of another one but holds other bytes is analysed as a slice of its own, and the
    receipt says so.
    """
    digests = sorted({file.sha256 for file in files})
    uids = sorted({file.sop_instance_uid for file in files if file.sop_instance_uid})
    owner_of_uid = {uid: digest for uid, (digest, _, _) in instances_by_uid(session, study_id, uids).items()}
    rows = [
        {
            "id": uuid.uuid4(),
            "study_id": study_id,
            "series_id": series_id,
            "sop_instance_uid": file.sop_instance_uid,
            "content_sha256": file.sha256,
            "size_bytes": file.size_bytes,
            "kind": file.kind,
            "text_risk": file.text_risk,
            "path": file.line.path,
            "frame_index": piece.frame_index,
            "instance_number": file.instance_number,
            "rows": piece.rows,
            "columns": piece.columns,
            "plane": piece.plane,
            "position_mm": piece.position_mm,
            "sort_key": piece.sort_key,
        }
        for file in files
        for piece in file.slices
    ]
    insert_missing(session, Instance, sorted(rows, key=lambda row: (row["content_sha256"], row["frame_index"])))
    instances = {
        (digest, frame): instance_id
        for instance_id, digest, frame in session.execute(
            select(Instance.id, Instance.content_sha256, Instance.frame_index).where(
                Instance.study_id == study_id, Instance.content_sha256.in_(digests)
            )
        )
    }
    asked_by_us, asked_by_others = _asked(session, job_id, list(instances.values()))
    slices, lines = [], []
    for file in files:
        ids = [instances[file.sha256, piece.frame_index] for piece in file.slices]
        outcome, reason = file.line.outcome, file.line.reason
        if ids[0] in asked_by_us:
            outcome, reason, new = DUPLICATE, DUPLICATE, []
        else:
            new = ids
            if ids[0] in asked_by_others:
                outcome, reason = DUPLICATE, SENT_BEFORE
            elif file.sop_instance_uid and owner_of_uid.setdefault(file.sop_instance_uid, file.sha256) != file.sha256:
                outcome, reason = CONFLICT, CONFLICT
        asked_by_us.update(ids)
        slices += [
            {"id": uuid.uuid4(), "job_id": job_id, "instance_id": instance_id, "state": SliceState.PENDING}
            for instance_id in new
        ]
        row = _line_row(job_id, file.line)
        row.update(outcome=outcome, reason=reason, slices=len(new), study_id=study_id, instance_id=ids[0])
        lines.append(row)
    insert_missing(session, JobSlice, slices)
    insert_missing(session, ReceivedFile, lines)
    stale.mark(session, StudyStanding.study_id == study_id)


def conclude(session: Session, job_id: uuid.UUID, settings: Settings, *, content_digests: Iterable[str]) -> JobState:
    """Pins the serving checkpoint, recognises a submission sent before, and cuts what is left to do into work items.

    Args:
        session: In the write transaction that also finishes the intake item.
        job_id: The job.
        settings: Sizes of chunks and lanes.
        content_digests: Digests of the accepted files.

    Returns:
        The state the job is in now: classifying, or ended.

    Raises:
        NoServingCheckpoint: When there is no model (any more).
    """
    checkpoint = serving(session)
    if checkpoint is None:
        raise NoServingCheckpoint("no checkpoint is promoted; put an artefact into the models folder")
    job = session.scalars(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    ).one()
    if job.deidentified:
        originals.forget(session, job)
    now = database_now(session)
    total = session.scalar(select(func.count()).select_from(JobSlice).where(JobSlice.job_id == job_id)) or 0
    if total == 0:
        job.state = check(JobState(job.state), JobState.FAILED)
        job.failure_code = "no_usable_slice"
        job.finished_at = now
        session.flush()
        return JobState.FAILED
    job.checkpoint_id = checkpoint.id
    job.content_digest = digest_of(content_digests)
    job.duplicate_of_id = _sent_before(session, job)
    job.opened_at = now
    session.execute(
        update(JobSlice)
        .where(
            JobSlice.job_id == job_id,
            exists().where(Prediction.instance_id == JobSlice.instance_id, Prediction.checkpoint_id == checkpoint.id),
        )
        .values(state=check(SliceState.PENDING, SliceState.DONE), finished_at=now)
        .execution_options(synchronize_session=False)
    )
    shown.adopt(session, job_id, checkpoint.id)
    selection.apply_rules(session, job_id, settings)
    selection.leave_out(session, job_id, checkpoint)
    pending = session.scalars(
        select(JobSlice.id)
        .join(Instance, Instance.id == JobSlice.instance_id)
        .join(Series, Series.id == Instance.series_id)
        .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.PENDING)
        .order_by(Instance.study_id, Series.number, Instance.series_id, Instance.sort_key, JobSlice.id)
    ).all()
    after = JobState.CLASSIFYING if pending else JobState.SUCCEEDED
    settle.cut(session, job, pending, settings)
    job.state = check(JobState(job.state), after)
    if not pending:
        job.finished_at = now
    session.flush()
    standings.changed_with_job(session, job_id)
    return after


def first_items(session: Session, job_id: uuid.UUID, limit: int) -> list[uuid.UUID]:
    """The first pending work items of a job, to be rung for."""
    return list(
        session.scalars(
            select(WorkItem.id)
            .where(WorkItem.job_id == job_id, WorkItem.state == ItemState.PENDING)
            .order_by(WorkItem.sequence)
            .limit(limit)
        )
    )


def digest_of(content_digests: Iterable[str]) -> str:
    """SHA-256 over the sorted distinct digests: the same pictures give the same digest, zipped or not."""
    return hashlib.sha256("\n".join(sorted(set(content_digests))).encode()).hexdigest()


def _sent_before(session: Session, job: Job) -> uuid.UUID | None:
    """The first job with the same content that the sender may see: their own, or any for a clinician."""
    sender = session.get(User, job.created_by_id) if job.created_by_id else None
    query = select(Job.id).where(
        Job.content_digest == job.content_digest,
        Job.id != job.id,
        Job.opened_at.is_not(None),
        Job.state.not_in((JobState.FAILED, JobState.CANCELLED)),
    )
    if sender is None or not Role(sender.role).includes(Role.CLINICIAN):
        query = query.where(Job.created_by_id == job.created_by_id)
    return session.scalars(query.order_by(Job.created_at, Job.id).limit(1)).one_or_none()


def _asked(
    session: Session, job_id: uuid.UUID, instance_ids: Sequence[uuid.UUID]
) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """Which of these instances this job asks for already, and which another job does."""
    ours: set[uuid.UUID] = set()
    others: set[uuid.UUID] = set()
    for start in range(0, len(instance_ids), 1000):
        some = instance_ids[start : start + 1000]
        rows = session.execute(
            select(JobSlice.instance_id, JobSlice.job_id).where(JobSlice.instance_id.in_(some)).distinct()
        )
        for instance_id, asking in rows:
            (ours if asking == job_id else others).add(instance_id)
    return ours, others


def _line_row(job_id: uuid.UUID, line: FileLine) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(),
        "job_id": job_id,
        "sequence": line.sequence,
        "path": line.path,
        "size_bytes": line.size_bytes,
        "sha256": line.sha256,
        "outcome": line.outcome,
        "reason": line.reason,
        "detail": line.detail,
    }
