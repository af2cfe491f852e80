"""How far clinicians and a model agree: confusion matrices and Cohen's kappa, by model and month.

Owns the counts and the formula. Three readings are kept apart: decisions about slices, sign-offs of studies, and
opinions that were committed before the network's answer was shown. Only the last are independent of it: whoever has
seen an answer agrees with it more easily. Refuses to count what one side left open: not assessable, no answer, nothing
firm.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, String, and_, cast, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries.summaries import Finding
from db.queries.visibility import shown_predictions
from db.reviews import NOT_ASSESSABLE, WITHDRAWN, DecisionKind, SliceLabel, StudyDecision

NO_TUMOUR: Final = "no_tumor"
CSV_COLUMNS: Final = ("reading", "model", "digest", "month", "clinician", "network", "count")


class Reading(StrEnum):
    """What is compared with the network."""

    SLICES = "slices"
    STUDIES = "studies"
    OPINIONS = "opinions"


@dataclass(frozen=True)
class Cell:
    """So often a clinician said one thing in a month, and a model another (or the same)."""

    checkpoint_id: uuid.UUID
    month: str
    """YYYY-MM, UTC."""
    clinician: str
    network: str
    count: int


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance (Cohen, Educational and Psychological Measurement 20, 1960, equation 1).

    Attributes:
        pairs: How many pairs there are.
        agreed: Share of pairs in which both said the same, p_o.
        by_chance: Share expected of two that say each class as often, independently of each other, p_e.
        value: (p_o - p_e) / (1 - p_e); None when both always say the same one class, or without pairs.
        low: Lower end of the 95 % interval, by the large-sample standard error sqrt(p_o (1 - p_o) / n) / (1 - p_e).
        high: Upper end.
    """

    pairs: int
    agreed: float
    by_chance: float
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Month:
    """One month of a model."""

    month: str
    kappa: Kappa


@dataclass(frozen=True)
class ModelAgreement:
    """What is known of one model.

    Attributes:
        classes: Everything that either side said, in a stable order.
        matrix: (clinician, network) -> count.
        months: The newest first.
    """

    checkpoint: Checkpoint
    kappa: Kappa
    classes: Sequence[str]
    matrix: Mapping[tuple[str, str], int]
    months: Sequence[Month]


def kappa(matrix: Mapping[tuple[str, str], int]) -> Kappa:
    """Cohen's kappa of (one, other) -> count."""
    pairs = sum(matrix.values())
    if not pairs:
        return Kappa(0, 0.0, 0.0, None, None, None)
    names = {name for pair in matrix for name in pair}
    agreed = sum(matrix.get((name, name), 0) for name in names) / pairs
    rows = {name: sum(count for (one, _), count in matrix.items() if one == name) for name in names}
    columns = {name: sum(count for (_, other), count in matrix.items() if other == name) for name in names}
    by_chance = sum(rows[name] * columns[name] for name in names) / pairs**2
    if by_chance >= 1.0:
        return Kappa(pairs, agreed, by_chance, None, None, None)
    value = (agreed - by_chance) / (1.0 - by_chance)
    spread = 1.96 * math.sqrt(agreed * (1.0 - agreed) / pairs) / (1.0 - by_chance)
    return Kappa(pairs, agreed, by_chance, value, max(-1.0, value - spread), min(1.0, value + spread))


def cells(session: Session, reading: Reading) -> list[Cell]:
    """Every count, by model, month and pair; sorted."""
    found = _slices(session) if reading == Reading.SLICES else _studies(session, reading)
    return sorted(found, key=lambda cell: (str(cell.checkpoint_id), cell.month, cell.clinician, cell.network))


def by_model(session: Session, reading: Reading) -> list[ModelAgreement]:
    """The agreement of each model with decisions, the one with most pairs first."""
    counted: dict[uuid.UUID, list[Cell]] = {}
    for cell in cells(session, reading):
        counted.setdefault(cell.checkpoint_id, []).append(cell)
    named = {row.id: row for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(counted)))}
    found = []
    for checkpoint_id, rows in counted.items():
        matrix = _matrix(rows)
        months = sorted({cell.month for cell in rows}, reverse=True)
        known = [str(name) for name in named[checkpoint_id].class_names]
        others = sorted({name for pair in matrix for name in pair} - set(known))
        found.append(
            ModelAgreement(
                named[checkpoint_id],
                kappa(matrix),
                [*known, *others],
                matrix,
                [Month(month, kappa(_matrix([cell for cell in rows if cell.month == month]))) for month in months],
            )
        )
    return sorted(found, key=lambda item: (-item.kappa.pairs, item.checkpoint.name))


def csv_rows(session: Session) -> list[dict[str, Any]]:
    """Every count of every reading; keys of `CSV_COLUMNS`."""
    named = {row.id: row for row in session.scalars(select(Checkpoint))}
    return [
        {
            "reading": reading.value,
            "model": named[cell.checkpoint_id].name,
            "digest": named[cell.checkpoint_id].digest,
            "month": cell.month,
            "clinician": cell.clinician,
            "network": cell.network,
            "count": cell.count,
        }
        for reading in Reading
        for cell in cells(session, reading)
    ]


def _matrix(rows: Sequence[Cell]) -> dict[tuple[str, str], int]:
    matrix: dict[tuple[str, str], int] = {}
    for cell in rows:
        pair = (cell.clinician, cell.network)
        matrix[pair] = matrix.get(pair, 0) + cell.count
    return matrix


def _month(column: Any) -> ColumnElement[str]:
    # Both databases write a time as YYYY-MM-DD ...; sessions are in UTC.
    month: ColumnElement[str] = func.substr(cast(column, String), 1, 7)
    return month


def _slices(session: Session) -> list[Cell]:
    """Standing decisions against what each model said of the same slice."""
    newer = aliased(SliceLabel)
    later = or_(
        newer.created_at > SliceLabel.created_at,
        and_(newer.created_at == SliceLabel.created_at, newer.id > SliceLabel.id),
    )
    month = _month(SliceLabel.created_at)
    rows = session.execute(
        select(Prediction.checkpoint_id, month, SliceLabel.label, Prediction.class_name, func.count())
        .join(Prediction, Prediction.instance_id == SliceLabel.instance_id)
        .where(
            SliceLabel.label.not_in((NOT_ASSESSABLE, WITHDRAWN)),
            ~exists(select(newer.id).where(newer.instance_id == SliceLabel.instance_id, later)),
            Prediction.abstention == "",
            shown_predictions(),
        )
        .group_by(Prediction.checkpoint_id, month, SliceLabel.label, Prediction.class_name)
    )
    return [Cell(*row) for row in rows]


def _studies(session: Session, reading: Reading) -> list[Cell]:
    """The newest sign-off of each study, or each person's opinion, against what was shown then."""
    kind = DecisionKind.SIGN_OFF if reading == Reading.STUDIES else DecisionKind.OPINION
    rows = session.execute(
        select(StudyDecision.study_id, StudyDecision.checkpoint_id, _month(StudyDecision.created_at), StudyDecision)
        .where(StudyDecision.kind.in_((kind, DecisionKind.REOPENED)))
        .order_by(StudyDecision.created_at, StudyDecision.id)
    ).all()
    said: dict[object, tuple[uuid.UUID, str, str, str] | None] = {}
    for study_id, checkpoint_id, month, row in rows:
        if row.kind == DecisionKind.REOPENED:
            if reading == Reading.STUDIES:
                said[study_id] = None
            continue
        network = _answer(row.results)
        open_ended = row.label == NOT_ASSESSABLE or not network
        key = study_id if reading == Reading.STUDIES else row.id
        said[key] = None if open_ended or checkpoint_id is None else (checkpoint_id, month, row.label, network)
    counted: dict[tuple[uuid.UUID, str, str, str], int] = {}
    for item in said.values():
        if item is not None:
            counted[item] = counted.get(item, 0) + 1
    return [Cell(*key, count) for key, count in counted.items()]


def _answer(results: Mapping[str, Any]) -> str:
    """The class that the network's finding amounts to; empty: nothing firm."""
    if results.get("finding") == Finding.NO_TUMOUR:
        return NO_TUMOUR
    return str(results.get("leading_class") or "")
