"""The study-level summary: one stated rule from slices to a sentence about the study.

Owns the rule (docs/study-rule.md) as a pure function, and the query that feeds it. A positive slice is never averaged
away, every tumour class that was found is named, and a study of which slices are missing is never called negative.

Refuses to diagnose: it counts what the network said of single slices.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, or_, select, true
from sqlalchemy.orm import Session

from db.jobs import Job, JobSlice
from db.predictions import Prediction
from db.queries.visibility import shown_predictions
from db.states import Purpose, SliceState
from db.studies import Instance, Series

THRESHOLD: Final = 0.5
"""Least calibrated probability with which a slice counts as a finding of its class."""

NO_TUMOUR_CLASSES: Final = frozenset({"no_tumor", "no_tumour", "notumor", "normal"})
"""Names under which label sets keep the class without a tumour."""


class Finding(StrEnum):
    """What the slices of a study say together."""

    TUMOUR = "tumour"  # at least one slice shows a tumour class at or above the threshold
    UNCERTAIN = "uncertain"  # a tumour class is the likeliest on some slice, but below the threshold; or no answer
    NO_TUMOUR = "no_tumour"  # every slice was analysed and answered, none points to a tumour
    INCOMPLETE = "incomplete"  # nothing found so far, and not every slice was analysed
    NONE = "none"  # no slice was analysed


@dataclass(frozen=True)
class Tally:
    """What the network said of some slices of one plane: those on which one class is the likeliest."""

    plane: str | None
    class_name: str
    slices: int
    firm_slices: int
    """Those of them whose calibrated probability of `class_name` is at or above the threshold."""
    peak_probability: float
    """The highest of these probabilities, in [0, 1]."""
    evidence: float
    """Sum of the probabilities of the firm slices."""
    answered: bool = True
    """Whether the model answers for them; if not, nothing but their number counts."""

    @classmethod
    def of_slice(cls, plane: str | None, class_name: str, probability: float, *, answered: bool = True) -> "Tally":
        """Of one slice; `probability`: calibrated, of `class_name`."""
        firm = probability >= THRESHOLD
        return cls(plane, class_name, 1, int(firm), probability, probability if firm else 0.0, answered)


@dataclass(frozen=True)
class ClassSupport:
    """How much speaks for one class."""

    class_name: str
    slices: int
    """Slices on which it is the likeliest class."""
    firm_slices: int
    """Those of them at or above the threshold."""
    peak_probability: float
    """Highest probability among them."""
    is_tumour: bool


@dataclass(frozen=True)
class Summary:
    """The study-level summary."""

    finding: Finding
    leading_class: str | None
    """The tumour class with the most evidence (sum of probabilities over its slices at or above the threshold)."""
    other_classes: tuple[str, ...]
    """Further tumour classes found at or above the threshold, most evidence first: named, not dropped."""
    support: tuple[ClassSupport, ...]
    """Every class that is the likeliest on some slice, most slices first."""
    planes: dict[str, dict[str, int]]
    """Plane (`unknown` where the file does not say) -> class -> slices."""
    analysed: int
    failed: int
    waiting: int
    not_asked: int = 0
    """Slices that only another checkpoint has analysed or was asked about."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Slices that were not to be classified, by reason (`db.queries.selection`)."""
    abstained: int = 0
    """Slices for which the model does not answer; not among those analysed."""

    @property
    def not_classified(self) -> int:
        """Slices that were left out, whatever the reason."""
        return sum(self.left_out.values())

    @property
    def total(self) -> int:
        """All slices of the study that were received."""
        with_result = self.analysed + self.abstained
        return with_result + self.failed + self.waiting + self.not_asked + self.not_classified

    @property
    def is_missing_some(self) -> bool:
        """Whether slices that were to be classified have no result of this checkpoint."""
        return bool(self.failed or self.waiting or self.not_asked)

    @property
    def is_complete(self) -> bool:
        """Whether every slice was analysed and answered."""
        return self.analysed > 0 and self.analysed == self.total


def summarise(
    cast: Sequence[Tally],
    *,
    failed: int = 0,
    waiting: int = 0,
    not_asked: int = 0,
    left_out: Mapping[str, int] | None = None,
) -> Summary:
    """Applies the rule.

    Args:
        cast: Of all slices with a result; several of one plane and class are added up.
        failed: Slices that could not be analysed.
        waiting: Slices that have no result yet.
        not_asked: Slices of which the checkpoint in question was not asked, though another one was.
        left_out: Slices that were not to be classified, by reason.

    Returns:
        The summary; see docs/study-rule.md for the rule and worked cases.
    """
    tallies = [tally for tally in cast if tally.answered]
    abstained = sum(tally.slices for tally in cast if not tally.answered)
    classes: dict[str, list[Tally]] = {}
    planes: dict[str, dict[str, int]] = {}
    for tally in tallies:
        classes.setdefault(tally.class_name, []).append(tally)
        counts = planes.setdefault(tally.plane or "unknown", {})
        counts[tally.class_name] = counts.get(tally.class_name, 0) + tally.slices
    support = tuple(
        sorted(
            (
                ClassSupport(
                    class_name=name,
                    slices=sum(tally.slices for tally in found),
                    firm_slices=sum(tally.firm_slices for tally in found),
                    peak_probability=max(tally.peak_probability for tally in found),
                    is_tumour=name not in NO_TUMOUR_CLASSES,
                )
                for name, found in classes.items()
            ),
            key=lambda item: (-item.slices, item.class_name),
        )
    )
    evidence = {
        item.class_name: sum(tally.evidence for tally in classes[item.class_name])
        for item in support
        if item.is_tumour and item.firm_slices
    }
    found = sorted(evidence, key=lambda name: (-evidence[name], name))
    if found:
        finding = Finding.TUMOUR
    elif abstained or any(item.is_tumour for item in support):
        finding = Finding.UNCERTAIN
    elif not tallies:
        finding = Finding.NONE
    elif failed or waiting or not_asked or left_out:
        finding = Finding.INCOMPLETE
    else:
        finding = Finding.NO_TUMOUR
    return Summary(
        finding=finding,
        leading_class=found[0] if found else None,
        other_classes=tuple(found[1:]),
        support=support,
        planes=planes,
        analysed=sum(item.slices for item in support),
        failed=failed,
        waiting=waiting,
        not_asked=not_asked,
        left_out=dict(left_out or {}),
        abstained=abstained,
    )


def study_summary(
    session: Session,
    study_id: uuid.UUID,
    checkpoint_id: uuid.UUID | None,
    visible: ColumnElement[bool] | None = None,
) -> Summary:
    """The summary of one study under one checkpoint.

    Args:
        session: For reading.
        study_id: The study.
        checkpoint_id: Whose predictions count; None: there are none yet.
        visible: Condition on `Instance` that hides slices from the viewer (`db.queries.visibility`).
    """
    condition = true() if visible is None else visible
    plane = func.coalesce(Instance.plane, Series.plane)
    firm = Prediction.probability >= THRESHOLD
    answered = Prediction.abstention == ""
    tallies = [
        Tally(*row)
        for row in session.execute(
            select(
                plane,
                Prediction.class_name,
                func.count(),
                func.sum(case((firm, 1), else_=0)),
                func.max(Prediction.probability),
                func.sum(case((firm, Prediction.probability), else_=0.0)),
                answered,
            )
            .join(Instance, Instance.id == Prediction.instance_id)
            .join(Series, Series.id == Instance.series_id)
            .where(
                Instance.study_id == study_id,
                Prediction.checkpoint_id == checkpoint_id,
                shown_predictions(),
                condition,
            )
            .group_by(plane, Prediction.class_name, answered)
            .order_by(plane, Prediction.class_name, answered)
        )
    ]
    return summarise(tallies, **_without_result(session, study_id, checkpoint_id, condition))


def _without_result(
    session: Session, study_id: uuid.UUID, checkpoint_id: uuid.UUID | None, condition: ColumnElement[bool]
) -> dict[str, Any]:
    """Counts of the slices without a shown result of the checkpoint, as `summarise` takes them.

    Of several requests for a slice the best state counts: a retry that waits outweighs the failure before it. Requests
    to another checkpoint say only that this one was not asked, but for new submissions that still wait.
    """
    unpredicted = (
        ~select(Prediction.id)
        .where(
            and_(
                Prediction.instance_id == Instance.id,
                Prediction.checkpoint_id == checkpoint_id,
                shown_predictions(),
            )
        )
        .exists()
    )
    ours = true() if checkpoint_id is None else or_(Job.checkpoint_id == checkpoint_id, Job.checkpoint_id.is_(None))
    pending = JobSlice.state == SliceState.PENDING

    def any_of(which: ColumnElement[bool]) -> ColumnElement[int]:
        return func.max(case((which, 1), else_=0))

    one = (
        select(
            any_of(and_(pending, or_(ours, Job.purpose == Purpose.SUBMISSION))).label("waiting"),
            any_of(and_(ours, JobSlice.state == SliceState.FAILED)).label("failed"),
            func.max(case((and_(ours, JobSlice.state == SliceState.LEFT_OUT), JobSlice.failure_code), else_="")).label(
                "left_out"
            ),
            any_of(ours).label("ours"),
        )
        .join(Instance, Instance.id == JobSlice.instance_id)
        .join(Job, Job.id == JobSlice.job_id)
        .where(Instance.study_id == study_id, Job.purpose != Purpose.SHADOW, unpredicted, condition)
        .group_by(JobSlice.instance_id)
        .subquery()
    )
    counts = {"failed": 0, "waiting": 0, "not_asked": 0}
    left_out: dict[str, int] = {}
    for row in session.execute(
        select(one.c.waiting, one.c.failed, one.c.left_out, one.c.ours, func.count().label("slices")).group_by(
            one.c.waiting, one.c.failed, one.c.left_out, one.c.ours
        )
    ):
        if row.left_out and not row.waiting and not row.failed:
            left_out[row.left_out] = left_out.get(row.left_out, 0) + row.slices
        else:
            # What is ours and neither waits nor was left out has failed, or was cancelled.
            counts["waiting" if row.waiting else "failed" if row.ours else "not_asked"] += row.slices
    return {**counts, "left_out": left_out}
