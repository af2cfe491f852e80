"""Structured logs of the web: one JSON line a request, with its number, and nothing that names a patient.

Owns the request's number (`X-Request-ID`), the format, and what a line may hold: the route's pattern instead of the
address (a query may hold file names), ids from the address, status, duration. Refuses messages of exceptions: of an
unexpected one only its type and the places it came through are written.
"""

import json
import logging
import re
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, g, request

from config.settings import Settings

REQUEST_ID = re.compile(r"\A[A-Za-z0-9._-]{8,64}\Z")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_log = logging.getLogger("web.request")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, event, and the `extra` fields."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[2] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["places"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno}:{frame.name}" for frame in frames[-12:]
            ]
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(JsonFormatter):
    """The same for people: `time level event key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text."""
        line = json.loads(super().format(record))
        head = f"{line.pop('time')} {line.pop('level'):7} {line.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in line.items())])


def configure(settings: Settings) -> None:
    """Sends all logs of this process to standard error in our format; called once by the process that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)


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
