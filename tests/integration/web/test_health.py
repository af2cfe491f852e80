"""Health and metrics: red when work is not being done, closed to strangers, silent about patients."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from db.base import utc_now
from db.jobs import WorkItem
from db.queries import heartbeats
from db.queries.checkpoints import serving
from tests.servers import BrokerServer
from tests.web_world import World
from web.services import services


def beat(world: World) -> None:
    """A worker with the serving model says that it lives."""
    with world.database.write() as db:
        model = serving(db)
        assert model is not None
        queues = ["interactive", "batch", "intake"]
        heartbeats.beat(db, name="w", queues=queues, engine="openvino", checkpoint_id=model.id, facts={})


def checks(world: World) -> tuple[int, dict[str, bool]]:
    answer = world.ask(None, "GET", "/health/ready")
    return answer.status_code, {name: check["ok"] for name, check in (answer.json or {})["checks"].items()}


def test_ready_means_that_a_study_would_be_classified(broker: BrokerServer, world: World) -> None:
    assert checks(world) == (503, {"database": True, "broker": True, "worker": False, "queue": True})
    beat(world)
    assert checks(world) == (200, {"database": True, "broker": True, "worker": True, "queue": True})
    with world.database.write() as db:
        from db.workers import WorkerHeartbeat

        db.execute(update(WorkerHeartbeat).values(seen_at=utc_now() - timedelta(seconds=60)))
    assert checks(world)[1]["worker"] is False
    assert world.ask(None, "GET", "/health/live").json == {"status": "ok"}


def test_a_broker_that_is_gone_turns_it_red(broker: BrokerServer, world: World) -> None:
    beat(world)
    broker.stop()
    assert checks(world) == (503, {"database": True, "broker": False, "worker": True, "queue": True})
    broker.start()


def test_work_that_nobody_takes_turns_it_red(broker: BrokerServer, world: World) -> None:
    beat(world)
    world.send(world.people["ann"])
    assert checks(world)[0] == 200
    with world.database.write() as db:
        db.execute(update(WorkItem).values(created_at=utc_now() - timedelta(seconds=120)))
    status, found = checks(world)
    assert (status, found["queue"]) == (503, False)


def test_details_are_for_admins(world: World) -> None:
    report = world.json(world.people["ada"], "/health/status")
    assert report["serving"]["digest"]
    assert report["jobs"]["succeeded"] == 0
    assert world.ask(world.people["clara"], "GET", "/health/status").status_code == 403


def test_metrics_tell_of_queues_speed_predictions_and_requests(world: World) -> None:
    ann = world.people["ann"]
    world.finished(ann, title="ZZLEAKZZ")
    world.send(ann)
    text = world.ask(None, "GET", "/metrics").text
    assert 'neurosight_training_runs{state="running"} 0.0' in text
    assert "neurosight_training_workers 0.0" in text
    assert 'neurosight_queue_waiting{queue="intake"} 1.0' in text
    assert 'neurosight_slices{state="done"} 3.0' in text
    assert "neurosight_predictions_total{" in text
    assert "neurosight_slices_per_second" in text
    assert 'neurosight_request_seconds_count{method="POST",route="/api/v1/studies"} 2.0' in text
    assert 'status="2xx"' in text
    assert "ZZLEAKZZ" not in text
    assert str(ann.id) not in text


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.9"}, 403),
        ("10.0.0.9", {}, 403),
        ("10.0.0.9", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("10.0.0.9", {"Authorization": "Bearer wrong"}, 403),
        ("10.0.0.9", {"Authorization": "Bearer the-metrics-token"}, 200),
    ],
)
def test_metrics_are_closed_to_strangers(world: World, address: str, headers: dict[str, str], status: int) -> None:
    from pydantic import SecretStr

    services(world.app).settings = world.settings.model_copy(update={"metrics_token": SecretStr("the-metrics-token")})
    answer = world.ask(None, "GET", "/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert answer.status_code == status


def test_every_answer_carries_the_security_headers(world: World) -> None:
    for address in ("/login", "/api/v1/me", "/health/live", "/nothing/here"):
        headers = world.ask(None, "GET", address).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Request-ID"]
        assert "no-store" in headers["Cache-Control"]
