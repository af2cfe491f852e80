"""Submitting: the page with the drop area, the way without scripts, and the sample cases.

Owns the page and two forms. What a received file becomes is decided in `web.submitting`; the script of the page speaks
with the API's uploads, so that a broken connection costs one file at most. Refuses to read a body into memory.
"""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Response, make_response, render_template, request
from flask_babel import gettext, lazy_gettext

from config.settings import ROOT
from db.states import Priority, Role
from web import sessions, submitting
from web.access import current_user, requires
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.reception import Received, Spooled, receive_form
from web.services import services

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Sample:
    """A case that comes with the software.

    Attributes:
        name: How a form names it.
        folder: Below `examples/`.
        title: Of the card and of the job.
        about: One sentence.
    """

    name: str
    folder: str
    title: Any
    about: Any

    @property
    def files(self) -> list[Path]:
        """Its files; empty in an installation without examples."""
        return sorted(path for path in (EXAMPLES / self.folder).rglob("*") if path.is_file())


SAMPLES = (
    Sample(
        "one", "one/dicom", lazy_gettext("Example one"), lazy_gettext("DICOM, three planes. Its source says: glioma.")
    ),
    Sample(
        "two",
        "two/dicom",
        lazy_gettext("Example two"),
        lazy_gettext("DICOM, three planes. Its source says: meningioma."),
    ),
    Sample(
        "three",
        "three/pictures",
        lazy_gettext("Example three"),
        lazy_gettext("PNG pictures, three planes. Its source says: pituitary tumour."),
    ),
    Sample(
        "four",
        "four/dicom",
        lazy_gettext("Example four"),
        lazy_gettext("A very small study. Its source says: meningioma."),
    ),
    Sample(
        "mixed",
        "mixed",
        lazy_gettext("An untidy folder"),
        lazy_gettext("Good files beside broken and useless ones: shows how each file is accounted for."),
    ),
)


@pages.get("/submit")
@requires(Role.SUBMITTER)
def submit() -> Response:
    """The page."""
    return _page()


@pages.post("/submit")
@requires(Role.SUBMITTER, streamed_form=True)
def submit_form() -> Response:
    """The way without scripts: one multipart form with all files."""
    title = ""
    try:
        with receive_form() as received:
            user = current_user()
            if user is None or user.via != "token":
                sessions.check_csrf(from_form=False, streamed=received.fields.get(sessions.CSRF_FIELD))
            title = received.fields.get("title", "").strip()
            job_id = submitting.submit(received, title=title, priority=_priority(received.fields.get("priority")))
    except Problem as problem:
        if problem.status not in (400, 413, 422):
            raise
        return _page(error=sentence(problem.template, dict(problem.facts)), title=title, status=problem.status)
    return see("pages.job", job_id=job_id)


@pages.post("/submit/sample")
@requires(Role.SUBMITTER)
def submit_sample() -> Response:
    """Submits one of the sample cases."""
    wanted = request.form.get("sample", "")
    sample = next((sample for sample in SAMPLES if sample.name == wanted and sample.files), None)
    if sample is None:
        raise Problem(404, "no_sample", "There is no such sample case in this installation.")
    return see("pages.job", job_id=_send(sample))


def _send(sample: Sample) -> uuid.UUID:
    with services().blobs.workspace() as folder:
        received = Received()
        for number, path in enumerate(sample.files):
            content = path.read_bytes()
            place = folder / str(number)
            place.write_bytes(content)
            shown = f"{sample.name}/{path.relative_to(EXAMPLES / sample.folder).as_posix()}"
            received.files.append(Spooled(shown, hashlib.sha256(content).hexdigest(), len(content), place))
        return submitting.submit(received, title=str(sample.title), priority=Priority.NORMAL)


def _priority(wanted: str | None) -> Priority:
    try:
        return Priority(wanted or Priority.NORMAL)
    except ValueError:
        raise Problem(422, "priority_unknown", "Choose one of the offered priorities.") from None


def _page(*, error: str = "", title: str = "", status: int = 200) -> Response:
    settings = services().settings
    page = render_template(
        "submit.html",
        error=error,
        title=title,
        priorities=list(Priority),
        samples=[(sample, len(files)) for sample in SAMPLES if (files := sample.files)],
        nowhere=uuid.UUID(int=0),
        deidentify=settings.deidentify,
        refuses_text=settings.deidentify_burned_in == "refuse",
        words=_words(),
        # The way without scripts sends everything in one request, the other way one file a request.
        limits={
            "file": min(settings.max_file_bytes, settings.max_request_bytes),
            "files": settings.max_upload_files,
            "total": settings.max_upload_bytes,
            "request": min(settings.max_request_bytes, settings.max_upload_bytes),
        },
    )
    return make_response(page, status)


def _words() -> dict[str, str]:
    """What the page's script says, in the reader's language; `{places}` are filled there."""
    return {
        "waiting": gettext("waiting"),
        "sending": gettext("sending"),
        "sent": gettext("received"),
        "failed": gettext("not sent"),
        "empty": gettext("empty file (0 bytes)"),
        "file_too_large": gettext("Larger than the {limit} accepted for one file; it is not sent."),
        "too_many": gettext(
            "These are {count} files; at most {limit} are accepted in one submission. Remove some, or pack them into a "
            "zip archive."
        ),
        "too_large": gettext(
            "Together these files have {size}; at most {limit} are accepted in one submission. Remove some."
        ),
        "unreadable": gettext(
            "This file cannot be read any more: it was moved, changed or removed. Remove it here and choose it again."
        ),
        "counts": gettext("Files: {count}, {size}"),
        "progress": gettext("Files: {done} of {count}, {sent} of {size}"),
        "speed": gettext("{speed}/s"),
        "more": gettext("… and {count} more"),
        "remove": gettext("Remove {name}"),
        "send": gettext("Send"),
        "go_on": gettext("Go on"),
        "again": gettext("Try again what was not sent"),
        "starting": gettext("The upload begins."),
        "paused": gettext("Paused. What has arrived stays there; go on when you like."),
        "cancelled": gettext("Cancelled. Nothing was submitted; the list is still here."),
        "lost": gettext("The connection is lost. It is tried again in {seconds} s; nothing that has arrived is lost."),
        "busy": gettext("The server is busy. It is tried again in {seconds} s."),
        "trying": gettext("Trying again …"),
        "logged_out": gettext("You are logged out. Log in again in a new tab, then go on here; nothing is lost."),
        "disk_full": gettext(
            "The server's disk is full. Tell the administrator; when there is room again, go on here. "
            "Nothing that has arrived is lost."
        ),
        "leftover": gettext(
            "Files that were not sent: {count}. The reasons stand below. Try them again, or submit the others without "
            "them."
        ),
        "finishing": gettext("Everything has arrived. The job is being made …"),
        "done": gettext("Submitted. The job's page opens."),
        "nothing": gettext("Choose at least one file, folder or zip archive first."),
        "no_files_dropped": gettext("What was dropped holds no file."),
        "reading": gettext("Reading the folders …"),
        "arrived": gettext(
            "An earlier upload from this browser was broken off. Files that have arrived: {count} ({size})."
        ),
        "choose_again": gettext("Choose the same files or folder again: only what is missing will be sent."),
        "server_error": gettext("The server met an error ({status}). Try again; if it stays, tell the administrator."),
    }
