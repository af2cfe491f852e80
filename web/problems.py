"""Errors as the outside sees them: RFC 9457 problem documents for programs, readable pages for people.

Owns the catalogue of problems (status, code, title), the one map from exceptions to them, and which of the two forms
an answer takes. A message never holds patient data, a path of this machine, or the text of an unexpected exception.

The pages hang their own page on it: `app.extensions["neurosight.error_page"] = function(Problem) -> response body`.
"""

import http
import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, make_response, render_template_string, request
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from db.blobs import BlobMissing, StoreFull
from db.queries.refusals import ActionRefused
from db.states import IllegalTransition

ERROR_PAGE = "neurosight.error_page"
_log = logging.getLogger(__name__)

BARE_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ problem.title }}</title><h1>{{ problem.title }}</h1><p>{{ problem.detail }}</p>
<p>{{ problem.status }} {{ problem.code }}{% if request_id %}, request {{ request_id }}{% endif %}</p>
<p><a href="/">NeuroSight</a></p></html>"""


class Problem(Exception):
    """An answer other than success.

    Args:
        status: HTTP status.
        code: Stable machine-readable name, `lower_snake_case`.
        detail: One or two English sentences: what was received, what is expected, how to fix it; may hold
            `%(name)s` places, filled from `facts`, so that pages can translate it.
        title: Short English title; by default the status's phrase.
        facts: Further members of the document: numbers, ids, names of fields.
        headers: Further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        title: str = "",
        facts: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.code = status, code
        self.template = detail
        self.facts = dict(facts or {})
        self.title = title or _TITLES.get(status) or http.HTTPStatus(status).phrase
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    @property
    def detail(self) -> str:
        """The English sentences, filled in."""
        return self.template % self.facts if self.facts and "%(" in self.template else self.template

    def document(self) -> dict[str, Any]:
        """The RFC 9457 document."""
        return {
            **self.facts,
            "type": f"urn:neurosight:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": g.get("request_id", ""),
        }


_TITLES = {
    400: "The request was not understood",
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    406: "No such form",
    409: "Not possible now",
    413: "Too large",
    415: "Wrong kind of content",
    422: "Not valid",
    429: "Too many attempts",
    500: "Something went wrong here",
    503: "Busy",
    507: "The disk is full",
}

_HTTP_DETAILS = {
    400: ("bad_request", "The request is malformed. Check its form and send it again."),
    404: ("not_found", "There is nothing at this address, or it is not yours to see."),
    405: ("method_not_allowed", "This address does not know the method %(method)s."),
    413: ("too_large", "The request is larger than the %(limit_bytes)s bytes accepted here."),
    415: ("unsupported_media_type", "This content type is not accepted here."),
}


def init_app(app: Flask) -> None:
    """Installs the error map."""
    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(StoreFull, _store_full)
    app.register_error_handler(BlobMissing, _blob_missing)
    app.register_error_handler(IllegalTransition, _illegal_transition)
    app.register_error_handler(ActionRefused, _action_refused)
    app.register_error_handler(DBAPIError, database_error)
    app.register_error_handler(Exception, _unexpected)


def for_program() -> bool:
    """Whether the answer to this request is for a program (JSON) rather than for a person (HTML)."""
    if request.path.startswith(("/api/", "/dicomweb/", "/health/", "/metrics")):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"], "text/html") == "application/json"


def answer(problem: Problem) -> Response:
    """The response to a problem, in the form that fits the request."""
    if for_program():
        response = jsonify(problem.document())
        response.content_type = "application/problem+json"
    else:
        page: Callable[[Problem], Any] | None = current_app.extensions.get(ERROR_PAGE)
        response = make_response(page(problem) if page else _bare(problem))
    response.status_code = problem.status
    response.headers.update(problem.headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def _bare(problem: Problem) -> str:
    return render_template_string(BARE_PAGE, problem=problem, request_id=g.get("request_id", ""))


def _http_error(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error  # a redirect
    status = error.code
    facts: dict[str, Any] = {}
    headers: dict[str, str] = {}
    data = getattr(error, "data", None) or {}
    if status in (400, 422) and data.get("messages"):
        return answer(_invalid_fields(status, data["messages"]))
    code, detail = _HTTP_DETAILS.get(status, ("http_error", http.HTTPStatus(status).description or "Not possible."))
    if isinstance(error, RequestEntityTooLarge):
        facts["limit_bytes"] = request.max_content_length
    if isinstance(error, MethodNotAllowed):
        facts["method"] = request.method
        headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return answer(Problem(status, code, detail, facts=facts, headers=headers))


def _invalid_fields(status: int, messages: Any) -> Problem:
    return Problem(
        status,
        "invalid_fields",
        "One or more parameters are not valid; each is named in `fields`.",
        facts={"fields": messages},
    )


def _store_full(_: StoreFull) -> Response:
    return answer(
        Problem(
            507,
            "disk_full",
            "The disk of the server is full. Nothing was stored. Tell the administrator, then send it again.",
            headers={"Retry-After": "300"},
        )
    )


def _blob_missing(error: BlobMissing) -> Response:
    _log.error("blob_missing", extra={"problem": str(error)})
    return answer(
        Problem(500, "blob_missing", "A stored file is missing although it was received. Tell the administrator.")
    )


def _illegal_transition(_: IllegalTransition) -> Response:
    return answer(Problem(409, "wrong_state", "This cannot be done in the present state. Load it again and see."))


def _action_refused(refused: ActionRefused) -> Response:
    return answer(Problem(refused.status, refused.code, refused.template, facts=refused.facts))


def database_error(error: DBAPIError) -> Response:
    """The answer when the database failed: full, busy or broken."""
    text = str(error.orig)
    _log.error("database_error", extra={"error": type(error.orig).__name__, "sqlstate": _sqlstate(error)})
    if "disk is full" in text or "No space left" in text or _sqlstate(error) == "53100":
        return _store_full(StoreFull())
    if isinstance(error, OperationalError):
        return answer(
            Problem(
                503,
                "database_busy",
                "The database does not answer at the moment. Nothing was lost; try again in a few seconds.",
                headers={"Retry-After": "5"},
            )
        )
    return answer(_internal())


def _unexpected(error: Exception) -> Response:
    # The type and the place only: an exception's text may hold what a user sent.
    _log.error("unexpected_error", extra={"error": type(error).__name__}, exc_info=error)
    if current_app.config.get("PROPAGATE_EXCEPTIONS"):
        raise error
    return answer(_internal())


def _internal() -> Problem:
    return Problem(
        500,
        "internal_error",
        "The server met an error that nobody expected. It is recorded under the request's number; nothing that was "
        "accepted is lost.",
    )


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", "") or "")
