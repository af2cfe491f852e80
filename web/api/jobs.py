"""API: jobs, their progress (asked or streamed), their receipt, and what can be done to them."""

import uuid
from collections.abc import Iterator
from typing import Any

from flask import Response
from sqlalchemy.orm import joinedload

from db.jobs import Job
from db.queries import audit, results, settle, views
from db.queries import progress as progress_rows
from db.queries.progress import Progress
from db.states import Purpose, Role
from web import blinding, submitting
from web.access import actor, requires, the_user
from web.api import documents, schemas
from web.api.routing import ApiBlueprint
from web.events import stream_job
from web.objects import find_job, find_study, note, note_view
from web.problems import Problem
from web.sentences import english
from web.services import services

blueprint = ApiBlueprint("jobs", __name__, description="Jobs: submissions and how far they are")
CSV_TYPE = "text/csv; charset=utf-8"
CSV_DOC: dict[str, Any] = {"content_type": "text/csv"}


@blueprint.at("GET", "/jobs", problems=(422,))
@blueprint.takes(schemas.JobFilter, location="query")
@blueprint.gives(200, schemas.JobPage)
@requires(Role.SUBMITTER)
def jobs(wanted: dict[str, Any]) -> dict[str, Any]:
    """Jobs, the newest first: a submitter's own, everybody's for others."""
    parts = services()
    viewer = the_user().viewer
    with parts.database.read() as db:
        ids, total = progress_rows.list_jobs(
            db,
            viewer,
            states=wanted["state"],
            text=wanted["text"],
            mine=wanted["mine"],
            page=wanted["page"],
            page_size=wanted["page_size"],
        )
        found = [progress_rows.progress(db, job_id, viewer, parts.settings) for job_id in ids]
    return {
        "jobs": [documents.job_document(job) for job in found if job],
        "page": wanted["page"],
        "page_size": wanted["page_size"],
        "total": total,
    }


@blueprint.at("GET", "/jobs/<uuid:job_id>", problems=(404,))
@blueprint.gives(200, schemas.Job)
@requires(Role.SUBMITTER)
def job(job_id: uuid.UUID) -> dict[str, Any]:
    """A job: state, counts, place in the queue, time remaining as far as it was measured."""
    return documents.job_document(load_progress(job_id))


@blueprint.at("GET", "/jobs/<uuid:job_id>/events", problems=(404, 429))
@blueprint.gives(200, content_type="text/event-stream", description="Server-sent events `progress` and, last, `end`")
@requires(Role.SUBMITTER)
def events(job_id: uuid.UUID) -> Response:
    """The job's document again and again as it changes, as server-sent events.

    The stream ends with the job, or after a minute (then ask again; a browser's EventSource does so by itself).
    """
    with services().database.read() as db:
        find_job(db, job_id)
    return stream_job(job_id, the_user().viewer, documents.job_document, schemas.Job())


@blueprint.at("POST", "/jobs/<uuid:job_id>/cancel", problems=(404, 409))
@blueprint.gives(200, schemas.Job)
@requires(Role.SUBMITTER, header_csrf=True)
def cancel(job_id: uuid.UUID) -> dict[str, Any]:
    """Cancels a job. From this answer on nothing is written for it any more; results that were there stay."""
    cancel_job(job_id)
    return documents.job_document(load_progress(job_id))


@blueprint.at("POST", "/jobs/<uuid:job_id>/retry", problems=(404, 409))
@blueprint.gives(202, schemas.Job)
@requires(Role.SUBMITTER, header_csrf=True)
def retry(job_id: uuid.UUID) -> dict[str, Any]:
    """Takes up again what failed or was cancelled; slices that have their result keep it."""
    retry_job(job_id)
    return documents.job_document(load_progress(job_id))


@blueprint.at("GET", "/jobs/<uuid:job_id>/receipt", problems=(404,))
@blueprint.gives(200, schemas.Receipt)
@requires(Role.SUBMITTER)
def receipt(job_id: uuid.UUID) -> dict[str, Any]:
    """The batch receipt: every received file and what became of it, with one plain sentence each."""
    lines = _receipt(job_id)
    outcomes: dict[str, int] = {}
    for line in lines:
        outcomes[line["outcome"]] = outcomes.get(line["outcome"], 0) + 1
    files = [{**line, "reason": documents.explained(line["reason"], line["detail"])} for line in lines]
    return {"job_id": job_id, "total": len(files), "outcomes": outcomes, "files": files}


@blueprint.at("GET", "/jobs/<uuid:job_id>/receipt.csv", problems=(404,))
@blueprint.gives(200, **CSV_DOC)
@requires(Role.SUBMITTER)
def receipt_csv(job_id: uuid.UUID) -> Response:
    """The batch receipt as CSV."""
    return csv_response(results.receipt_csv(_receipt(job_id), english), f"receipt-{job_id}.csv")


@blueprint.at("GET", "/jobs/<uuid:job_id>/results.csv", problems=(404,))
@blueprint.gives(200, **CSV_DOC)
@requires(Role.SUBMITTER)
def results_csv(job_id: uuid.UUID) -> Response:
    """The results of all studies of a job as CSV, one row a slice."""
    with services().database.read() as db:
        found = find_job(db, job_id, joinedload(Job.checkpoint))
        study_ids = results.studies_of(db, job_id)
    again = found.purpose == Purpose.RECLASSIFICATION and found.checkpoint is not None
    checkpoint = found.checkpoint.digest if found.checkpoint and again else ""
    return csv_response(studies_csv(study_ids, checkpoint), f"results-{job_id}.csv")


def load_progress(job_id: uuid.UUID) -> Progress:
    """The job at this moment. Raises Problem 404 when the user may not see it."""
    parts = services()
    with parts.database.read() as db:
        found = progress_rows.progress(db, job_id, the_user().viewer, parts.settings)
        if found is None:
            find_job(db, job_id)
            raise Problem(404, "not_found", "There is no job of this number.")
    return found


def cancel_job(job_id: uuid.UUID) -> None:
    """Cancels a job. Raises Problem 404, or 409 when it has ended."""
    with services().database.write() as db:
        find_job(db, job_id)
        if not settle.cancel(db, job_id):
            raise Problem(409, "job_ended", "This job has ended already; there is nothing to cancel.")
        audit.record(db, actor(), "job.cancel", object_kind="job", object_id=job_id)


def retry_job(job_id: uuid.UUID) -> None:
    """Retries a job. Raises Problem 404, or 409 when nothing failed or it still runs."""
    parts = services()
    with parts.database.write() as db:
        find_job(db, job_id)
        items = settle.retry(db, job_id, parts.settings)
        if not items:
            raise Problem(409, "nothing_to_retry", "Nothing of this job failed or was cancelled, or it still runs.")
        audit.record(db, actor(), "job.retry", object_kind="job", object_id=job_id)
        ring = [(item.task, item.queue, item.id) for item in items]
    submitting.ring_for(ring)


def studies_csv(study_ids: list[uuid.UUID], checkpoint: str = "") -> Iterator[str]:
    """Studies as CSV; each export is in the audit trail before the first line goes out.

    Args:
        study_ids: The studies.
        checkpoint: Digest of the model whose results are wanted, where it has any; empty: those that are shown.
    """
    with services().database.read() as db:
        blinding.refuse_covered(db, study_ids)
    for study_id in study_ids:
        note_view("study.export", study_id)
    viewer = the_user().viewer
    with services().database.read() as db:
        found = [views.study_view(db, viewer, find_study(db, study_id), checkpoint) for study_id in study_ids]
    return results.study_csv(found, english)


def csv_response(lines: Iterator[str], filename: str) -> Response:
    """A CSV download."""
    response = Response(lines, content_type=CSV_TYPE)
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


def _receipt(job_id: uuid.UUID) -> list[dict[str, Any]]:
    with services().database.read() as db:
        find_job(db, job_id)
    note("job", "job.receipt", job_id)
    with services().database.read() as db:
        return results.receipt_lines(db, job_id, the_user().viewer)
