"""Keeping the row in which each study stands equal to what it is derived from.

Owns computing it, and telling it of changes: of few studies the rows are written at once, in the transaction that
changes something; of many, or large ones, they are marked as stale, and housekeeping or whoever shows one computes it.
A test compares the rows with the computed truth after everything that moves.

Locks: rows are taken in the order of their studies, after work items and jobs. Refuses to decide anything itself.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.jobs import JobSlice, JobStudy
from db.predictions import Prediction
from db.queries import reviews, stale
from db.queries.shown import study_checkpoints
from db.queries.summaries import Finding, Summary, study_summary
from db.queries.visibility import shown_predictions
from db.reviews import NOT_ASSESSABLE, DecisionKind, SliceLabel, StudyDecision
from db.standings import ReviewState, StudyStanding
from db.studies import Instance, Study

AT_ONCE: Final = 8
"""Studies whose rows one transaction computes; each takes some milliseconds."""

LARGE: Final = 1000
"""Slices from which on a study's row is marked only: while it is analysed, every chunk would count them all again."""

_RANKS: Final = {
    Finding.TUMOUR: 1,
    Finding.UNCERTAIN: 2,
    Finding.INCOMPLETE: 3,
    Finding.NONE: 4,
    Finding.NO_TUMOUR: 5,
}


@dataclass(frozen=True)
class Derived:
    """What a standing row says, computed; the fields are the columns."""

    received_at: datetime
    checkpoint_id: uuid.UUID | None
    finding: str
    leading_class: str
    other_classes: list[str]
    peak_probability: float | None
    slices: int
    analysed: int
    failed: int
    waiting: int
    not_asked: int
    left_out: dict[str, int]
    abstained: int
    newest_result_at: datetime | None
    decided: int
    disagreed: int
    review_state: ReviewState
    reviewed_by_id: uuid.UUID | None
    urgency: float


def urgency(finding: Finding, peak_probability: float | None, abstained: int = 0) -> float:
    """The order of the worklist: lower is read first.

    By finding (tumour, uncertain, incomplete, none, no tumour), within it by the highest probability of a tumour.
    Before all come studies that are uncertain because the model does not answer for slices: of these nothing is known.
    """
    if finding is Finding.UNCERTAIN and abstained:
        return 0.0
    return _RANKS[finding] + (1.0 - (peak_probability or 0.0)) * 0.999


def compute(session: Session, study_id: uuid.UUID) -> Derived:
    """Where a study stands, from the rows that it is derived from."""
    first = next(iter(study_checkpoints(session, study_id)), None)
    checkpoint_id = first.checkpoint.id if first else None
    summary = study_summary(session, study_id, checkpoint_id)
    peak = _peak(summary)
    slices = session.scalar(select(func.count()).where(Instance.study_id == study_id)) or 0
    rows, decided, disagreed = _slice_decisions(session, study_id, checkpoint_id)
    said = session.scalars(
        select(StudyDecision)
        .where(StudyDecision.study_id == study_id)
        .order_by(StudyDecision.created_at.desc(), StudyDecision.id.desc())
    ).all()
    newest = next((item for item in said if item.kind != DecisionKind.OPINION), None)
    state = ReviewState.BEGUN if decided or said else ReviewState.OPEN
    if newest is not None and newest.kind == DecisionKind.SIGN_OFF:
        same = newest.results == results_of(checkpoint_id, summary, slices, rows)
        state = ReviewState.SIGNED if same else ReviewState.CHANGED
    return Derived(
        received_at=session.get_one(Study, study_id).created_at,
        checkpoint_id=checkpoint_id,
        finding=summary.finding.value,
        leading_class=summary.leading_class or "",
        other_classes=list(summary.other_classes),
        peak_probability=peak,
        slices=slices,
        analysed=summary.analysed,
        failed=summary.failed,
        waiting=summary.waiting,
        not_asked=summary.not_asked,
        left_out=dict(summary.left_out),
        abstained=summary.abstained,
        newest_result_at=first.newest_at if first else None,
        decided=decided,
        disagreed=disagreed,
        review_state=state,
        reviewed_by_id=said[0].decided_by_id if said else None,
        urgency=urgency(summary.finding, peak, summary.abstained),
    )


def results(session: Session, study_id: uuid.UUID) -> tuple[uuid.UUID | None, dict[str, Any]]:
    """(shown checkpoint, what a decision about the study is about) at this moment."""
    first = next(iter(study_checkpoints(session, study_id)), None)
    checkpoint_id = first.checkpoint.id if first else None
    summary = study_summary(session, study_id, checkpoint_id)
    slices = session.scalar(select(func.count()).where(Instance.study_id == study_id)) or 0
    rows, _, _ = _slice_decisions(session, study_id, checkpoint_id)
    return checkpoint_id, results_of(checkpoint_id, summary, slices, rows)


def results_of(checkpoint_id: uuid.UUID | None, summary: Summary, slices: int, slice_decisions: int) -> dict[str, Any]:
    """What a sign-off is about: when any of it is another since, somebody has to look again."""
    return {
        "checkpoint_id": str(checkpoint_id) if checkpoint_id else "",
        "finding": summary.finding.value,
        "leading_class": summary.leading_class or "",
        "other_classes": list(summary.other_classes),
        "analysed": summary.analysed,
        "abstained": summary.abstained,
        "slices": slices,
        "slice_decisions": slice_decisions,
    }


def changed(session: Session, study_ids: Collection[uuid.UUID]) -> None:
    """Tells the rows of these studies that something they are derived from has changed.

    Call it as the last thing of a write transaction, when its changes are flushed.
    """
    if len(study_ids) > AT_ONCE:
        stale.mark(session, StudyStanding.study_id.in_(list(study_ids)))
        return
    large = StudyStanding.study_id.in_(list(study_ids)) & (StudyStanding.slices > LARGE)
    later = set(session.scalars(select(StudyStanding.study_id).where(large)))
    if later:
        stale.mark(session, large)
    refresh(session, set(study_ids) - later)


def changed_with_job(session: Session, job_id: uuid.UUID | None) -> None:
    """As `changed`, for every study to which a job contributed."""
    if job_id is not None:
        ids = session.scalars(select(JobStudy.study_id).where(JobStudy.job_id == job_id).limit(AT_ONCE + 1)).all()
        if len(ids) <= AT_ONCE:
            changed(session, ids)
        else:
            stale.mark_with_job(session, job_id)


def changed_with_item(session: Session, item_id: uuid.UUID) -> None:
    """As `changed`, for the studies of a work item's slices."""
    changed(
        session,
        session.scalars(
            select(Instance.study_id)
            .join(JobSlice, JobSlice.instance_id == Instance.id)
            .where(JobSlice.work_item_id == item_id)
            .distinct()
        ).all(),
    )


def refresh(session: Session, study_ids: Collection[uuid.UUID]) -> None:
    """Computes the rows of these studies and writes what differs; the version is raised then."""
    for study_id in sorted(study_ids):
        row = held(session, study_id)
        if row is not None:
            write(row, compute(session, study_id))
    session.flush()


def held(session: Session, study_id: uuid.UUID) -> StudyStanding | None:
    """A study's row, held until the end of the transaction, as it is now."""
    return session.scalars(
        select(StudyStanding)
        .where(StudyStanding.study_id == study_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def write(row: StudyStanding, derived: Derived) -> None:
    """Makes a held row say what was computed."""
    differing = {name: value for name, value in asdict(derived).items() if getattr(row, name) != value}
    for name, value in differing.items():
        setattr(row, name, value)
    if differing:
        row.version += 1
    row.stale = False


def any_stale(session: Session) -> bool:
    """Whether some row waits to be computed."""
    return session.scalar(select(StudyStanding.study_id).where(StudyStanding.stale).limit(1)) is not None


def refresh_stale(session: Session, limit: int = 50) -> int:
    """Computes some of the stale rows; returns how many."""
    ids = session.scalars(
        select(StudyStanding.study_id).where(StudyStanding.stale).order_by(StudyStanding.study_id).limit(limit)
    ).all()
    refresh(session, ids)
    return len(ids)


def of(session: Session, study_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, StudyStanding]:
    """The rows of these studies for a page; stale ones are computed in memory, and not written."""
    rows = session.scalars(select(StudyStanding).where(StudyStanding.study_id.in_(study_ids))).all()
    for row in rows:
        session.expunge(row)
        if row.stale:
            write(row, compute(session, row.study_id))
    return {row.study_id: row for row in rows}


def decided(session: Session, study_id: uuid.UUID) -> tuple[int, int]:
    """Tells a study's row of a decision about it or one of its slices.

    Returns:
        (version before, -1 when there were other changes that it had not been told of yet; version after).
    """
    row = held(session, study_id)
    if row is None:
        raise LookupError(f"study {study_id} has no standing row; `python -m ops standings` makes it")
    before = -1 if row.stale else row.version
    write(row, compute(session, study_id))
    row.version += 1
    session.flush()
    return before, row.version


def _peak(summary: Summary) -> float | None:
    peaks = [
        item.peak_probability
        for item in summary.support
        if item.is_tumour and summary.leading_class in (None, item.class_name)
    ]
    return max(peaks, default=None)


def _slice_decisions(session: Session, study_id: uuid.UUID, checkpoint_id: uuid.UUID | None) -> tuple[int, int, int]:
    """(rows about slices, slices about which one stands, those of them where it is not the checkpoint's class)."""
    rows = session.scalar(
        select(func.count())
        .select_from(SliceLabel)
        .join(Instance, Instance.id == SliceLabel.instance_id)
        .where(Instance.study_id == study_id)
    )
    if not rows:
        return 0, 0, 0
    standing = reviews.newest_of_study(session, study_id)
    said = {
        row.instance_id: row.class_name
        for row in session.execute(
            select(Prediction.instance_id, Prediction.class_name)
            .join(Instance, Instance.id == Prediction.instance_id)
            .where(
                Instance.study_id == study_id,
                Prediction.checkpoint_id == checkpoint_id,
                Prediction.abstention == "",  # nobody can agree with an answer that was not given
                shown_predictions(),
            )
        )
    }
    other = sum(
        item.label not in (NOT_ASSESSABLE, said[instance_id])
        for instance_id, item in standing.items()
        if instance_id in said
    )
    return rows, len(standing), other
