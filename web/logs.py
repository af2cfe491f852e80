"""Structured logs of the web: one JSON line a request, with its number, and nothing that names a patient.

Owns the request's number (`X-Request-ID`) and what a line may hold: the route's pattern instead of the address (a query
may hold file names), ids from the address, status, duration. The format is `config.logs`'s.
"""

import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

REQUEST_ID = re.compile(r"\A[A-Za-z0-9._-]{8,64}\Z")
_log = logging.getLogger("web.request")


def init_app(app: Flask) -> None:
    """Numbers every request and writes a line when it was answered."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    offered = request.headers.get("X-Request-ID", "")
    g.request_id = offered if REQUEST_ID.match(offered) else uuid.uuid4().hex
    g.request_started = time.perf_counter()


def _end(response: Response) -> Response:
    request_id = g.get("request_id", "")
    response.headers["X-Request-ID"] = request_id
    user = g.get("signed_in")
    ids = {name: str(value) for name, value in (request.view_args or {}).items() if isinstance(value, uuid.UUID)}
    _log.info(
        "request",
        extra={
            "request_id": request_id,
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else "",
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - g.get("request_started", time.perf_counter())) * 1000, 1),
            "user_id": str(user.id) if user else "",
            **ids,
        },
    )
    return response
