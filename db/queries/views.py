"""What the pages list: jobs, receipts, studies and their slices, each in a bounded number of queries.

Owns paging, filters and the shapes that templates show. Every query takes the viewer and hides what is not his
(`db.queries.visibility`). Refuses to load pixels or heatmaps.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, JobStudy, ReceivedFile
from db.predictions import Prediction, Reproduction
from db.queries import reviews, standings, withdrawals
from db.queries.reviews import Decision
from db.queries.selection import SeriesRow, series_rows, untrained_planes
from db.queries.shown import StudyCheckpoint, study_checkpoints
from db.queries.strips import Strip, Window, leading, strip, without_answer
from db.queries.summaries import Summary, study_summary
from db.queries.visibility import (
    Viewer,
    identity_visible_studies,
    may_see_identity,
    shown_predictions,
    visible_instances,
    visible_jobs,
    visible_studies,
)
from db.registry import Withdrawal
from db.standings import StudyStanding
from db.states import JOB_ENDED, JobState, Purpose, SliceState
from db.studies import Instance, Series, Study, StudyIdentity
from db.users import User

PAGE_ROWS = 25
RECEIPT_ROWS = 200
NOT_ASKED = "not_asked"
"""State of a slice of which the checkpoint that is shown was not asked, though another one was."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list."""

    rows: Sequence[Row]
    number: int
    pages: int
    total: int
    query: dict[str, Any] = field(default_factory=dict)
    """The filters, to build the addresses of the other pages from."""


@dataclass(frozen=True)
class SliceCounts:
    """How far the slices of a job are."""

    total: int
    done: int
    failed: int
    cancelled: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Those that were not to be classified, by reason (`db.queries.selection`)."""

    @property
    def not_classified(self) -> int:
        """Those that were left out, whatever the reason."""
        return sum(self.left_out.values())

    @property
    def waiting(self) -> int:
        """Slices without a result yet."""
        return self.total - self.done - self.failed - self.cancelled - self.not_classified


@dataclass(frozen=True)
class JobRow:
    """One job in the list."""

    job: Job
    sender: str
    slices: SliceCounts
    files: int

    @property
    def is_running(self) -> bool:
        """Whether it will still change by itself."""
        return JobState(self.job.state) not in JOB_ENDED


@dataclass(frozen=True)
class StudyRow:
    """One study in the list."""

    study: Study
    identity: StudyIdentity | None
    summary: Summary | StudyStanding | None
    """None: not shown to this viewer yet."""
    withdrawal: Withdrawal | None = None
    """Set when the results behind the summary are withdrawn."""


@dataclass(frozen=True)
class SliceView:
    """One slice on the study's page."""

    instance: Instance
    prediction: Prediction | None
    state: str
    failure_code: str
    failure_detail: dict[str, Any]
    untrained: bool = False
    """Whether it lies in a plane that the checkpoint was not trained on (or is a scout picture)."""


@dataclass(frozen=True)
class SeriesView:
    """Slices of one series, in anatomical order: all of them, or those on one page."""

    series: Series
    slices: Sequence[SliceView]
    total: int
    """Slices of the whole series that the viewer may see."""


@dataclass(frozen=True)
class StudyView:
    """Everything the study's page shows but pixels."""

    study: Study
    identity: StudyIdentity | None
    checkpoint: Checkpoint | None
    summary: Summary
    series: Sequence[SeriesView]
    jobs: Sequence[Job]
    checkpoints: Sequence[StudyCheckpoint] = ()
    """Every checkpoint with results of this study; the one to be shown first leads."""
    labels: Mapping[uuid.UUID, Decision] = field(default_factory=dict)
    """The standing decision of each slice about which a clinician decided."""
    rows: Sequence[SeriesRow] = ()
    """Every series of the study with its counts, also those without a slice in `series`."""
    strip: Strip | None = None
    """Which page of slices `series` holds; None when it holds all."""
    leading: uuid.UUID | None = None
    """The most suspicious slice, when nobody asked for a page or a slice."""

    @property
    def slices(self) -> list[SliceView]:
        """The slices in their order."""
        return [item for group in self.series for item in group.slices]

    @property
    def withdrawal(self) -> Withdrawal | None:
        """Set when the results of `checkpoint` are withdrawn."""
        return next((item.withdrawal for item in self.checkpoints if item.checkpoint is self.checkpoint), None)


def jobs_page(
    session: Session, viewer: Viewer, *, state: str = "", text: str = "", mine: bool = False, number: int = 1
) -> Page[JobRow]:
    """Jobs, the newest first.

    Args:
        session: For reading.
        viewer: Who asks.
        state: A `JobState`, `running` for all that have not ended, or empty for all.
        text: Part of the title or the sender's name.
        mine: Only those the viewer sent.
        number: Page, from 1.
    """
    query = select(Job, User).outerjoin(User, User.id == Job.created_by_id).where(visible_jobs(viewer))
    if state == "running":
        query = query.where(Job.state.not_in(JOB_ENDED))
    elif state in set(JobState):
        query = query.where(Job.state == state)
    if text:
        query = query.where(or_(_contains(Job.title, text), _contains(User.username, text)))
    if mine:
        query = query.where(Job.created_by_id == viewer.user_id)
    found, page, pages, total = _paged(session, query, (Job.created_at.desc(), Job.id), number)
    ids = [row.Job.id for row in found]
    counts = slice_counts(session, ids)
    files = {
        row[0]: row[1]
        for row in session.execute(
            select(ReceivedFile.job_id, func.count()).where(ReceivedFile.job_id.in_(ids)).group_by(ReceivedFile.job_id)
        )
    }
    rows = [JobRow(row.Job, _name(row.User), counts[row.Job.id], files.get(row.Job.id, 0)) for row in found]
    filters = {"state": state, "text": text, "mine": "1" if mine else ""}
    return Page(rows, page, pages, total, {name: value for name, value in filters.items() if value})


def slice_counts(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, SliceCounts]:
    """How far the slices of each job are."""
    counts: dict[uuid.UUID, Counter[str]] = {job_id: Counter() for job_id in job_ids}
    left_out: dict[uuid.UUID, Counter[str]] = {job_id: Counter() for job_id in job_ids}
    for job_id, state, count in session.execute(
        select(JobSlice.job_id, JobSlice.state, func.count())
        .where(JobSlice.job_id.in_(job_ids))
        .group_by(JobSlice.job_id, JobSlice.state)
    ):
        counts[job_id][state] = count
    some = [job_id for job_id, found in counts.items() if found[SliceState.LEFT_OUT]]
    for job_id, code, count in session.execute(
        select(JobSlice.job_id, JobSlice.failure_code, func.count())
        .where(JobSlice.job_id.in_(some), JobSlice.state == SliceState.LEFT_OUT)
        .group_by(JobSlice.job_id, JobSlice.failure_code)
        .order_by(JobSlice.failure_code)
    ):
        left_out[job_id][code] = count
    return {
        job_id: SliceCounts(
            found.total(),
            found[SliceState.DONE],
            found[SliceState.FAILED],
            found[SliceState.CANCELLED],
            left_out[job_id],
        )
        for job_id, found in counts.items()
    }


def visible_job(session: Session, viewer: Viewer, job_id: uuid.UUID | None) -> Job | None:
    """A job, when there is one and the viewer may see it."""
    return session.scalar(select(Job).where(Job.id == job_id, visible_jobs(viewer))) if job_id else None


def sender_name(session: Session, job: Job) -> str:
    """Who sent a job, for people."""
    return _name(session.get(User, job.created_by_id) if job.created_by_id else None)


def receipt_counts(session: Session, job_id: uuid.UUID) -> dict[str, int]:
    """Outcome -> number of files of a job."""
    return {
        row[0]: row[1]
        for row in session.execute(
            select(ReceivedFile.outcome, func.count())
            .where(ReceivedFile.job_id == job_id)
            .group_by(ReceivedFile.outcome)
            .order_by(func.count().desc(), ReceivedFile.outcome)
        )
    }


def receipt_page(session: Session, job_id: uuid.UUID, *, outcome: str = "", number: int = 1) -> Page[ReceivedFile]:
    """Lines of a job's batch receipt, in the order of reading."""
    query = select(ReceivedFile).where(ReceivedFile.job_id == job_id)
    if outcome:
        query = query.where(ReceivedFile.outcome == outcome)
    found, page, pages, total = _paged(session, query, (ReceivedFile.sequence,), number, RECEIPT_ROWS)
    return Page([row.ReceivedFile for row in found], page, pages, total, {"outcome": outcome} if outcome else {})


def text_risks(session: Session, lines: Iterable[ReceivedFile]) -> dict[uuid.UUID, str]:
    """Instance -> why a name may be written into its pixels, of the lines of a receipt for which there is a sign."""
    ids = [line.instance_id for line in lines if line.instance_id]
    rows = session.execute(
        select(Instance.id, Instance.text_risk).where(Instance.id.in_(ids), Instance.text_risk != "")
    )
    return {row.id: row.text_risk for row in rows}


def failed_slices(session: Session, job_id: uuid.UUID, limit: int = 100) -> list[tuple[JobSlice, Instance]]:
    """Slices of a job that failed, with their reasons."""
    return [
        (row.JobSlice, row.Instance)
        for row in session.execute(
            select(JobSlice, Instance)
            .join(Instance, Instance.id == JobSlice.instance_id)
            .where(JobSlice.job_id == job_id, JobSlice.state == SliceState.FAILED)
            .order_by(Instance.path, Instance.frame_index)
            .limit(limit)
        )
    ]


def studies_of_job(session: Session, viewer: Viewer, job_id: uuid.UUID) -> list[StudyRow]:
    """The studies to which a job contributed."""
    studies = session.scalars(
        select(Study)
        .join(JobStudy, JobStudy.study_id == Study.id)
        .where(JobStudy.job_id == job_id, visible_studies(viewer))
        .order_by(Study.title, Study.id)
    ).all()
    return _study_rows(session, viewer, studies)


def studies_page(session: Session, viewer: Viewer, *, text: str = "", number: int = 1) -> Page[StudyRow]:
    """Studies, the newest first.

    Args:
        session: For reading.
        viewer: Who asks.
        text: Part of the title or of the Study Instance UID; for those who see identity also of patient ID, patient
            name or accession number.
        number: Page, from 1.
    """
    query = select(Study).where(visible_studies(viewer))
    if text:
        matches = [_contains(Study.title, text), Study.study_instance_uid == text]
        if viewer.sees_all:
            query = query.outerjoin(StudyIdentity, StudyIdentity.study_id == Study.id)
            matches += [
                _contains(StudyIdentity.patient_name, text),
                StudyIdentity.patient_id == text,
                StudyIdentity.accession_number == text,
            ]
        query = query.where(or_(*matches))
    found, page, pages, total = _paged(session, query, (Study.created_at.desc(), Study.id), number)
    rows = _study_rows(session, viewer, [row.Study for row in found])
    return Page(rows, page, pages, total, {"text": text} if text else {})


MOST_OTHER_STUDIES = 20


def other_studies(session: Session, viewer: Viewer, study_id: uuid.UUID, patient_id: str) -> Sequence[Study]:
    """Further studies of the same patient, the newest first, at most `MOST_OTHER_STUDIES`.

    Args:
        session: For reading.
        viewer: Who asks; only those who see all studies are told which are of one patient.
        study_id: The study at hand.
        patient_id: Of its patient; nobody's when empty.
    """
    if not (patient_id and viewer.sees_all):
        return []
    return session.scalars(
        select(Study)
        .join(StudyIdentity, StudyIdentity.study_id == Study.id)
        .where(StudyIdentity.patient_id == patient_id, Study.id != study_id)
        .order_by(Study.study_date.desc(), Study.created_at.desc())
        .limit(MOST_OTHER_STUDIES)
    ).all()


def study_view(
    session: Session, viewer: Viewer, study: Study, wanted: str = "", window: Window | None = None
) -> StudyView:
    """A study with its series and slices, as far as the viewer may see them.

    Args:
        session: For reading.
        viewer: Who asks.
        study: The study.
        wanted: Digest of the checkpoint whose results to show; without results of it, or empty: see `db.queries.shown`.
        window: Which slices; None: all.
    """
    visible = visible_instances(viewer)
    checkpoints = study_checkpoints(session, study.id)
    checkpoint = next(
        (item.checkpoint for item in checkpoints if item.checkpoint.digest == wanted),
        checkpoints[0].checkpoint if checkpoints else None,
    )
    checkpoint_id = checkpoint.id if checkpoint else None
    summary = study_summary(session, study.id, checkpoint_id, visible)
    rows = series_rows(session, study.id, checkpoint, visible)
    most_suspicious = None
    found = None
    of_study: tuple[ColumnElement[bool], ...] = (Instance.study_id == study.id, visible)
    if window is not None:
        if checkpoint_id and window.is_open:
            if summary.leading_class:
                most_suspicious = leading(session, study.id, checkpoint_id, summary.leading_class, visible)
            elif summary.abstained:
                most_suspicious = without_answer(session, study.id, checkpoint_id, visible)
            window = replace(window, holding=most_suspicious)
        found = strip(session, study.id, checkpoint_id, visible, window, [(row.series.id, row.slices) for row in rows])
        of_study = (Instance.id.in_(found.ids),)
    by_series = _slices(session, checkpoint, of_study)
    jobs = session.scalars(
        select(Job)
        .join(JobStudy, JobStudy.job_id == Job.id)
        .where(JobStudy.study_id == study.id, visible_jobs(viewer))
        .order_by(Job.created_at)
    ).all()
    return StudyView(
        study=study,
        identity=session.get(StudyIdentity, study.id) if may_see_identity(session, viewer, study.id) else None,
        checkpoint=checkpoint,
        summary=summary,
        series=[
            SeriesView(row.series, by_series[row.series.id], row.slices) for row in rows if row.series.id in by_series
        ],
        jobs=jobs,
        checkpoints=checkpoints,
        labels=reviews.newest_of(session, found.ids) if found else reviews.newest_of_study(session, study.id),
        rows=rows,
        strip=found,
        leading=most_suspicious,
    )


def _slices(
    session: Session, checkpoint: Checkpoint | None, which: Sequence[ColumnElement[bool]]
) -> dict[uuid.UUID, list[SliceView]]:
    """Series -> its slices in order; `which`: conditions on `Instance`."""
    checkpoint_id = checkpoint.id if checkpoint else None
    unknown = untrained_planes(checkpoint) if checkpoint else ()
    asked: dict[uuid.UUID, JobSlice] = {}
    for job_slice in session.scalars(
        select(JobSlice)
        .join(Instance, Instance.id == JobSlice.instance_id)
        .join(Job, Job.id == JobSlice.job_id)
        .where(
            *which,
            Job.purpose != Purpose.SHADOW,
            or_(
                Job.checkpoint_id.is_(None),
                Job.checkpoint_id == checkpoint_id,
                and_(Job.purpose == Purpose.SUBMISSION, JobSlice.state == SliceState.PENDING),
            )
            if checkpoint_id
            else true(),
        )
        .order_by(JobSlice.created_at)
    ):
        before = asked.get(job_slice.instance_id)
        # The newest request stands; but one that leaves a slice out takes nothing away from one that asks for it.
        if before is None or job_slice.state != SliceState.LEFT_OUT:
            asked[job_slice.instance_id] = job_slice
    by_series: dict[uuid.UUID, list[SliceView]] = {}
    for row in session.execute(
        select(Instance, Prediction)
        .outerjoin(
            Prediction,
            and_(
                Prediction.instance_id == Instance.id,
                Prediction.checkpoint_id == checkpoint_id,
                shown_predictions(),
            ),
        )
        .where(*which)
        .order_by(Instance.sort_key, Instance.path, Instance.frame_index)
    ):
        request = asked.get(row.Instance.id)
        by_series.setdefault(row.Instance.series_id, []).append(
            SliceView(
                row.Instance,
                row.Prediction,
                SliceState.DONE if row.Prediction else (request.state if request else NOT_ASKED),
                request.failure_code if request else "",
                request.failure_detail if request else {},
                row.Instance.plane in unknown,
            )
        )
    return by_series


def newest_reproduction(session: Session, prediction_id: uuid.UUID) -> Reproduction | None:
    """The last time a prediction was computed again."""
    return session.scalar(
        select(Reproduction)
        .where(Reproduction.prediction_id == prediction_id)
        .order_by(Reproduction.created_at.desc())
        .limit(1)
    )


def has_any_study(session: Session, viewer: Viewer) -> bool:
    """Whether there is anything for this viewer to look at."""
    return session.scalar(select(Study.id).where(visible_studies(viewer)).limit(1)) is not None


def _study_rows(session: Session, viewer: Viewer, studies: Sequence[Study]) -> list[StudyRow]:
    ids = [study.id for study in studies]
    open_ids = identity_visible_studies(session, viewer, ids)
    identities = {
        identity.study_id: identity
        for identity in session.scalars(select(StudyIdentity).where(StudyIdentity.study_id.in_(open_ids)))
    }
    if viewer.sees_all:
        standing = standings.of(session, ids)
        marked = withdrawals.marks(session, {row.checkpoint_id for row in standing.values()})
        return [
            StudyRow(study, identities.get(study.id), row, marked.get(row.checkpoint_id) if row.checkpoint_id else None)
            for study in studies
            if (row := standing.get(study.id))
        ]
    # The standing row is about all slices: of this viewer's own ones it may say too much.
    visible = visible_instances(viewer)
    rows = []
    for study in studies:
        shown = next(iter(study_checkpoints(session, study.id)), None)
        summary = study_summary(session, study.id, shown.checkpoint.id if shown else None, visible)
        rows.append(StudyRow(study, identities.get(study.id), summary, shown.withdrawal if shown else None))
    return rows


def _paged(
    session: Session,
    query: Select[Any, *tuple[Any, ...]],
    order: Sequence[Any],
    number: int,
    rows: int = PAGE_ROWS,
) -> tuple[Sequence[Any], int, int, int]:
    """(rows, page, pages, total) of a query; a page beyond the end is the last one."""
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    pages = max(1, -(-total // rows))
    page = min(max(1, number), pages)
    found = session.execute(query.order_by(*order).limit(rows).offset((page - 1) * rows)).all()
    return found, page, pages, total


def _contains(column: Any, text: str) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = func.lower(column).contains(text.lower(), autoescape=True)
    return condition


def _name(user: User | None) -> str:
    return (user.display_name or user.username) if user else ""
