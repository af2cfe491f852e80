"""Results on their way to archives: what is asked for, each object's answer, and how a sending ends.

Owns the rule that nothing is sent twice by accident: while a sending waits or runs, the same one is not made again,
and an object that the peer has stored is not sent again in the same sending. Refuses to speak with a peer.

Locks as everywhere: the work item first (by its fence), then the sending.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from config.queues import QUEUE_TRANSFER, TASK_SEND
from db.checkpoints import Checkpoint
from db.clock import database_now
from db.exchange import Content, ObjectState, Peer, Sending, SentObject
from db.jobs import Job, JobStudy, WorkItem
from db.queries import audit, claims, requests
from db.queries.claims import Claim
from db.queries.refusals import ExchangeRefused
from db.queries.shown import study_checkpoints
from db.states import ITEM_OPEN, ItemState, JobState, Priority, Purpose, RequestState, check
from db.studies import Study
from db.users import User

AUTOMATIC_ATTEMPTS: Final = 4
"""Of a sending that nobody asked for: no person's settings are at hand where a job ends."""


@dataclass(frozen=True)
class ObjectToSend:
    """An object of the plan: its kind, SOP class and SOP instance UID."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class SendingView:
    """A sending as it is shown."""

    sending: Sending
    by: str
    objects: Sequence[SentObject]
    item: WorkItem | None

    @property
    def stored(self) -> int:
        """How many objects the peer has."""
        return sum(item.state == ObjectState.STORED for item in self.objects)

    @property
    def refused(self) -> Sequence[SentObject]:
        """The objects that it did not want."""
        return [item for item in self.objects if item.state == ObjectState.REFUSED]

    @property
    def waiting(self) -> bool:
        """Whether it will still change by itself."""
        return self.sending.state == RequestState.PENDING

    @property
    def trouble(self) -> str:
        """Why it was put off, while it waits for another try."""
        item = self.item
        return item.error_code if self.waiting and item is not None and item.state == ItemState.PENDING else ""


def request(
    session: Session,
    *,
    study_id: uuid.UUID,
    peer: Peer,
    checkpoint: Checkpoint,
    content: Content,
    by: uuid.UUID | None,
    max_attempts: int,
) -> tuple[Sending, WorkItem]:
    """Asks that a study's results be sent.

    Args:
        session: In a write transaction.
        study_id: The study.
        peer: Where to.
        checkpoint: Whose results.
        content: What of them.
        by: Who asks; None: the peer's `automatic`.
        max_attempts: Of the work item.

    Raises:
        ExchangeRefused: `sending_waits`: the same is on its way already.
    """
    if by is not None:
        # Two clicks at the same moment: the second one waits here and then finds the first one's row.
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
    if open_sending(session, study_id, peer.id, checkpoint.id, content) is not None:
        raise ExchangeRefused(
            "sending_waits",
            "These results are on their way to %(peer)s already; see below how far they are.",
            {"peer": peer.name},
        )
    sending = Sending(
        study_id=study_id,
        peer_id=peer.id,
        peer_name=peer.name,
        checkpoint_id=checkpoint.id,
        content=content,
        requested_by_id=by,
    )
    session.add(sending)
    session.flush()
    return sending, _item(session, sending, max_attempts)


def request_automatic(session: Session, job: Job) -> list[WorkItem]:
    """Asks for what `automatic` peers get of a submission that has just ended well, in the transaction that ended it.

    Returns:
        The work items; housekeeping rings for them.
    """
    if job.state != JobState.SUCCEEDED or job.purpose != Purpose.SUBMISSION or job.checkpoint_id is None:
        return []
    receivers = session.scalars(select(Peer).where(Peer.automatic)).all()
    if not receivers:
        return []
    checkpoint = session.get_one(Checkpoint, job.checkpoint_id)
    items: list[WorkItem] = []
    for study_id in session.scalars(select(JobStudy.study_id).where(JobStudy.job_id == job.id)).all():
        for peer in receivers:
            if open_sending(session, study_id, peer.id, checkpoint.id, Content.BOTH) is None:
                sending, item = request(
                    session,
                    study_id=study_id,
                    peer=peer,
                    checkpoint=checkpoint,
                    content=Content.BOTH,
                    by=None,
                    max_attempts=AUTOMATIC_ATTEMPTS,
                )
                detail = {"sending": str(sending.id), "peer": peer.name, "content": Content.BOTH.value}
                audit.record(
                    session, audit.SYSTEM, "study.send", object_kind="study", object_id=study_id, detail=detail
                )
                items.append(item)
    return items


def open_sending(
    session: Session, study_id: uuid.UUID, peer_id: uuid.UUID, checkpoint_id: uuid.UUID, content: Content
) -> Sending | None:
    """The same sending, when it is still on its way."""
    return session.scalar(
        select(Sending)
        .where(
            Sending.study_id == study_id,
            Sending.peer_id == peer_id,
            Sending.checkpoint_id == checkpoint_id,
            Sending.content == content,
            Sending.state == RequestState.PENDING,
        )
        .limit(1)
    )


def again(session: Session, study_id: uuid.UUID, sending_id: uuid.UUID, *, max_attempts: int) -> WorkItem:
    """Takes up a sending that failed: what the peer has already is not sent again.

    Raises:
        ExchangeRefused: `unknown_sending`, `sending_not_failed`, `peer_gone`, `sending_waits`.
    """
    sending = find(session, study_id, sending_id, lock=True)
    if sending.state != RequestState.FAILED:
        raise ExchangeRefused("sending_not_failed", "Only a sending that failed can be taken up again.")
    if sending.peer_id is None:
        raise ExchangeRefused("peer_gone", "The archive was removed. Enter it again, then send to it anew.")
    if open_sending(session, study_id, sending.peer_id, sending.checkpoint_id, Content(sending.content)):
        raise ExchangeRefused(
            "sending_waits",
            "These results are on their way to %(peer)s already; see below how far they are.",
            {"peer": sending.peer_name},
        )
    sending.state = check(RequestState.FAILED, RequestState.PENDING)
    sending.failure_code, sending.failure_detail, sending.finished_at = "", {}, None
    session.execute(
        update(SentObject)
        .where(SentObject.sending_id == sending.id, SentObject.state == ObjectState.REFUSED)
        .values(state=ObjectState.WAITING, status="", comment="", answered_at=None)
        .execution_options(synchronize_session=False)
    )
    return _item(session, sending, max_attempts)


def cancel(session: Session, study_id: uuid.UUID, sending_id: uuid.UUID) -> None:
    """Stops a sending; the worker notices within seconds. What the peer has, it keeps.

    Raises:
        ExchangeRefused: `unknown_sending` or `sending_ended`.
    """
    found = find(session, study_id, sending_id)
    item = session.get(WorkItem, found.work_item_id, with_for_update=True) if found.work_item_id else None
    sending = find(session, study_id, sending_id, lock=True)
    if sending.state != RequestState.PENDING:
        raise ExchangeRefused("sending_ended", "This sending has ended; there is nothing to stop.")
    if item is not None and item.state in ITEM_OPEN:
        item.state = check(ItemState(item.state), ItemState.CANCELLED)
        item.lease_token = item.lease_until = None
        item.finished_at = database_now(session)
    failed(session, sending.id, "sending_cancelled", {})


def find(session: Session, study_id: uuid.UUID, sending_id: uuid.UUID, *, lock: bool = False) -> Sending:
    """A sending of this study. Raises ExchangeRefused `unknown_sending`."""
    query = select(Sending).where(Sending.id == sending_id, Sending.study_id == study_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(query)
    if found is None:
        raise ExchangeRefused("unknown_sending", "There is no sending of this number.", status=404)
    return found


def of_study(session: Session, study_id: uuid.UUID, limit: int = 50) -> list[SendingView]:
    """The sendings of a study, the newest first."""
    rows = session.execute(
        select(Sending, User.username, WorkItem)
        .outerjoin(User, User.id == Sending.requested_by_id)
        .outerjoin(WorkItem, WorkItem.id == Sending.work_item_id)
        .where(Sending.study_id == study_id)
        .order_by(Sending.created_at.desc(), Sending.id)
        .limit(limit)
    ).all()
    objects: dict[uuid.UUID, list[SentObject]] = {row.Sending.id: [] for row in rows}
    for item in session.scalars(
        select(SentObject).where(SentObject.sending_id.in_(objects)).order_by(SentObject.sequence)
    ):
        objects[item.sending_id].append(item)
    return [SendingView(row.Sending, row.username or "", objects[row.Sending.id], row.WorkItem) for row in rows]


def one(session: Session, study_id: uuid.UUID, sending_id: uuid.UUID) -> SendingView:
    """One sending with its objects. Raises ExchangeRefused `unknown_sending`."""
    found = next((view for view in of_study(session, study_id) if view.sending.id == sending_id), None)
    if found is None:
        raise ExchangeRefused("unknown_sending", "There is no sending of this number.", status=404)
    return found


def wanted_checkpoint(session: Session, study_id: uuid.UUID, digest: str) -> Checkpoint:
    """The checkpoint whose results are to be sent: the one named, else the one that is shown.

    Raises:
        ExchangeRefused: `no_results` or `withdrawn`.
    """
    known = study_checkpoints(session, study_id)
    found = (
        next((item for item in known if item.checkpoint.digest == digest), None) if digest else next(iter(known), None)
    )
    if found is None:
        raise ExchangeRefused("no_results", "There are no results of this study yet; wait until slices are analysed.")
    if found.withdrawal is not None:
        raise ExchangeRefused(
            "withdrawn",
            "The model behind these results was withdrawn; they do not go out as DICOM. Classify the study again.",
        )
    return found.checkpoint


def to_send(session: Session, claim: Claim) -> tuple[Sending, Study, Peer | None] | None:
    """What a claimed item is about; None when it is gone or has ended.

    Raises:
        ValueError: When its arguments do not name a sending.
    """
    sending = session.get(Sending, named(claim, "sending_id"))
    if sending is None or sending.state != RequestState.PENDING:
        return None
    peer = session.get(Peer, sending.peer_id) if sending.peer_id else None
    return sending, session.get_one(Study, sending.study_id), peer


def named(claim: Claim, name: str) -> uuid.UUID:
    """The row that a claimed item is about.

    Raises:
        ValueError: When its arguments do not name one.
    """
    try:
        return uuid.UUID(str(claim.arguments[name]))
    except (KeyError, ValueError):
        raise ValueError(f"work item {claim.item_id} names no {name}; expected one in its arguments") from None


def enter_plan(
    session: Session, claim: Claim, sending_id: uuid.UUID, objects: Sequence[ObjectToSend], *, lease_s: float
) -> set[str]:
    """Writes down what is going to be sent, before anything is; returns the UIDs that the peer answered for already.

    Objects of an earlier attempt that are not of the plan any more (more slices were analysed meanwhile: the report
    became another one) stay when the peer has them, and go otherwise.

    Raises:
        LeaseLost: When the fence is gone.
    """
    claims.hold(session, claim, lease_s=lease_s)
    known = {
        item.sop_instance_uid: item
        for item in session.scalars(select(SentObject).where(SentObject.sending_id == sending_id))
    }
    planned = {item.sop_instance_uid for item in objects}
    for uid, item in known.items():
        if uid not in planned and item.state != ObjectState.STORED:
            session.delete(item)
    for place, wanted in enumerate(objects):
        if wanted.sop_instance_uid not in known:
            session.add(
                SentObject(
                    sending_id=sending_id,
                    sequence=place,
                    kind=wanted.kind,
                    sop_class_uid=wanted.sop_class_uid,
                    sop_instance_uid=wanted.sop_instance_uid,
                )
            )
    session.flush()
    return {uid for uid, item in known.items() if item.state != ObjectState.WAITING}


def answered(
    session: Session,
    claim: Claim,
    sending_id: uuid.UUID,
    sop_instance_uid: str,
    *,
    stored: bool,
    status: str,
    comment: str,
    lease_s: float,
) -> None:
    """Writes the peer's answer to one object, before the next one is sent. Raises LeaseLost."""
    claims.hold(session, claim, lease_s=lease_s)
    session.execute(
        update(SentObject)
        .where(SentObject.sending_id == sending_id, SentObject.sop_instance_uid == sop_instance_uid)
        .values(
            state=ObjectState.STORED if stored else ObjectState.REFUSED,
            status=status[:16],
            comment=comment[:200],
            answered_at=database_now(session),
        )
        .execution_options(synchronize_session=False)
    )


def finish(session: Session, claim: Claim, sending_id: uuid.UUID) -> tuple[int, int]:
    """Ends a sending that is answered for; returns how many objects the peer stored and refused. Raises LeaseLost."""
    claims.finish(session, claim)
    counts: dict[str, int] = {
        row[0]: row[1]
        for row in session.execute(
            select(SentObject.state, func.count()).where(SentObject.sending_id == sending_id).group_by(SentObject.state)
        )
    }
    stored, refused = counts.get(ObjectState.STORED, 0), counts.get(ObjectState.REFUSED, 0)
    if refused:
        failed(session, sending_id, "objects_refused", {"refused": refused, "objects": stored + refused})
        return stored, refused
    requests.done(session, session.get_one(Sending, sending_id))
    return stored, refused


def refuse(session: Session, claim: Claim, sending_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a sending that no repetition helps. Raises LeaseLost."""
    claims.finish(session, claim, note="refused")
    failed(session, sending_id, code, detail)


def failed(session: Session, sending_id: uuid.UUID, code: str, detail: Mapping[str, Any]) -> None:
    """Ends a sending that is not complete; no effect when it has ended before."""
    requests.failed(session, session.get(Sending, sending_id), code, detail)


def given_up(session: Session, item: WorkItem, code: str) -> None:
    """Ends the sending of a dead work item: the peer was away for too long, or every attempt failed."""
    said = code if code.startswith("peer_") else "exchange_failed"
    failed(session, uuid.UUID(str(item.arguments["sending_id"])), said, {})


def _item(session: Session, sending: Sending, max_attempts: int) -> WorkItem:
    item = WorkItem(
        task=TASK_SEND,
        queue=QUEUE_TRANSFER,
        priority_rank=Priority.NORMAL.rank,
        arguments={"sending_id": str(sending.id)},
        max_attempts=max_attempts,
        state=ItemState.PENDING,
    )
    session.add(item)
    session.flush()
    sending.work_item_id = item.id
    session.flush()
    return item
