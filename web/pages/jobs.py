"""The list of jobs, a job with its progress and batch receipt, and what can be done to it.

Owns the two pages and the fragments that keep them live (fetched again while something runs). The receipt's counts add
up to the files received, by construction: they are counts of its lines.
"""

import uuid
from typing import Any

from flask import Response, abort, flash, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext
from sqlalchemy.orm import Session, joinedload

from db.jobs import Job, ReceivedFile
from db.queries import audit, heartbeats, settle, views
from db.states import JOB_ENDED, JobState, Role
from web import blinding
from web.access import actor, requires, the_user
from web.objects import find_job, note_identities
from web.pages.blueprint import pages
from web.services import services

FRAGMENT = "HX-Request"


@pages.get("/jobs")
@requires(Role.SUBMITTER)
def jobs() -> str:
    """The list of jobs; only its table when htmx asks."""
    mine = request.args.get("mine") == "1"
    with services().database.read() as db:
        page = views.jobs_page(
            db,
            the_user().viewer,
            state=request.args.get("state", ""),
            text=request.args.get("text", "").strip()[:100],
            mine=mine,
            number=_number(),
        )
        waits = {row.job.id: heartbeats.waiting(db, row.job.id) for row in page.rows if row.is_running}
    template = "jobs/_table.html" if request.headers.get(FRAGMENT) else "jobs/list.html"
    return render_template(template, page=page, waits=waits, states=list(JobState))


@pages.get("/jobs/<uuid:job_id>")
@requires(Role.SUBMITTER)
def job(job_id: uuid.UUID) -> str:
    """One job; only its progress when htmx asks."""
    with services().database.read() as db:
        found = find_job(db, job_id, joinedload(Job.checkpoint))
        viewer = the_user().viewer
        context: dict[str, Any] = {
            "job": found,
            "running": JobState(found.state) not in JOB_ENDED,
            "slices": views.slice_counts(db, [job_id])[job_id],
            "waiting": heartbeats.waiting(db, job_id),
            "counts": views.receipt_counts(db, job_id),
            "studies": blinding.cover_rows(db, views.studies_of_job(db, viewer, job_id)),
            "failures": views.failed_slices(db, job_id),
            "duplicate_of": views.visible_job(db, viewer, found.duplicate_of_id),
        }
        fragment = bool(request.headers.get(FRAGMENT))
        if not fragment:
            context["sender"] = views.sender_name(db, found)
            context["receipt"] = _receipt(db, job_id)
            context["risks"] = views.text_risks(db, context["receipt"].rows)
    note_identities(context["studies"])
    if fragment:
        return render_template("jobs/_progress.html", **context)
    return render_template("jobs/job.html", **context)


@pages.get("/jobs/<uuid:job_id>/receipt")
@requires(Role.SUBMITTER)
def job_receipt(job_id: uuid.UUID) -> str:
    """The batch receipt of a job as a fragment, fetched until its files are open."""
    with services().database.read() as db:
        found = find_job(db, job_id)
        receipt = _receipt(db, job_id)
        return render_template(
            "jobs/_receipt.html",
            job=found,
            counts=views.receipt_counts(db, job_id),
            receipt=receipt,
            risks=views.text_risks(db, receipt.rows),
        )


@pages.post("/jobs/<uuid:job_id>/cancel")
@requires(Role.SUBMITTER)
def cancel_job(job_id: uuid.UUID) -> Response:
    """Cancels a job and comes back to it."""
    with services().database.write() as db:
        find_job(db, job_id)
        cancelled = settle.cancel(db, job_id)
        if cancelled:
            audit.record(db, actor(), "job.cancel", object_kind="job", object_id=job_id)
    if cancelled:
        flash(gettext("The job was cancelled. What was finished before is kept; you can take it up again."), "good")
    else:
        flash(gettext("The job had already ended; nothing was changed."), "warn")
    return _to(job_id)


@pages.post("/jobs/<uuid:job_id>/retry")
@requires(Role.SUBMITTER)
def retry_job(job_id: uuid.UUID) -> Response:
    """Takes failed and cancelled slices up again and comes back to the job."""
    parts = services()
    with parts.database.write() as db:
        find_job(db, job_id)
        items = settle.retry(db, job_id, parts.settings)
        again = sum(item.slices for item in items)
        if items:
            audit.record(db, actor(), "job.retry", object_kind="job", object_id=job_id)
    if items:
        parts.doorbell.ring_committed(parts.database, [item.id for item in items[:8]])
        message = ngettext("%(num)d slice is tried again.", "%(num)d slices are tried again.", again)
        flash(message if again else gettext("The files are opened again."), "good")
    else:
        flash(gettext("There is nothing to try again in this job."), "warn")
    return _to(job_id)


def _receipt(db: Session, job_id: uuid.UUID) -> views.Page[ReceivedFile]:
    page = views.receipt_page(db, job_id, outcome=request.args.get("outcome", ""), number=_number())
    page.query["job_id"] = job_id  # for the addresses of the other pages
    return page


def _number() -> int:
    try:
        return int(request.args.get("page", "1"))
    except ValueError:
        abort(404)


def _to(job_id: uuid.UUID) -> Response:
    response = redirect(url_for("pages.job", job_id=job_id), 303)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own class, for the type checker
    return response
