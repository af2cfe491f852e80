"""Results as rows: of a study's slices, of a batch receipt, and the receipt of one prediction; as data and as CSV.

Owns the columns, so that page, API and client speak of the same things, and the protection of spreadsheets: a cell
that a spreadsheet would run as a formula is preceded by an apostrophe. Accession number and Study Instance UID stand
in every row for those who may see identity; research use only stands in every row for everybody.

Refuses sentences: a reason is a code with facts; `web` puts it into words (and hands a function for that to the CSV).
"""

import csv
import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.jobs import Job, JobStudy, ReceivedFile
from db.predictions import Heatmap, Prediction
from db.queries import withdrawals
from db.queries.reviews import Decision
from db.queries.views import StudyView
from db.queries.visibility import Viewer, identity_visible_studies
from db.states import JOB_ENDED
from db.studies import Instance, Series, Study, StudyIdentity

NOTICE = "Research use only. Not for diagnosis or treatment decisions."
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")

Sentence = Callable[[str, Mapping[str, Any]], str]

STUDY_COLUMNS = (
    "study_id",
    "study_instance_uid",
    "accession_number",
    "patient_id",
    "study_date",
    "series_number",
    "series_description",
    "series_instance_uid",
    "sop_instance_uid",
    "path",
    "frame",
    "instance_number",
    "plane",
    "position_mm",
    "state",
    "prediction",
    "probability",
)
ABSTAINED_COLUMNS = ("abstained",)
"""Why the model does not answer; prediction and probabilities of the row are then what the network said, no result."""
STUDY_END_COLUMNS = ("checkpoint", "engine", "code_version", "predicted_at", "error", "prediction_id", "notice")
DECISION_COLUMNS = ("confirmed_label", "confirmed_by", "confirmed_at")
"""What a clinician decided: a class, `not_assessable`, or empty when nobody did."""
WITHDRAWN_COLUMNS = ("withdrawn", "untrained_plane")
"""Why the model behind the result was withdrawn, and the slice's plane when it was not trained on it; else empty."""
RECEIPT_COLUMNS = (
    "job_id",
    "sequence",
    "path",
    "size_bytes",
    "sha256",
    "outcome",
    "reason",
    "sentence",
    "slices",
    "study_id",
    "study_instance_uid",
    "accession_number",
    "notice",
)


def slice_rows(view: StudyView) -> list[dict[str, Any]]:
    """One row a slice, series by series in anatomical order; values of `STUDY_COLUMNS` and the prediction itself."""
    study, identity = view.study, view.identity
    rows = []
    for series in view.series:
        for item in series.slices:
            instance, prediction = item.instance, item.prediction
            rows.append(
                {
                    "slice_id": instance.id,
                    "study_id": study.id,
                    "study_instance_uid": study.study_instance_uid or "",
                    "accession_number": identity.accession_number if identity else "",
                    "patient_id": identity.patient_id if identity else "",
                    "study_date": study.study_date,
                    "series_id": series.series.id,
                    "series_number": series.series.number,
                    "series_description": series.series.description,
                    "series_instance_uid": series.series.series_instance_uid or "",
                    "sop_instance_uid": instance.sop_instance_uid or "",
                    "path": instance.path,
                    "frame": instance.frame_index,
                    "instance_number": instance.instance_number,
                    "plane": instance.plane or series.series.plane,
                    "position_mm": instance.position_mm,
                    "rows": instance.rows,
                    "columns": instance.columns,
                    "text_risk": instance.text_risk,
                    "state": str(item.state),
                    "failure_code": "" if prediction else item.failure_code,
                    "failure_detail": {} if prediction else item.failure_detail,
                    "prediction": prediction,
                    "decision": view.labels.get(instance.id),
                    "untrained_plane": (instance.plane or "") if item.untrained else "",
                }
            )
    return rows


def study_csv(views: Iterable[StudyView], sentence: Sentence) -> Iterator[str]:
    """Studies as CSV text, line by line: `STUDY_COLUMNS`, a column a class, `STUDY_END_COLUMNS`, `DECISION_COLUMNS`."""
    views = list(views)
    classes: dict[str, None] = {}
    for view in views:
        for row in slice_rows(view):
            classes.update(dict.fromkeys(row["prediction"].probabilities if row["prediction"] else ()))
    names = [f"probability_{name}" for name in classes]
    ends = (*STUDY_END_COLUMNS, *DECISION_COLUMNS, *WITHDRAWN_COLUMNS, *ABSTAINED_COLUMNS)
    yield csv_line([*STUDY_COLUMNS, *names, *ends])
    for view in views:
        digest = view.checkpoint.digest if view.checkpoint else ""
        withdrawn = view.withdrawal.reason if view.withdrawal else ""
        for row in slice_rows(view):
            found: Prediction | None = row["prediction"]
            error = sentence(row["failure_code"], row["failure_detail"]) if row["failure_code"] else ""
            cells = [*(row[name] for name in STUDY_COLUMNS[:-2])]
            decision = _decision(row["decision"])
            if found is None:
                end = ["", "", "", "", error, ""]
                marks = ["", row["untrained_plane"], ""]
                yield csv_line([*cells, "", "", *("" for _ in classes), *end, NOTICE, *decision, *marks])
                continue
            probabilities = [_digits(found.probabilities.get(name)) for name in classes]
            end = [digest, found.engine, found.code_version, found.created_at.isoformat(), "", str(found.id)]
            yield csv_line(
                [
                    *cells,
                    found.class_name,
                    _digits(found.probability),
                    *probabilities,
                    *end,
                    NOTICE,
                    *decision,
                    withdrawn,
                    row["untrained_plane"],
                    found.abstention,
                ]
            )


def studies_of(session: Session, job_id: uuid.UUID) -> list[uuid.UUID]:
    """The studies to which a job contributed, in a stable order."""
    return list(
        session.scalars(
            select(Study.id)
            .join(JobStudy, JobStudy.study_id == Study.id)
            .where(JobStudy.job_id == job_id)
            .order_by(Study.title, Study.id)
        )
    )


def receipt_lines(session: Session, job_id: uuid.UUID, viewer: Viewer) -> list[dict[str, Any]]:
    """Every line of a job's receipt in the order of reading; keys of `RECEIPT_COLUMNS` but `sentence`, and `detail`."""
    rows = session.execute(
        select(ReceivedFile, Study.study_instance_uid, StudyIdentity.accession_number)
        .outerjoin(Study, Study.id == ReceivedFile.study_id)
        .outerjoin(StudyIdentity, StudyIdentity.study_id == ReceivedFile.study_id)
        .where(ReceivedFile.job_id == job_id)
        .order_by(ReceivedFile.sequence, ReceivedFile.id)
    ).all()
    studies = list({line.study_id for line, _, _ in rows if line.study_id})
    open_ids = identity_visible_studies(session, viewer, studies)
    return [
        {
            "job_id": line.job_id,
            "sequence": line.sequence,
            "path": line.path,
            "size_bytes": line.size_bytes,
            "sha256": line.sha256,
            "outcome": line.outcome,
            "reason": line.reason,
            "detail": line.detail,
            "slices": line.slices,
            "study_id": line.study_id,
            "study_instance_uid": uid or "",
            "accession_number": (accession or "") if line.study_id in open_ids else "",
            "notice": NOTICE,
        }
        for line, uid, accession in rows
    ]


def receipt_csv(lines: Sequence[Mapping[str, Any]], sentence: Sentence) -> Iterator[str]:
    """A receipt as CSV text, line by line."""
    yield csv_line(RECEIPT_COLUMNS)
    for line in lines:
        cells = {**line, "sentence": sentence(line["reason"], line["detail"])}
        yield csv_line([cells[name] for name in RECEIPT_COLUMNS])


def prediction_receipt(session: Session, prediction: Prediction, viewer: Viewer) -> dict[str, Any]:
    """All that is needed to say how one result came about, and to repeat it."""
    instance = session.get_one(Instance, prediction.instance_id)
    series = session.get_one(Series, instance.series_id)
    study = session.get_one(Study, instance.study_id)
    checkpoint = prediction.checkpoint
    heatmap = session.get(Heatmap, prediction.id)
    identity = None
    if identity_visible_studies(session, viewer, [study.id]):
        identity = session.get(StudyIdentity, study.id)
    manifest = checkpoint.manifest
    withdrawal = withdrawals.marks(session, [checkpoint.id]).get(checkpoint.id)
    return {
        "prediction_id": prediction.id,
        "created_at": prediction.created_at,
        "class_name": prediction.class_name,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
        "scores": prediction.scores,
        "abstention": prediction.abstention,
        "guard": prediction.guard,
        "input": {
            "sha256": prediction.input_sha256,
            "kind": instance.kind,
            "frame": instance.frame_index,
            "size_bytes": instance.size_bytes,
            "rows": instance.rows,
            "columns": instance.columns,
            "sop_instance_uid": instance.sop_instance_uid or "",
            "series_instance_uid": series.series_instance_uid or "",
            "study_instance_uid": study.study_instance_uid or "",
            "accession_number": identity.accession_number if identity else "",
        },
        "model": {
            "name": checkpoint.name,
            "digest": checkpoint.digest,
            "network": checkpoint.network,
            "class_names": checkpoint.class_names,
            "temperature": manifest.get("temperature"),
            "dataset_fingerprint": manifest.get("dataset_fingerprint") or manifest.get("data_fingerprint"),
            "withdrawn": {"since": withdrawal.created_at.isoformat(), "reason": withdrawal.reason}
            if withdrawal
            else None,
        },
        "preprocessing": manifest.get("preprocessing"),
        "heatmap": None
        if heatmap is None
        else {
            "box": [heatmap.box_x0, heatmap.box_y0, heatmap.box_x1, heatmap.box_y1],
            "bytes": len(heatmap.png),
            "head_share": prediction.head_share,
            "warning": prediction.heatmap_warning,
        },
        "engine": prediction.engine,
        "code_version": prediction.code_version,
        "study_id": study.id,
        "slice_id": instance.id,
        "notice": NOTICE,
    }


def job_for(session: Session, prediction: Prediction) -> uuid.UUID | None:
    """A job under whose name a prediction can be repeated: the one that made it, else another of the same study."""
    if prediction.job_id is not None:
        return prediction.job_id
    return session.scalar(
        select(Job.id)
        .join(JobStudy, JobStudy.job_id == Job.id)
        .join(Instance, Instance.study_id == JobStudy.study_id)
        .where(Instance.id == prediction.instance_id, Job.state.in_(JOB_ENDED))
        .order_by(Job.created_at.desc())
        .limit(1)
    )


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV (RFC 4180), every text cell made harmless to spreadsheets."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([safe_cell(cell) for cell in cells])
    return out.getvalue()


def safe_cell(value: object) -> object:
    """A cell's value; text that a spreadsheet would take for a formula is preceded by an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(FORMULA_STARTS) else value
    return value


def _decision(found: Decision | None) -> tuple[str, str, str]:
    """Values of `DECISION_COLUMNS`."""
    return (found.label or "not_assessable", found.by, found.at.isoformat()) if found else ("", "", "")


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
