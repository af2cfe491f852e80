"""Documents of the API built from rows: jobs, uploads, slices, with links to what belongs to them.

Owns the links and the English sentences beside machine-readable codes. The values come from `db.queries`.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from flask import url_for

from db.base import utc_now
from db.predictions import Prediction
from db.queries.progress import Progress
from db.queries.reviews import Decision
from db.queries.submissions import Sent
from db.queries.views import StudyView
from db.registry import Withdrawal
from db.reviews import NOT_ASSESSABLE, WITHDRAWN
from db.states import Priority, SliceState, UploadState
from db.uploads import Upload
from web.sentences import english

_KINDS = {NOT_ASSESSABLE: "not_assessable", WITHDRAWN: "taken_back"}


def explained(code: str, detail: Mapping[str, Any] | None = None) -> dict[str, str] | None:
    """A code with its sentence; None without a code."""
    return {"code": code, "sentence": english(code, detail)} if code else None


def job_document(progress: Progress) -> dict[str, Any]:
    """The document of a job."""
    links = {
        "self": url_for("jobs.job", job_id=progress.id),
        "events": url_for("jobs.events", job_id=progress.id),
        "receipt": url_for("jobs.receipt", job_id=progress.id),
        "receipt_csv": url_for("jobs.receipt_csv", job_id=progress.id),
    }
    if progress.slices[SliceState.DONE]:
        links["results_csv"] = url_for("jobs.results_csv", job_id=progress.id)
    if progress.may_cancel:
        links["cancel"] = url_for("jobs.cancel", job_id=progress.id)
    if progress.may_retry:
        links["retry"] = url_for("jobs.retry", job_id=progress.id)
    return {
        "id": progress.id,
        "title": progress.title,
        "state": progress.state,
        "ended": progress.ended,
        "priority": progress.priority,
        "purpose": progress.purpose,
        "sent_by": progress.sent_by,
        "created_at": progress.created_at,
        "finished_at": progress.finished_at,
        "files": {"sent": progress.files_sent, "opened": progress.files_opened, "outcomes": progress.outcomes},
        "slices": {"total": progress.slices_total, **{state.value: n for state, n in progress.slices.items()}},
        "fraction": round(progress.fraction, 4),
        "jobs_ahead": progress.jobs_ahead,
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
        "waits_for": explained(f"waiting_for_{progress.waits_for}" if progress.waits_for else ""),
        "failure": explained(progress.failure_code, progress.failure_detail),
        "checkpoint_digest": progress.checkpoint_digest,
        "duplicate_of": progress.duplicate_of_id,
        "studies": [
            {"id": study_id, "title": title, "links": study_links(study_id)} for study_id, title in progress.studies
        ],
        "links": links,
    }


def study_links(study_id: uuid.UUID) -> dict[str, str]:
    """Where a study's documents are."""
    return {
        "self": url_for("studies.study", study_id=study_id),
        "results": url_for("studies.study_results", study_id=study_id),
        "results_csv": url_for("studies.results_csv", study_id=study_id),
    }


def withdrawal_document(withdrawal: Withdrawal | None) -> dict[str, Any] | None:
    """Why and since when results are not to be relied on; None when they may."""
    return {"since": withdrawal.created_at, "reason": withdrawal.reason} if withdrawal else None


def model_document(view: StudyView) -> dict[str, Any] | None:
    """The checkpoint whose results of a study are shown."""
    if view.checkpoint is None:
        return None
    found = view.checkpoint
    return {
        "name": found.name,
        "digest": found.digest,
        "network": found.network,
        "withdrawn": withdrawal_document(view.withdrawal),
    }


def model_choices(view: StudyView) -> list[dict[str, Any]]:
    """Every checkpoint with results of a study, the one that is shown unless another is asked for first."""
    return [
        {
            "name": item.checkpoint.name,
            "digest": item.checkpoint.digest,
            "network": item.checkpoint.network,
            "withdrawn": withdrawal_document(item.withdrawal),
            "slices": item.slices,
        }
        for item in view.checkpoints
    ]


def prediction_document(prediction: Prediction, withdrawal: Withdrawal | None = None) -> dict[str, Any]:
    """The document of a prediction; `withdrawal` of its checkpoint."""
    number = prediction.id
    return {
        "id": number,
        "class_name": prediction.class_name,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
        "abstention": prediction.abstention,
        "guard": prediction.guard,
        "heatmap_warning": prediction.heatmap_warning,
        "engine": prediction.engine,
        "code_version": prediction.code_version,
        "created_at": prediction.created_at,
        "withdrawn": withdrawal_document(withdrawal),
        "links": {
            "heatmap": url_for("pictures.heatmap", prediction_id=number),
            "overlay": url_for("pictures.overlay", prediction_id=number),
            "receipt": url_for("predictions.receipt", prediction_id=number),
            "reproduce": url_for("predictions.reproduce", prediction_id=number),
        },
    }


def slice_document(row: Mapping[str, Any], withdrawal: Withdrawal | None = None) -> dict[str, Any]:
    """The document of a slice, from a row of `db.queries.results.slice_rows`."""
    found: Prediction | None = row["prediction"]
    return {
        **{name: value for name, value in row.items() if name not in ("prediction", "failure_code", "failure_detail")},
        "decision": decision_document(row["decision"]) if row["decision"] else None,
        "id": row["slice_id"],
        "failure": explained(row["failure_code"], row["failure_detail"]),
        "prediction": prediction_document(found, withdrawal) if found else None,
        "links": {
            "image": url_for("pictures.image", slice_id=row["slice_id"]),
            "values": url_for("pictures.values", slice_id=row["slice_id"]),
            "decisions": url_for("decisions.decisions", slice_id=row["slice_id"]),
        },
    }


def decision_document(found: Decision) -> dict[str, Any]:
    """The document of a clinician's decision."""
    return {
        "id": found.id,
        "label": "" if found.label in (NOT_ASSESSABLE, WITHDRAWN) else found.label,
        "kind": _KINDS.get(found.label, "class"),
        "decided_by": found.by,
        "note": found.note,
        "decided_at": found.at,
    }


def upload_document(upload: Upload, files: list[Sent], job_id: uuid.UUID | None) -> dict[str, Any]:
    """The document of an upload."""
    state = UploadState(upload.state)
    if state == UploadState.RECEIVING and upload.expires_at <= utc_now():
        state = UploadState.ABANDONED
    links = {"self": url_for("uploads.upload", upload_id=upload.id)}
    if state == UploadState.RECEIVING:
        links["files"] = url_for("uploads.put_file", upload_id=upload.id)
        links["complete"] = url_for("uploads.complete", upload_id=upload.id)
    if job_id:
        links["job"] = url_for("jobs.job", job_id=job_id)
    return {
        "id": upload.id,
        "title": upload.title,
        "priority": Priority(upload.priority),
        "state": str(state),
        "expires_at": upload.expires_at,
        "files": files,
        "job_id": job_id,
        "links": links,
    }
