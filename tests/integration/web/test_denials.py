"""Refusals of unknown visitors: one row at once, the rest counted; everybody else's are rows of their own."""

from typing import Any

import pytest
from sqlalchemy import select

from db.users import AuditEvent
from tests.integration.web.test_accounts import log_in
from tests.web_world import World
from web import denials
from web.services import services


def rows(world: World) -> list[tuple[str, str, dict[str, Any]]]:
    with world.database.read() as db:
        found = db.scalars(select(AuditEvent).where(AuditEvent.outcome == "denied").order_by(AuditEvent.id))
        return [(row.remote_address, row.action, row.detail) for row in found]


def knock(world: World, times: int, address: str = "127.0.0.1") -> None:
    for _ in range(times):
        answer = world.ask(None, "GET", "/api/v1/jobs", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == 401


def test_a_flood_is_one_row_at_once_and_one_a_minute(world: World) -> None:
    counted = services(world.app).denials
    knock(world, 40)
    knock(world, 1, "10.0.0.9")

    assert [row[:2] for row in rows(world)] == [("127.0.0.1", "access"), ("10.0.0.9", "access")]
    assert rows(world)[0][2] == {"route": "/api/v1/jobs", "method": "GET", "reason": "anonymous"}

    counted.flush()
    assert rows(world)[2:] == [("127.0.0.1", "access", {"reason": "anonymous", "count": 39, "within_s": 60.0})]

    knock(world, 5)
    counted.flush()
    assert rows(world)[3:] == [("127.0.0.1", "access", {"reason": "anonymous", "count": 5, "within_s": 60.0})]

    counted.flush()  # a quiet minute: what comes next is new
    knock(world, 1)
    assert len(rows(world)) == 5
    assert "count" not in rows(world)[4][2]


def test_what_was_counted_is_written_when_the_process_ends(world: World) -> None:
    knock(world, 3)

    services(world.app).denials.close()

    assert rows(world)[-1][2]["count"] == 2


def test_an_attacker_of_many_addresses_is_counted_under_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "MOST_ADDRESSES", 3)
    for number in range(8):
        knock(world, 1, f"10.0.0.{number}")
    services(world.app).denials.flush()

    assert [row[0] for row in rows(world)] == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "", ""]
    assert rows(world)[-1][2]["count"] == 4


def test_refusals_of_somebody_known_are_rows_of_their_own(world: World) -> None:
    for _ in range(3):
        assert world.ask(world.people["ann"], "GET", "/admin/audit").status_code == 403

    assert [row[1:] for row in rows(world)] == [
        ("access", {"route": "/admin/audit", "method": "GET", "reason": "role"})
    ] * 3


def test_a_paused_login_does_not_fill_the_trail(world: World) -> None:
    client = world.client()
    allowed = world.settings.login_failures_allowed
    for _ in range(allowed + 6):
        log_in(client, "ann", "a wrong password")
    services(world.app).denials.flush()
    reasons = [row[2] for row in rows(world) if row[1] == "login"]

    assert reasons[:-2] == [{"reason": "wrong"}] * allowed
    assert reasons[-2:] == [{"reason": "paused"}, {"reason": "paused", "count": 5, "within_s": 60.0}]
