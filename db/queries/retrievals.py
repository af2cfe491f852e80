"""Lists of accession numbers to be fetched from an archive, and what became of each number.

Owns the rows: one line a number with its work item, the studies that the archive knows under it, the upload into which
their instances go, and the job that the upload becomes by the same function as everybody's (`submissions.complete`).

Accession numbers are identity: shown to whoever asked and to clinicians, in no log, message or audit row, and
forgotten after a time (`forget_numbers`), with their study, or at once when it was de-identified
(`db.queries.originals`).
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.orm import Session

from config.queues import QUEUE_TRANSFER, TASK_RETRIEVE
from config.settings import Settings
from db.clock import database_now
from db.exchange import Peer, Retrieval, RetrievalLine, RetrievedStudy
from db.jobs import WorkItem
from db.queries import claims, requests, submissions
from db.queries.claims import Claim
from db.queries.refusals import ExchangeRefused
from db.queries.sendings import named
from db.queries.submissions import Sent, Submitted
from db.queries.visibility import Viewer
from db.states import ITEM_OPEN, ItemState, Priority, RequestState, UploadState, check
from db.uploads import Upload, UploadFile
from db.users import User

KEPT_FOR: Final = timedelta(days=30)
"""So long after its end a line keeps its accession number."""


@dataclass(frozen=True)
class LineView:
    """A line as it is shown."""

    line: RetrievalLine
    item: WorkItem | None

    @property
    def expected(self) -> int:
        """Instances that the archive listed so far."""
        return sum(study.expected or 0 for study in self.line.studies)

    @property
    def fetched(self) -> int:
        """Instances that came."""
        return sum(study.fetched for study in self.line.studies)

    @property
    def trouble(self) -> str:
        """Why it was put off, while it waits for another try."""
        item = self.item
        waits = self.line.state == RequestState.PENDING and item is not None and item.state == ItemState.PENDING
        return item.error_code if waits and item is not None else ""


@dataclass(frozen=True)
class RetrievalView:
    """A list as it is shown."""

    retrieval: Retrieval
    by: str
    lines: Sequence[LineView]

    @property
    def waiting(self) -> bool:
        """Whether something will still change by itself."""
        return any(view.line.state == RequestState.PENDING for view in self.lines)

    @property
    def failed(self) -> int:
        """Lines that can be tried again."""
        return sum(view.line.state == RequestState.FAILED for view in self.lines)


@dataclass(frozen=True)
class LineToFetch:
    """What a claimed item is about."""

    line_id: uuid.UUID
    accession_number: str
    retrieval: Retrieval
    peer: Peer | None


def visible(viewer: Viewer) -> ColumnElement[bool]:
    """Condition on `Retrieval`: the viewer may see it, accession numbers included."""
    return true() if viewer.sees_all else Retrieval.requested_by_id == viewer.user_id


def request(
    session: Session,
    *,
    peer: Peer,
    numbers: Sequence[str],
    title: str,
    priority: Priority,
    by: uuid.UUID,
    max_attempts: int,
    not_before: datetime | None,
) -> tuple[Retrieval, list[WorkItem]]:
    """Asks for studies by their accession numbers; one work item a number.

    Args:
        session: In a write transaction.
        peer: Where from.
        numbers: As `exchange.archive.parse_numbers` gives them.
        title: Of the jobs; may be empty.
        priority: Of the jobs; `off_peak` also fetches at off-peak hours only.
        by: Who asks; the jobs are his.
        max_attempts: Of each work item.
        not_before: When the fetching may begin; None: now.
    """
    retrieval = Retrieval(
        peer_id=peer.id, peer_name=peer.name, requested_by_id=by, title=title.strip()[:200], priority=priority
    )
    session.add(retrieval)
    session.flush()
    items = []
    for place, number in enumerate(numbers):
        line = RetrievalLine(retrieval_id=retrieval.id, sequence=place, accession_number=number)
        session.add(line)
        session.flush()
        items.append(_item(session, line, Priority(priority), place, max_attempts, not_before))
    return retrieval, items


def page(session: Session, viewer: Viewer, limit: int = 30) -> list[RetrievalView]:
    """The newest lists that the viewer may see."""
    rows = session.execute(
        select(Retrieval, User.username)
        .outerjoin(User, User.id == Retrieval.requested_by_id)
        .where(visible(viewer))
        .order_by(Retrieval.created_at.desc(), Retrieval.id)
        .limit(limit)
    ).all()
    lines: dict[uuid.UUID, list[LineView]] = {row.Retrieval.id: [] for row in rows}
    for row in session.execute(
        select(RetrievalLine, WorkItem)
        .outerjoin(WorkItem, WorkItem.id == RetrievalLine.work_item_id)
        .where(RetrievalLine.retrieval_id.in_(lines))
        .order_by(RetrievalLine.sequence)
    ):
        lines[row.RetrievalLine.retrieval_id].append(LineView(row.RetrievalLine, row.WorkItem))
    return [RetrievalView(row.Retrieval, row.username or "", lines[row.Retrieval.id]) for row in rows]


def one(session: Session, viewer: Viewer, retrieval_id: uuid.UUID) -> RetrievalView:
    """One list. Raises ExchangeRefused `unknown_retrieval`."""
    row = session.execute(
        select(Retrieval, User.username)
        .outerjoin(User, User.id == Retrieval.requested_by_id)
        .where(Retrieval.id == retrieval_id, visible(viewer))
    ).one_or_none()
    if row is None:
        raise _unknown()
    lines = session.execute(
        select(RetrievalLine, WorkItem)
        .outerjoin(WorkItem, WorkItem.id == RetrievalLine.work_item_id)
        .where(RetrievalLine.retrieval_id == retrieval_id)
        .order_by(RetrievalLine.sequence)
    )
    return RetrievalView(row.Retrieval, row.username or "", [LineView(*line) for line in lines])


def again(session: Session, viewer: Viewer, retrieval_id: uuid.UUID, *, max_attempts: int) -> list[WorkItem]:
    """Takes up the lines of a list that failed; a study that was fetched in part is fetched anew.

    Raises:
        ExchangeRefused: `unknown_retrieval`, `nothing_failed` or `peer_gone`.
    """
    retrieval = _find(session, viewer, retrieval_id)
    if retrieval.peer_id is None:
        raise ExchangeRefused("peer_gone", "The archive was removed. Enter it again, then send to it anew.")
    lines = session.scalars(
        select(RetrievalLine)
        .where(
            RetrievalLine.retrieval_id == retrieval_id,
            RetrievalLine.state == RequestState.FAILED,
            RetrievalLine.accession_number != "",
        )
        .order_by(RetrievalLine.sequence)
        .with_for_update()
    ).all()
    if not lines:
        raise ExchangeRefused("nothing_failed", "Nothing of this list failed; there is nothing to try again.")
    items = []
    for line in lines:
        line.state = check(RequestState(line.state), RequestState.PENDING)
        line.failure_code, line.failure_detail, line.finished_at = "", {}, None
        for study in line.studies:
            if study.expected is None or study.fetched < study.expected:
                study.upload_id = study.job_id = None
                study.fetched = 0
        items.append(_item(session, line, Priority(retrieval.priority), line.sequence, max_attempts, None))
    return items


def cancel(session: Session, viewer: Viewer, retrieval_id: uuid.UUID) -> int:
    """Stops what of a list is not fetched yet; returns how many lines. Raises ExchangeRefused `unknown_retrieval`."""
    _find(session, viewer, retrieval_id)
    open_lines = select(RetrievalLine.work_item_id).where(
        RetrievalLine.retrieval_id == retrieval_id, RetrievalLine.state == RequestState.PENDING
    )
    items = session.scalars(
        select(WorkItem)
        .where(WorkItem.id.in_(open_lines), WorkItem.state.in_(ITEM_OPEN))
        .order_by(WorkItem.id)
        .with_for_update()
    ).all()
    for item in items:
        item.state = check(ItemState(item.state), ItemState.CANCELLED)
        item.lease_token = item.lease_until = None
        item.finished_at = database_now(session)
        failed(session, uuid.UUID(str(item.arguments["line_id"])), "retrieval_cancelled", {})
    return len(items)


def to_fetch(session: Session, claim: Claim) -> LineToFetch | None:
    """What a claimed item is about; None when it is gone or has ended."""
    line = session.get(RetrievalLine, named(claim, "line_id"))
    if line is None or line.state != RequestState.PENDING:
        return None
    retrieval = session.get_one(Retrieval, line.retrieval_id)
    peer = session.get(Peer, retrieval.peer_id) if retrieval.peer_id else None
    return LineToFetch(line.id, line.accession_number, retrieval, peer)


def enter_studies(
    session: Session, claim: Claim, line_id: uuid.UUID, uids: Sequence[str], *, lease_s: float
) -> list[RetrievedStudy]:
    """Writes down which studies there are under a number; returns those that are no job yet. Raises LeaseLost."""
    claims.hold(session, claim, lease_s=lease_s)
    known = {
        study.study_instance_uid: study
        for study in session.scalars(select(RetrievedStudy).where(RetrievedStudy.line_id == line_id))
    }
    for place, uid in enumerate(uids):
        if uid not in known:
            known[uid] = RetrievedStudy(line_id=line_id, sequence=place, study_instance_uid=uid)
            session.add(known[uid])
    session.flush()
    return [study for uid, study in known.items() if study.job_id is None and uid in uids]


def open_study(
    session: Session, claim: Claim, study_id: uuid.UUID, retrieval: Retrieval, expected: int, settings: Settings
) -> set[str]:
    """Opens the upload of a study, or finds the one of an earlier attempt; returns the paths that are in it.

    Raises:
        LeaseLost: When the fence is gone.
        ExchangeRefused: `requester_gone`: nobody would own the job.
    """
    claims.hold(session, claim, lease_s=settings.lease_s)
    if retrieval.requested_by_id is None:
        raise ExchangeRefused("requester_gone", "Whoever asked for this has no account any more.")
    study = session.get_one(RetrievedStudy, study_id)
    study.expected = expected
    upload = session.get(Upload, study.upload_id) if study.upload_id else None
    if upload is None or upload.state != UploadState.RECEIVING:  # none yet, or swept while the archive was away
        upload = submissions.open_upload(
            session,
            retrieval.requested_by_id,
            title=retrieval.title,
            priority=Priority(retrieval.priority),
            expiry_s=settings.upload_expiry_s,
        )
        study.upload_id, study.fetched = upload.id, 0
    session.flush()
    return set(session.scalars(select(UploadFile.path).where(UploadFile.upload_id == study.upload_id)))


def keep(session: Session, claim: Claim, study_id: uuid.UUID, files: Sequence[Sent], settings: Settings) -> None:
    """Adds fetched files, whose bytes are in the blob store, to the study's upload.

    Raises:
        LeaseLost: When the fence is gone.
        SubmissionRefused: Too many files, or too large together.
    """
    claims.hold(session, claim, lease_s=settings.lease_s)
    study = session.get_one(RetrievedStudy, study_id)
    upload = session.get_one(Upload, study.upload_id, with_for_update=True)
    for sent in files:
        submissions.add_file(
            session,
            upload,
            sent,
            max_files=settings.max_upload_files,
            max_bytes=settings.max_upload_bytes,
            expiry_s=settings.upload_expiry_s,
        )
    count = select(func.count()).select_from(UploadFile).where(UploadFile.upload_id == upload.id)
    study.fetched = session.scalar(count) or 0
    session.flush()


def complete_study(session: Session, claim: Claim, study_id: uuid.UUID, settings: Settings) -> Submitted:
    """Makes the job of a study's upload. Raises LeaseLost, and SubmissionRefused when nothing came."""
    claims.hold(session, claim, lease_s=settings.lease_s)
    study = session.get_one(RetrievedStudy, study_id)
    upload = session.get_one(Upload, study.upload_id, with_for_update=True)
    submitted = submissions.complete(session, upload, max_attempts=settings.max_attempts)
    study.job_id = submitted.job_id
    session.flush()
    return submitted


def finish(session: Session, claim: Claim, line_id: uuid.UUID) -> tuple[int, int]:
    """Ends a line whose studies are fetched; returns instances fetched and expected. Raises LeaseLost."""
    claims.finish(session, claim)
    line = session.get_one(RetrievalLine, line_id, populate_existing=True)
    view = LineView(line, None)
    fetched, expected = view.fetched, view.expected
    if fetched < expected:
        failed(session, line_id, "instances_missing", {"fetched": fetched, "expected": expected})
        return fetched, expected
    requests.done(session, line)
    return fetched, expected


def refuse(session: Session, claim: Claim, line_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a line that no repetition helps. Raises LeaseLost."""
    claims.finish(session, claim, note="refused")
    failed(session, line_id, code, detail)


def failed(session: Session, line_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a line that is not complete; no effect when it has ended before."""
    requests.failed(session, session.get(RetrievalLine, line_id), code, detail)


def given_up(session: Session, item: WorkItem, code: str) -> None:
    """Ends the line of a dead work item."""
    said = code if code.startswith("peer_") else "exchange_failed"
    failed(session, uuid.UUID(str(item.arguments["line_id"])), said, {})


def forget_numbers(session: Session) -> int:
    """Forgets the accession numbers of lines that ended long ago; returns how many."""
    old = session.scalars(
        select(RetrievalLine.id)
        .where(
            RetrievalLine.accession_number != "",
            RetrievalLine.state != RequestState.PENDING,
            RetrievalLine.finished_at < database_now(session) - KEPT_FOR,
        )
        .limit(500)
    ).all()
    if old:
        session.execute(
            update(RetrievalLine)
            .where(RetrievalLine.id.in_(old))
            .values(accession_number="")
            .execution_options(synchronize_session=False)
        )
    return len(old)


def _find(session: Session, viewer: Viewer, retrieval_id: uuid.UUID) -> Retrieval:
    found = session.scalar(select(Retrieval).where(Retrieval.id == retrieval_id, visible(viewer)).with_for_update())
    if found is None:
        raise _unknown()
    return found


def _unknown() -> ExchangeRefused:
    return ExchangeRefused(
        "unknown_retrieval", "There is no list of this number, or it is not yours to see.", status=404
    )


def _item(
    session: Session,
    line: RetrievalLine,
    priority: Priority,
    place: int,
    max_attempts: int,
    not_before: datetime | None,
) -> WorkItem:
    item = WorkItem(
        task=TASK_RETRIEVE,
        queue=QUEUE_TRANSFER,
        # A list of hundreds never goes before results that somebody sends now.
        priority_rank=max(priority.rank, Priority.NORMAL.rank),
        sequence=place,
        arguments={"line_id": str(line.id)},
        max_attempts=max_attempts,
        state=ItemState.PENDING,
        not_before=not_before,
    )
    session.add(item)
    session.flush()
    line.work_item_id = item.id
    session.flush()
    return item
