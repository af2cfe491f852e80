"""Promotion and rollback by people: what is refused, who is told, and which checkpoint served when."""

import threading
import uuid
from datetime import timedelta

import pytest

from db.checkpoints import Checkpoint, Promotion
from db.queries import promotions, withdrawals
from db.queries.checkpoints import serving
from db.queries.promotions import Standing
from db.queries.refusals import RegistryRefused
from db.session import Database
from tests.work_rig import make_user

CLASSES = ["glioma", "meningioma"]


def checkpoint(database: Database, letter: str, class_names: list[str] | None = None) -> uuid.UUID:
    with database.write() as session:
        row = Checkpoint(
            name=f"model {letter}",
            digest=letter * 64,
            location=f"blob:{letter * 64}",
            network="tiny",
            class_names=class_names or CLASSES,
            manifest={},
        )
        session.add(row)
        session.flush()
        return row.id


def promote(database: Database, number: uuid.UUID, seen: uuid.UUID | None, **more: object) -> uuid.UUID:
    with database.write() as session:
        return promotions.promote(
            session, number, by=None, reason="because", seen=seen, accept_classes=bool(more.get("accept"))
        ).id


def test_each_refusal_says_why_and_changes_nothing(database: Database) -> None:
    a, b, other = checkpoint(database, "a"), checkpoint(database, "b"), checkpoint(database, "c", ["glioma", "cyst"])
    first = promote(database, a, None)
    cases: list[tuple[uuid.UUID, str, uuid.UUID | None, str]] = [
        (b, "  ", first, "Give a reason"),
        (b, "x" * 501, first, "501 characters"),
        (uuid.uuid4(), "r", first, "no model of this number"),
        (a, "r", first, "serves already"),
        (b, "r", None, "Meanwhile system changed"),
        (other, "r", first, r"new: cyst; gone: meningioma"),
    ]
    for number, reason, seen, message in cases:
        with pytest.raises(RegistryRefused, match=message), database.write() as session:
            promotions.promote(session, number, by=None, reason=reason, seen=seen)
    with database.write() as session:
        promotions.withdraw(session, b, by=None, reason="bad")
    with pytest.raises(RegistryRefused, match="is withdrawn and cannot serve"):
        promote(database, b, first)
    with pytest.raises(RegistryRefused, match="This model serves"), database.write() as session:
        promotions.withdraw(session, a, by=None, reason="bad")
    with pytest.raises(RegistryRefused, match="withdrawn already"), database.write() as session:
        promotions.withdraw(session, b, by=None, reason="bad")
    with database.read() as session:
        assert [period.promotion.id for period in promotions.periods(session)] == [first]
    second = promote(database, other, first, accept=True)
    with database.read() as session:
        row = session.get_one(Promotion, second)
        assert row.choices == {"other_classes": {"added": ["cyst"], "removed": ["meningioma"]}}
        assert row.kind == "promotion"


def test_of_two_admins_at_the_same_moment_the_second_is_told_who_was_first(database: Database) -> None:
    a, b, c = (checkpoint(database, letter) for letter in "abc")
    first = promote(database, a, None)
    admins = [make_user(database), make_user(database)]
    together, outcomes = threading.Barrier(2), []

    def act(number: uuid.UUID, user: uuid.UUID) -> None:
        together.wait()
        try:
            with database.write() as session:
                promotions.promote(session, number, by=user, reason="mine", seen=first)
            outcomes.append("done")
        except RegistryRefused as refused:
            outcomes.append(str(refused))

    threads = [threading.Thread(target=act, args=pair) for pair in zip((b, c), admins, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    done, told = sorted(outcomes, key=lambda text: text != "done")
    assert done == "done"
    assert told.startswith("Meanwhile user-")
    with database.read() as session:
        assert len(promotions.periods(session)) == 2


def test_a_rollback_returns_to_the_last_good_one_and_withdraws_the_present_one(database: Database) -> None:
    a, b, c = (checkpoint(database, letter) for letter in "abc")
    seen = promote(database, c, promote(database, b, promote(database, a, None)))
    with database.read() as session:
        target = promotions.before_serving(session)
    assert target is not None
    assert target.id == b
    with pytest.raises(RegistryRefused, match="Meanwhile"), database.write() as session:
        promotions.roll_back(session, to=a, by=None, reason="wrong", seen=seen)
    with database.write() as session:
        row = promotions.roll_back(session, to=b, by=None, reason="misses small tumours", seen=seen)
        assert (row.kind, row.checkpoint_id) == ("rollback", b)
    with database.write() as session:
        promotions.roll_back(session, to=a, by=None, reason="this too", seen=row.id)
    with database.read() as session:
        rows = {item.checkpoint.id: item for item in promotions.standings(session)}
        assert (rows[a].standing, rows[b].standing, rows[c].standing) == (
            Standing.SERVING,
            Standing.WITHDRAWN,
            Standing.WITHDRAWN,
        )
        mark = rows[c].withdrawal
        assert mark is not None
        assert mark.reason == "misses small tumours"
        newest = promotions.newest_promotion(session)
    assert newest is not None
    with pytest.raises(RegistryRefused, match="no earlier model"), database.write() as session:
        promotions.roll_back(session, to=c, by=None, reason="again", seen=newest.id)
    with database.write() as session:
        withdrawals.lift(session, session.get_one(Checkpoint, c), by=None)
    with pytest.raises(RegistryRefused, match="is not withdrawn"), database.write() as session:
        withdrawals.lift(session, session.get_one(Checkpoint, c), by=None)
    with database.read() as session:
        assert promotions.before_serving(session) is not None
        assert promotions.standing_of(session, session.get_one(Checkpoint, c)).standing == Standing.SERVED
        assert len(withdrawals.history(session, c)) == 1


def test_which_checkpoint_served_at_a_moment_can_be_read_off(database: Database) -> None:
    a, b = checkpoint(database, "a"), checkpoint(database, "b")
    promote(database, b, promote(database, a, None))
    with database.read() as session:
        newest, oldest = promotions.periods(session)
        assert (newest.until, oldest.until) == (None, newest.since)
        instant = timedelta(microseconds=1)
        assert promotions.served_at(session, oldest.since - instant) is None
        for moment, expected in ((oldest.since, a), (newest.since - instant, a), (newest.since, b)):
            period = promotions.served_at(session, moment)
            assert period is not None
            assert period.checkpoint.id == expected
        assert promotions.served_at(session, newest.since + timedelta(days=400)) == newest


def test_a_clock_that_goes_backwards_does_not_change_the_order(database: Database) -> None:
    a, b = checkpoint(database, "a"), checkpoint(database, "b")
    first = promote(database, a, None)
    with database.write() as session:
        row = session.get_one(Promotion, first)
        row.created_at += timedelta(hours=1)
    promote(database, b, first)
    with database.read() as session:
        current = serving(session)
        assert current is not None
        assert current.id == b
