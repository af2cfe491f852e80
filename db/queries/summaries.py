"""The study-level summary: one stated rule from slices to a sentence about the study.

Owns the rule (docs/study-rule.md) as a pure function, and the query that feeds it. A positive slice is never averaged
away, every tumour class that was found is named, and a study of which slices are missing is never called negative.

Refuses to diagnose: it counts what the network said of single slices.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_, func, select, true
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
    UNCERTAIN = "uncertain"  # a tumour class is the likeliest on some slice, but below the threshold
    NO_TUMOUR = "no_tumour"  # every slice was analysed, none points to a tumour
    INCOMPLETE = "incomplete"  # nothing found so far, and not every slice was analysed
    NONE = "none"  # no slice was analysed


@dataclass(frozen=True)
class SliceVote:
    """What the network said of one slice."""

    plane: str | None
    class_name: str
    probability: float
    """Calibrated probability of `class_name`, in [0, 1]."""


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

    @property
    def total(self) -> int:
        """All slices of the study that were asked for."""
        return self.analysed + self.failed + self.waiting + self.not_asked

    @property
    def is_complete(self) -> bool:
        """Whether every slice was analysed."""
        return self.failed == 0 and self.waiting == 0 and self.not_asked == 0 and self.analysed > 0


def summarise(votes: Sequence[SliceVote], *, failed: int = 0, waiting: int = 0, not_asked: int = 0) -> Summary:
    """Applies the rule.

    Args:
        votes: One entry for each analysed slice.
        failed: Slices that could not be analysed.
        waiting: Slices that have no result yet.
        not_asked: Slices of which the checkpoint in question was not asked, though another one was.

    Returns:
        The summary; see docs/study-rule.md for the rule and worked cases.
    """
    classes: Counter[str] = Counter(vote.class_name for vote in votes)
    planes: dict[str, dict[str, int]] = {}
    for vote in votes:
        counts = planes.setdefault(vote.plane or "unknown", {})
        counts[vote.class_name] = counts.get(vote.class_name, 0) + 1
    support = tuple(
        ClassSupport(
            class_name=name,
            slices=count,
            firm_slices=sum(v.probability >= THRESHOLD for v in votes if v.class_name == name),
            peak_probability=max(v.probability for v in votes if v.class_name == name),
            is_tumour=name not in NO_TUMOUR_CLASSES,
        )
        for name, count in sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    )
    evidence = {
        item.class_name: sum(
            v.probability for v in votes if v.class_name == item.class_name and v.probability >= THRESHOLD
        )
        for item in support
        if item.is_tumour and item.firm_slices
    }
    found = sorted(evidence, key=lambda name: (-evidence[name], name))
    if found:
        finding = Finding.TUMOUR
    elif any(item.is_tumour for item in support):
        finding = Finding.UNCERTAIN
    elif not votes:
        finding = Finding.NONE
    elif failed or waiting or not_asked:
        finding = Finding.INCOMPLETE
    else:
        finding = Finding.NO_TUMOUR
    return Summary(
        finding=finding,
        leading_class=found[0] if found else None,
        other_classes=tuple(found[1:]),
        support=support,
        planes=planes,
        analysed=len(votes),
        failed=failed,
        waiting=waiting,
        not_asked=not_asked,
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
    votes = [
        SliceVote(row.plane, row.class_name, row.probability)
        for row in session.execute(
            select(
                func.coalesce(Instance.plane, Series.plane).label("plane"),
                Prediction.class_name,
                Prediction.probability,
            )
            .join(Instance, Instance.id == Prediction.instance_id)
            .join(Series, Series.id == Instance.series_id)
            .where(
                Instance.study_id == study_id,
                Prediction.checkpoint_id == checkpoint_id,
                shown_predictions(),
                condition,
            )
        )
    ]
    # Of several requests for a slice the best state counts: a retry that worked outweighs the failure before it.
    # Requests to another checkpoint say only that this one was not asked, but for new submissions that still wait.
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
    states: dict[uuid.UUID, set[str]] = {}
    for row in session.execute(
        select(JobSlice.instance_id, JobSlice.state, Job.checkpoint_id, Job.purpose)
        .join(Instance, Instance.id == JobSlice.instance_id)
        .join(Job, Job.id == JobSlice.job_id)
        .where(Instance.study_id == study_id, Job.purpose != Purpose.SHADOW, unpredicted, condition)
    ):
        ours = checkpoint_id is None or row.checkpoint_id in (checkpoint_id, None)
        new = row.purpose == Purpose.SUBMISSION and row.state == SliceState.PENDING
        states.setdefault(row.instance_id, set()).update([row.state] if ours or new else [])
    waiting = sum(SliceState.PENDING in found for found in states.values())
    not_asked = sum(not found for found in states.values())
    return summarise(votes, failed=len(states) - waiting - not_asked, waiting=waiting, not_asked=not_asked)
