"""Live progress as server-sent events.

Owns the bounds: a stream holds a thread, so only a quarter of the threads may stream, none longer than a minute (the
browser's EventSource asks again by itself), and each ends with its job. Between events a comment line keeps proxies
from closing the connection, and finds out when nobody listens any more.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, current_app, request
from marshmallow import Schema

from db.queries.progress import Progress, progress
from db.queries.visibility import Viewer
from web.problems import Problem
from web.services import Services, services

PERIOD_S = 0.5
HEARTBEAT_S = 10.0
LONGEST_S = 60.0
_SLOTS = "neurosight.event_slots"


def stream_job(
    job_id: uuid.UUID, viewer: Viewer, document: Callable[[Progress], dict[str, Any]], schema: Schema
) -> Response:
    """Streams a job's progress.

    Args:
        job_id: A job that the viewer may see.
        viewer: Who watches.
        document: Makes the event's data of a snapshot.
        schema: Its shape.

    Raises:
        Problem: 429 when too many watch; ask with GET instead, or wait.
    """
    parts = services()
    slots = _slots(current_app)
    if not slots.acquire(blocking=False):
        raise Problem(
            429,
            "too_many_streams",
            "Too many streams are open. Ask for the job every few seconds instead, or try again.",
            headers={"Retry-After": "5"},
        )
    app, environ = current_app._get_current_object(), request.environ  # type: ignore[attr-defined] # a proxy's own

    def data_of(now: Progress) -> str:
        with app.request_context(environ):  # for links; a context must not stay open between events
            return json.dumps(schema.dump(document(now)), default=str)

    stream = _Released(_events(parts, job_id, viewer, data_of), slots)
    response = Response(stream, content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Released:
    """An iterator that gives its slot back once, whether it was started or not."""

    def __init__(self, events: Iterator[str], slots: threading.BoundedSemaphore) -> None:
        self._events, self._slots, self._held = events, slots, True

    def __iter__(self) -> "_Released":
        return self

    def __next__(self) -> str:
        return next(self._events)

    def close(self) -> None:
        """Called by the server at the end of the answer, also when the client went away."""
        if self._held:
            self._held = False
            self._slots.release()
        close = getattr(self._events, "close", None)
        if close:
            close()


def _events(parts: Services, job_id: uuid.UUID, viewer: Viewer, data_of: Callable[[Progress], str]) -> Iterator[str]:
    started = last_sent = time.monotonic()
    before = ""
    yield "retry: 2000\n\n"
    while True:
        with parts.database.read() as db:
            now = progress(db, job_id, viewer, parts.settings)
        if now is None:
            yield "event: end\ndata: {}\n\n"
            return
        data = data_of(now)
        if data != before:
            before, last_sent = data, time.monotonic()
            yield f"event: progress\ndata: {data}\n\n"
        if now.ended:
            yield f"event: end\ndata: {data}\n\n"
            return
        if time.monotonic() - started > LONGEST_S:
            return
        if time.monotonic() - last_sent > HEARTBEAT_S:
            last_sent = time.monotonic()
            yield ": still here\n\n"
        time.sleep(PERIOD_S)


def _slots(app: Flask) -> threading.BoundedSemaphore:
    slots = app.extensions.setdefault(
        _SLOTS, threading.BoundedSemaphore(max(1, services(app).settings.web_threads // 4))
    )
    assert isinstance(slots, threading.BoundedSemaphore)  # noqa: S101 - for the type checker
    return slots
