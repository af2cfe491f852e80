"""Prometheus metrics at `/metrics`.

Owns which figures are shown and to whom: to this machine itself, and to whoever sends the token of the settings
(`NEUROSIGHT_METRICS_TOKEN`) as a bearer token. No label ever names a patient, a file, a user or an address.

What was done is counted from the database, so that the figures survive a restart and hold for all processes; request
latencies and errors are this process's own.
"""

import hmac
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from config.queues import QUEUES
from config.version import code_version
from db.checkpoints import Checkpoint
from db.queries import drift, heartbeats, operations, receptions, sweep_views
from db.queries.checkpoints import serving
from db.queries.drift import Judged
from web.access import note_denial, public
from web.problems import Problem
from web.services import Services, from_this_machine, services

blueprint = Blueprint("metrics", __name__)
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DRIFT_PERIOD_S = 300.0
_REGISTRY = "neurosight.metrics"


class _Own:
    """The figures of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.seconds = Histogram(
            "neurosight_request_seconds", "Time to answer a request", labels, buckets=BUCKETS_S, registry=self.registry
        )
        self.answers = Counter(
            "neurosight_answers", "Answers by status class", (*labels, "status"), registry=self.registry
        )
        self.week: tuple[float, str, Judged] | None = None
        """When and of which model the last week was counted: it looks at many rows and changes slowly."""


class _Stored(Collector):
    """The figures that the database knows."""

    def __init__(self, parts: Services, own: _Own) -> None:
        self._parts, self._own = parts, own

    def _week(self, db: Session, model: Checkpoint) -> Judged:
        known = self._own.week
        if known is None or known[1] != model.digest or time.monotonic() - known[0] > DRIFT_PERIOD_S:
            known = self._own.week = (time.monotonic(), model.digest, drift.last_week(db, model))
        return known[2]

    def collect(self) -> Iterator[Metric]:
        """Asks the database once for each scrape."""
        settings = self._parts.settings
        with self._parts.database.read() as db:
            queues = heartbeats.queue_facts(db)
            speed = heartbeats.throughput(db, worker_age_s=settings.worker_ready_age_s)
            ready = heartbeats.ready_workers(db, age_s=settings.worker_ready_age_s)
            backlog = operations.backlog(db, stuck_after_s=settings.resend_after_s * 2)
            jobs, slices = operations.jobs_by_state(db), operations.slices_by_state(db)
            runs = operations.runs_by_state(db)
            trainers = sweep_views.training_workers(db, worker_age_s=settings.worker_ready_age_s)
            predictions = operations.predictions_by_class(db)
            arriving = receptions.arriving(db)
            model = serving(db)
            week = self._week(db, model) if model else None
        waiting = GaugeMetricFamily("neurosight_queue_waiting", "Work items that wait", labels=("queue",))
        running = GaugeMetricFamily("neurosight_queue_running", "Work items being done", labels=("queue",))
        oldest = GaugeMetricFamily("neurosight_queue_oldest_wait_seconds", "Age of the oldest", labels=("queue",))
        for queue in QUEUES:
            facts = queues.get(queue)
            waiting.add_metric((queue,), facts.waiting if facts else 0)
            running.add_metric((queue,), facts.running if facts else 0)
            oldest.add_metric((queue,), facts.oldest_wait_s if facts else 0.0)
        yield from (waiting, running, oldest)
        yield GaugeMetricFamily("neurosight_oldest_due_seconds", "Longest wait of due work", value=backlog.oldest_due_s)
        yield GaugeMetricFamily("neurosight_ready_workers", "Workers with the serving model", value=len(ready))
        yield GaugeMetricFamily(
            "neurosight_slices_per_second",
            "Measured speed of all workers; 0: not measured",
            value=speed.slices_per_s or 0,
        )
        yield GaugeMetricFamily("neurosight_arriving_studies", "Studies of which instances still come", value=arriving)
        yield GaugeMetricFamily("neurosight_training_workers", "Workers that can train", value=trainers)
        yield _by_label(GaugeMetricFamily("neurosight_training_runs", "Runs by state", labels=("state",)), runs)
        yield _by_label(GaugeMetricFamily("neurosight_jobs", "Jobs by state", labels=("state",)), jobs)
        yield _by_label(GaugeMetricFamily("neurosight_slices", "Slices by state", labels=("state",)), slices)
        made = CounterMetricFamily("neurosight_predictions", "Predictions made", labels=("class_name", "checkpoint"))
        for class_name, digest, count in predictions:
            made.add_metric((class_name, digest[:12]), count)
        yield made
        if week is not None:
            moved = GaugeMetricFamily(
                "neurosight_drift_index",
                "Stability index of the serving model's last seven days against its validation slices",
                labels=("measure",),
            )
            for measure, index in week.indexes.items():
                if index is not None:
                    moved.add_metric((measure,), index)
            yield moved
            share = GaugeMetricFamily("neurosight_abstained_share", "Share of the last seven days without an answer")
            share.add_metric((), week.abstained / week.slices if week.slices else 0.0)
            yield share
        info = GaugeMetricFamily("neurosight_info", "Version and serving checkpoint", labels=("version", "checkpoint"))
        info.add_metric((code_version(), model.digest[:12] if model else ""), 1)
        yield info


def init_app(app: Flask) -> None:
    """Adds the route and measures every request."""
    app.extensions[_REGISTRY] = _Own()
    app.before_request(_begin)
    app.after_request(_end)
    app.register_blueprint(blueprint)


@blueprint.get("/metrics")
@public
def metrics() -> Response:
    """The figures in Prometheus's text format."""
    parts = services()
    token = parts.settings.metrics_token.get_secret_value()
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    by_token = bool(token) and hmac.compare_digest(given.encode(), token.encode())
    if not by_token and not from_this_machine():
        g.signed_in = None  # the bearer token of a scraper is not a user's
        note_denial("metrics", reason="address")
        raise Problem(
            403, "metrics", "Metrics are shown to this machine, or to who sends the metrics token as a bearer token."
        )
    stored = CollectorRegistry()
    own: _Own = _own()
    stored.register(_Stored(parts, own))
    return Response(generate_latest(stored) + generate_latest(own.registry), content_type=CONTENT_TYPE_PLAIN_1_0_0)


def _own() -> _Own:
    from flask import current_app

    own = current_app.extensions[_REGISTRY]
    assert isinstance(own, _Own)  # noqa: S101 - for the type checker
    return own


def _by_label(family: GaugeMetricFamily, counts: dict[str, int]) -> GaugeMetricFamily:
    for label, count in counts.items():
        family.add_metric((label,), count)
    return family


def _begin() -> None:
    g.measured_from = time.perf_counter()


def _end(response: Response) -> Response:
    own, route = _own(), request.url_rule.rule if request.url_rule else "none"
    if not response.is_streamed or not route.endswith("/events"):
        own.seconds.labels(request.method, route).observe(time.perf_counter() - g.get("measured_from", 0.0))
    own.answers.labels(request.method, route, f"{response.status_code // 100}xx").inc()
    return response
