"""Whether slices and answers of the last weeks still look like those the model was chosen on.

Owns the counts by week and by scanner, sequence or sender, and their distance from a reference: the validation slices,
as the model's artefact tells them (`training.reference`), or this installation's own weeks before. Refuses to judge
fewer than `LEAST_SLICES`, and to name a patient.

The distance is the population stability index (Siddiqi, "Credit Risk Scorecards", 2006): the sum over bins of
(p - q) ln(p / q), with half a slice added to each bin so that an empty one does not make it infinite. By that
author's rule of thumb less than 0.1 is no change, 0.25 and more a large one.
"""

import math
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, String, case, cast, func, literal, select
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint
from db.clock import database_now
from db.jobs import Job
from db.predictions import Prediction
from db.queries.visibility import shown_predictions
from db.studies import Instance, Series
from db.users import User

Grouping = Literal["scanner", "sequence", "sender"]
GROUPINGS: Final[tuple[Grouping, ...]] = ("scanner", "sequence", "sender")
Against = Literal["validation", "before"]

WEEKS: Final = 12
RECENT_WEEKS: Final = 4
"""Groups are judged by so many of the last weeks; the weeks before them are the other reference."""
LEAST_SLICES: Final = 50
CHANGED, LARGELY_CHANGED = 0.1, 0.25
MEASURES: Final = ("answers", "probability", "distance", "border")
ABSTAINED: Final = "abstained"
MOST_GROUPS: Final = 30


@dataclass(frozen=True)
class Counts:
    """Slices of one week or group, by measure and bin."""

    slices: int
    abstained: int
    bins: Mapping[str, Mapping[str, int]]
    """Measure -> bin -> slices; bins of `answers` are classes and `abstained`, of the others their numbers."""


@dataclass(frozen=True)
class Judged:
    """A week or group beside the reference."""

    name: str
    """Of a group, for people; empty where the headers do not say. Of a week the number of weeks ago, as text."""
    since: datetime | None
    """Begin of a week."""
    slices: int
    abstained: int
    indexes: Mapping[str, float | None]
    """Measure -> stability index; None: too few slices, or the reference has none."""

    @property
    def worst(self) -> float:
        """The largest index; 0 without any."""
        return max((value for value in self.indexes.values() if value is not None), default=0.0)


@dataclass(frozen=True)
class Drift:
    """What the page shows of one model."""

    weeks: Sequence[Judged]
    """The oldest first; the last one is not over."""
    groups: Sequence[Judged]
    """Of the last weeks, those with the most slices first."""
    recent: Judged
    """The last weeks together."""
    answers: Mapping[str, tuple[float, float | None]]
    """Answer -> its share in the last weeks and in the reference."""
    has_reference: bool


def reference_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The reference that a model's artefact carries; None when it carries none."""
    guard = checkpoint.manifest.get("guard") or {}
    found = (guard.get("record") or {}).get("reference")
    return found if isinstance(found, dict) else None


def drift(
    session: Session, checkpoint: Checkpoint, *, by: Grouping, against: Against = "validation", weeks: int = WEEKS
) -> Drift:
    """Answers of a model in the last weeks, beside a reference.

    Args:
        session: For reading.
        checkpoint: The model.
        by: How slices are grouped.
        against: The validation slices, or this installation's weeks before the last ones.
        weeks: How far back, at least `RECENT_WEEKS` + 1.
    """
    now = database_now(session)
    reference = reference_of(checkpoint)
    edges = _edges(reference)
    counted = _counted(session, checkpoint.id, by, edges, now, weeks)
    of_weeks = {week: _sum(found for (at, _), found in counted.items() if at == week) for week in range(weeks)}
    recent = _sum(found for (week, _), found in counted.items() if week < RECENT_WEEKS)
    before = _sum(found for (week, _), found in counted.items() if week >= RECENT_WEEKS)
    expected = _reference_bins(reference) if against == "validation" else before.bins
    names = {name for (week, name) in counted if week < RECENT_WEEKS}
    of_groups = {
        name: _sum(found for (week, of), found in counted.items() if week < RECENT_WEEKS and of == name)
        for name in names
    }
    groups = sorted(of_groups.items(), key=lambda item: (-item[1].slices, item[0]))[:MOST_GROUPS]
    base = expected.get("answers") or {}
    total = sum(base.values())
    shares = {
        answer: (
            recent.bins["answers"].get(answer, 0) / max(1, recent.slices),
            base.get(answer, 0) / total if total else None,
        )
        for answer in [*checkpoint.class_names, ABSTAINED]
    }
    return Drift(
        weeks=[
            _judge(str(week), now - timedelta(weeks=week + 1), of_weeks[week], expected)
            for week in reversed(range(weeks))
        ],
        groups=[_judge(name, None, found, expected) for name, found in groups],
        recent=_judge("", None, recent, expected),
        answers=shares,
        has_reference=bool(total) and (against == "before" or reference is not None),
    )


def last_week(session: Session, checkpoint: Checkpoint) -> Judged:
    """The last seven days against validation, for the metrics."""
    now = database_now(session)
    reference = reference_of(checkpoint)
    counted = _counted(session, checkpoint.id, None, _edges(reference), now, 1)
    return _judge("0", now - timedelta(weeks=1), _sum(counted.values()), _reference_bins(reference))


def stability_index(expected: Mapping[str, int], found: Mapping[str, int]) -> float:
    """The population stability index of two counts over bins.

    Args:
        expected: Bin -> number, not all zero.
        found: Bin -> number, not all zero; bins that `expected` does not know count too.
    """
    bins = expected.keys() | found.keys()
    of_expected, of_found = (sum(counts.values()) + 0.5 * len(bins) for counts in (expected, found))
    index = 0.0
    for name in bins:
        q = (expected.get(name, 0) + 0.5) / of_expected
        p = (found.get(name, 0) + 0.5) / of_found
        index += (p - q) * math.log(p / q)
    return index


def _edges(reference: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """Bounds of the bins of each number; without a reference only a few fixed ones of the probability."""
    if reference is None:
        return {"probability": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]}
    return {name: list(found["edges"]) for name, found in reference["measures"].items() if name in MEASURES}


def _reference_bins(reference: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
    if reference is None:
        return {}
    binned = {
        name: {str(number): count for number, count in enumerate(found["counts"])}
        for name, found in reference["measures"].items()
    }
    return {"answers": dict(reference["answers"]), **binned}


def _counted(
    session: Session,
    checkpoint_id: uuid.UUID,
    by: Grouping | None,
    edges: Mapping[str, list[float]],
    now: datetime,
    weeks: int,
) -> dict[tuple[int, str], Counts]:
    """(weeks ago, group) -> counts; one query for each measure."""
    week = case(
        *((Prediction.created_at >= now - timedelta(weeks=ago + 1), ago) for ago in range(weeks)), else_=weeks
    ).label("week")
    group = _group(by).label("in_group")
    answer = case((Prediction.abstention != "", ABSTAINED), else_=Prediction.class_name)
    measured: dict[str, ColumnElement[Any]] = {"answers": answer}
    for name, bounds in edges.items():
        value = Prediction.probability if name == "probability" else Prediction.guard[name].as_float()
        steps = [(value <= bound, str(number)) for number, bound in enumerate(bounds)]
        measured[name] = case((value.is_(None), ""), *steps, else_=str(len(bounds)))
    found: dict[tuple[int, str], dict[str, dict[str, int]]] = defaultdict(lambda: {name: {} for name in measured})
    for name, bin_of in measured.items():
        within = bin_of.label("bin")
        query = (
            select(week, group, within, func.count())
            .select_from(Prediction)
            .where(
                Prediction.checkpoint_id == checkpoint_id,
                Prediction.created_at >= now - timedelta(weeks=weeks),
                shown_predictions(),
            )
            .group_by(week, group, within)
        )
        if by in ("scanner", "sequence"):
            query = query.join(Instance, Instance.id == Prediction.instance_id).join(
                Series, Series.id == Instance.series_id
            )
        elif by == "sender":
            query = query.outerjoin(Job, Job.id == Prediction.job_id).outerjoin(User, User.id == Job.created_by_id)
        for at, of, place, count in session.execute(query):
            if place != "":
                found[int(at), str(of or "").strip()][name][str(place)] = int(count)
    return {
        key: Counts(sum(bins["answers"].values()), bins["answers"].get(ABSTAINED, 0), bins)
        for key, bins in found.items()
    }


def _group(by: Grouping | None) -> ColumnElement[Any]:
    if by == "scanner":
        maker, model = (Series.facts[name].as_string() for name in ("manufacturer", "manufacturer_model"))
        strength = cast(Series.facts["field_strength_tesla"].as_float(), String)
        return (
            func.coalesce(maker, "")
            + " "
            + func.coalesce(model, "")
            + case((strength.is_(None), ""), else_=" " + strength + " T")
        )
    if by == "sequence":
        return func.coalesce(Series.facts["sequence"].as_string(), "")
    if by == "sender":
        return func.coalesce(User.username, "")
    return literal("")


def _sum(parts: Any) -> Counts:
    bins: dict[str, dict[str, int]] = defaultdict(dict)
    slices = abstained = 0
    for part in parts:
        slices += part.slices
        abstained += part.abstained
        for name, counts in part.bins.items():
            for place, count in counts.items():
                bins[name][place] = bins[name].get(place, 0) + count
    return Counts(slices, abstained, defaultdict(dict, bins))


def _judge(name: str, since: datetime | None, found: Counts, expected: Mapping[str, Mapping[str, int]]) -> Judged:
    indexes: dict[str, float | None] = {}
    for measure in MEASURES:
        counts, base = found.bins.get(measure) or {}, expected.get(measure) or {}
        enough = sum(counts.values()) >= LEAST_SLICES and sum(base.values()) >= LEAST_SLICES
        indexes[measure] = stability_index(base, counts) if enough else None
    return Judged(name, since, found.slices, found.abstained, indexes)
