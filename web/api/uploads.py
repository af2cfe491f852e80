"""API: submitting in one request, or in many that can be taken up again after a broken connection."""

import uuid
from typing import Any

from flask import request, url_for

from db.base import utc_now
from db.queries import submissions
from db.states import Priority, Role, UploadState
from web import submitting
from web.access import requires, the_user
from web.api import documents, schemas
from web.api.jobs import load_progress
from web.api.routing import ApiBlueprint
from web.objects import find_upload
from web.problems import Problem
from web.reception import clean_path, receive_form, receive_raw
from web.services import services

blueprint = ApiBlueprint("uploads", __name__, description="Sending studies")

BODY_PROBLEMS = (400, 409, 413, 415, 422, 507)
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
LOCATION = {"Location": {"description": "Address of the job", "schema": {"type": "string"}}}
FORM_BODY = {
    "requestBody": {
        "required": True,
        "description": "Files of one or several studies, streamed to disk. The filename of a part may be a relative "
        "path; a field `paths` before a file names it instead.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "paths": {"type": "array", "items": {"type": "string"}},
                        "title": {"type": "string", "maxLength": 200},
                        "priority": {"type": "string", "enum": [priority.value for priority in Priority]},
                    },
                }
            },
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
FILE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "in": "header",
            "name": "X-Content-SHA256",
            "required": False,
            "description": "SHA-256 of the file, 64 hexadecimal digits; 422 when what arrived has another one",
            "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
        }
    ],
}


@blueprint.at("POST", "/studies", problems=BODY_PROBLEMS, doc=FORM_BODY)
@blueprint.takes(schemas.SubmissionQuery, location="query")
@blueprint.gives(202, schemas.Job, headers=LOCATION, description="Received, safely stored, and queued")
@requires(Role.SUBMITTER, header_csrf=True)
def submit(query: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Submits files in one request.

    Either `multipart/form-data` with any number of files, or one zip archive as `application/zip`; title and priority
    as form fields or in the query. When the answer is 202 everything is stored and will be worked on, whatever happens
    to the server afterwards.
    """
    title, priority = query["title"], query["priority"]
    if request.mimetype in ZIP_TYPES:
        with receive_raw(query["filename"]) as received:
            received.files = [spooled for spooled in received.files if spooled.size_bytes]
            job_id = submitting.submit(received, title=title, priority=priority)
    else:
        with receive_form() as received:
            title = received.fields.get("title", title).strip()
            job_id = submitting.submit(received, title=title, priority=_priority(received.fields, priority))
    return _accepted(job_id)


@blueprint.at("POST", "/uploads", problems=(422,))
@blueprint.takes(schemas.NewUpload)
@blueprint.gives(201, schemas.Upload)
@requires(Role.SUBMITTER, header_csrf=True)
def start(wanted: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Starts an upload of several requests: put files, then complete it."""
    parts = services()
    with parts.database.write() as db:
        upload = submissions.open_upload(
            db,
            the_user().id,
            title=wanted["title"].strip(),
            priority=wanted["priority"],
            expiry_s=parts.settings.upload_expiry_s,
        )
    document = documents.upload_document(upload, [], None)
    return document, 201, {"Location": document["links"]["self"]}


@blueprint.at("GET", "/uploads/<uuid:upload_id>", problems=(404,))
@blueprint.gives(200, schemas.Upload)
@requires(Role.SUBMITTER)
def upload(upload_id: uuid.UUID) -> dict[str, Any]:
    """An upload and what has arrived of it: after a broken connection, send what is missing."""
    return _document(upload_id)


@blueprint.at("PUT", "/uploads/<uuid:upload_id>/files", problems=(400, 404, 409, 413, 422, 507), doc=FILE_BODY)
@blueprint.takes(schemas.FilePath, location="query")
@blueprint.gives(200, schemas.UploadedFile)
@requires(Role.SUBMITTER, header_csrf=True)
def put_file(query: dict[str, Any], upload_id: uuid.UUID) -> dict[str, Any]:
    """Sends one file; the same path sent again replaces it. The path is cleaned for display, as the answer shows."""
    with services().database.read() as db:
        find_upload(db, upload_id, receiving=True)
    expected = request.headers.get("X-Content-SHA256", "").lower()
    with receive_raw(query["path"]) as received:
        spooled = received.files[0]
        if expected and expected != spooled.sha256:
            raise Problem(
                422,
                "sha256_mismatch",
                "What arrived has the SHA-256 %(received)s; expected %(expected)s. It was damaged on the way: send it "
                "again.",
                facts={"received": spooled.sha256, "expected": expected[:80]},
            )
        submitting.add(upload_id, received)
    return {"path": clean_path(query["path"]), "sha256": spooled.sha256, "size_bytes": spooled.size_bytes}


@blueprint.at("POST", "/uploads/<uuid:upload_id>/files", problems=(404, *BODY_PROBLEMS), doc=FORM_BODY)
@blueprint.gives(200, schemas.Upload)
@requires(Role.SUBMITTER, header_csrf=True)
def add_files(upload_id: uuid.UUID) -> dict[str, Any]:
    """Sends several files at once as `multipart/form-data`."""
    with services().database.read() as db:
        find_upload(db, upload_id, receiving=True)
    with receive_form() as received:
        submitting.add(upload_id, received)
    return _document(upload_id)


@blueprint.at("POST", "/uploads/<uuid:upload_id>/complete", problems=(400, 404, 409))
@blueprint.gives(202, schemas.Job, headers=LOCATION, description="Safely stored, and queued")
@requires(Role.SUBMITTER, header_csrf=True)
def complete(upload_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Makes a job of an upload. May be asked again: the same upload always names the same job."""
    return _accepted(submitting.complete(upload_id))


@blueprint.at("DELETE", "/uploads/<uuid:upload_id>", problems=(404, 409))
@blueprint.gives(204)
@requires(Role.SUBMITTER)
def give_up(upload_id: uuid.UUID) -> None:
    """Gives an upload up; what has arrived is swept away."""
    with services().database.write() as db:
        found = find_upload(db, upload_id, lock=True)
        if found.state == UploadState.COMPLETED:
            raise Problem(409, "upload_completed", "This upload has become a job; cancel the job instead.")
        found.expires_at = utc_now()  # housekeeping sweeps expired uploads and the blobs that only they name


def _document(upload_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        found = find_upload(db, upload_id)
        return documents.upload_document(found, submissions.files_of(db, upload_id), submissions.job_of(db, upload_id))


def _accepted(job_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    document = documents.job_document(load_progress(job_id))
    return document, 202, {"Location": url_for("jobs.job", job_id=job_id)}


def _priority(fields: dict[str, str], otherwise: Priority) -> Priority:
    given = fields.get("priority", "").strip()
    if not given:
        return otherwise
    try:
        return Priority(given)
    except ValueError:
        raise Problem(
            422,
            "invalid_fields",
            "Received the priority %(received)s; expected one of %(expected)s.",
            facts={"received": given[:40], "expected": ", ".join(priority.value for priority in Priority)},
        ) from None
