"""Claims, leases and fences, on both databases."""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select

from config.queues import QUEUE_BATCH, QUEUE_INTERACTIVE, TASK_CLASSIFY
from db.base import utc_now
from db.jobs import Job, WorkItem
from db.queries import claims
from db.queries.claims import Claim, LeaseLost
from db.session import Database
from db.states import ItemState, Priority

QUEUES = (QUEUE_INTERACTIVE, QUEUE_BATCH)


def add_job(database: Database, priority: Priority = Priority.NORMAL) -> uuid.UUID:
    with database.write() as session:
        job = Job(priority=priority)
        session.add(job)
        session.flush()
        return job.id


def add_item(database: Database, job_id: uuid.UUID, queue: str = QUEUE_BATCH, **values: object) -> uuid.UUID:
    with database.write() as session:
        job = session.get_one(Job, job_id)
        item = WorkItem(
            job_id=job_id,
            task=TASK_CLASSIFY,
            queue=queue,
            priority_rank=Priority(job.priority).rank,
            **{"max_attempts": 3, "slices": 1, **values},
        )
        session.add(item)
        session.flush()
        return item.id


def claim(database: Database, *, lease_s: float = 60.0, worker: str = "w") -> Claim:
    with database.write() as session:
        found = claims.claim_next(session, queues=QUEUES, worker_name=worker, lease_s=lease_s, starvation_after_s=600.0)
    assert found is not None
    return found


def item(database: Database, item_id: uuid.UUID) -> WorkItem:
    with database.read() as session:
        return session.get_one(WorkItem, item_id)


def test_an_item_is_claimed_once_and_counted(database: Database) -> None:
    item_id = add_item(database, add_job(database))
    held = claim(database)
    assert (held.item_id, held.attempt) == (item_id, 1)
    with database.write() as session:
        assert claims.claim_next(session, queues=QUEUES, worker_name="x", lease_s=1, starvation_after_s=1) is None
    assert item(database, item_id).attempts == 1


def test_every_claim_draws_a_fresh_token(database: Database) -> None:
    add_item(database, add_job(database))
    first = claim(database)
    with database.write() as session:
        claims.release(session, first, delay_s=0, error_code="again")
    second = claim(database)
    assert second.attempt == 2
    assert first.lease_token != second.lease_token


@pytest.mark.parametrize("write", ["hold", "finish", "release", "bury"])
def test_no_write_without_the_lease(database: Database, write: str) -> None:
    item_id = add_item(database, add_job(database))
    late = claim(database, lease_s=0.05)
    time.sleep(0.1)
    with database.write() as session:
        claims.reap(session, divide_after=2)
    current = claim(database)
    writes = {
        "hold": lambda session: claims.hold(session, late, lease_s=60),
        "finish": lambda session: claims.finish(session, late),
        "release": lambda session: claims.release(session, late, delay_s=0, error_code="x"),
        "bury": lambda session: claims.bury(session, late, error_code="x"),
    }
    with pytest.raises(LeaseLost, match="lease of attempt 1 is gone"), database.write() as session:
        writes[write](session)
    assert item(database, item_id).lease_token == current.lease_token


@pytest.mark.parametrize("write", ["hold", "finish"])
def test_a_lease_that_ran_out_is_lost_even_before_it_is_reaped(database: Database, write: str) -> None:
    add_item(database, add_job(database))
    late = claim(database, lease_s=0.05)
    time.sleep(0.1)
    writes: dict[str, Callable[..., None]] = {"hold": partial(claims.hold, lease_s=60), "finish": claims.finish}
    with pytest.raises(LeaseLost, match="is gone"), database.write() as session:
        writes[write](session, late)


def test_a_renewed_lease_is_not_reaped(database: Database) -> None:
    item_id = add_item(database, add_job(database))
    held = claim(database, lease_s=0.2)
    with database.write() as session:
        claims.hold(session, held, lease_s=60, progress=7)
    time.sleep(0.3)
    with database.write() as session:
        assert claims.reap(session, divide_after=2).returned == []
    assert item(database, item_id).progress == 7
    with database.read() as session:
        assert claims.still_held(session, held)


def test_lost_items_return_are_divided_and_die(database: Database) -> None:
    job_id = add_job(database)
    single = add_item(database, job_id, max_attempts=2)
    chunk = add_item(database, job_id, max_attempts=5, slices=8)
    for attempt in (1, 2):
        claim(database, lease_s=0.0)
        claim(database, lease_s=0.0)
        time.sleep(0.01)
        with database.write() as session:
            reaped = claims.reap(session, divide_after=2)
            found = [[found.id for found in group] for group in (reaped.returned, reaped.divided, reaped.dead)]
        if attempt == 1:
            assert sorted(found[0]) == sorted([single, chunk])
            assert found[1:] == [[], []]
        else:
            assert found == [[], [chunk], [single]]
    assert item(database, single).state == ItemState.DEAD
    assert item(database, chunk).state == ItemState.DONE
    assert item(database, single).error_code == "worker_lost"


def test_a_deferral_gives_the_attempt_back(database: Database) -> None:
    item_id = add_item(database, add_job(database))
    held = claim(database)
    with database.write() as session:
        claims.release(session, held, delay_s=30, error_code="database_unavailable", counts=False)
    kept = item(database, item_id)
    assert (kept.attempts, kept.deferrals, kept.state) == (0, 1, "pending")
    with database.write() as session:
        assert not claims.anything_waits(session, QUEUES), "claimable before its delay has passed"


def test_order_lane_urgency_turns_and_age(database: Database) -> None:
    quiet, urgent = add_job(database, Priority.OFF_PEAK), add_job(database, Priority.URGENT)
    one, two = add_job(database), add_job(database)
    expected = {
        add_item(database, quiet): 6,
        add_item(database, one, sequence=1): 2,
        add_item(database, one, sequence=2): 4,
        add_item(database, two, sequence=1): 3,
        add_item(database, two, sequence=2): 5,
        add_item(database, urgent): 1,
        add_item(database, quiet, queue=QUEUE_INTERACTIVE): 0,
    }
    got = [expected[claim(database).item_id] for _ in expected]
    # The off-peak job has had its turn in the interactive lane; its batch item waits for all more urgent ones.
    assert got == [0, 1, 2, 3, 4, 5, 6]


def test_departments_share_the_workers_in_turn_however_much_one_of_them_sends(database: Database) -> None:
    chunks = {"large": 30, "small": 5, "other": 5}
    jobs = {add_job(database): name for name in chunks}
    waiting = {name: job_id for job_id, name in jobs.items()}
    for number in range(30):  # the large one was there first, and all of it
        add_item(database, waiting["large"], sequence=number, created_at=utc_now() - timedelta(minutes=5))
    for name in ("small", "other"):
        for number in range(5):
            add_item(database, waiting[name], sequence=number)
    # Two workers, one of them twice as fast: it claims two items while the other does one.
    served = []
    for worker in ("fast", "slow", "fast") * 5:
        held = claim(database, worker=worker)
        assert held.job_id is not None
        served.append(jobs[held.job_id])
        with database.write() as session:
            claims.finish(session, held)
    assert [set(served[start : start + 3]) for start in range(0, 15, 3)] == [set(chunks)] * 5
    # A department that comes late does not wait for the rest of the large one.
    late = add_item(database, add_job(database))
    assert claim(database).item_id == late


LONG_AGO = timedelta(hours=1)


def test_an_item_of_a_job_that_is_never_served_goes_first(database: Database) -> None:
    quiet = add_item(database, add_job(database, Priority.OFF_PEAK), created_at=utc_now() - LONG_AGO)
    add_item(database, add_job(database, Priority.URGENT), queue=QUEUE_INTERACTIVE)
    assert claim(database).item_id == quiet


def test_an_old_batch_that_is_being_served_does_not_keep_a_single_image_waiting(database: Database) -> None:
    batch = add_job(database)
    for number in range(3):
        add_item(database, batch, sequence=number, created_at=utc_now() - LONG_AGO)
    claim(database)
    single = add_item(database, add_job(database), queue=QUEUE_INTERACTIVE)
    assert claim(database).item_id == single


def test_leases_of_dead_workers_end_at_once(database: Database) -> None:
    job_id = add_job(database)
    first, second = add_item(database, job_id), add_item(database, job_id)
    claim(database, worker="dead")
    claim(database, worker="alive")
    with database.read() as session:
        assert sorted(claims.running_workers(session)) == ["alive", "dead"]
    with database.write() as session:
        assert claims.expire_leases_of(session, ["dead"]) == 1
        assert len(claims.reap(session, divide_after=2).returned) == 1
    assert {item(database, first).state, item(database, second).state} == {"pending", "running"}


def test_unsent_items_are_marked_and_stale_ones_wait_for_a_quiet_queue(database: Database) -> None:
    item_id = add_item(database, add_job(database))

    def unsent(**named: object) -> list[uuid.UUID]:
        with database.write() as session:
            return [found[0] for found in claims.unsent(session, **{"resend_after_s": 60.0, **named})]  # type: ignore[arg-type]

    assert unsent() == [item_id]
    assert unsent() == []
    time.sleep(0.02)
    assert unsent(resend_after_s=0.01) == [], "the queue still holds messages"
    assert unsent(resend_after_s=0.01, quiet_queues=[QUEUE_BATCH]) == [item_id]
    with database.write() as session:
        claims.mark_sent(session, [item_id], None)
    assert unsent() == [item_id]


def test_claiming_records_the_turn_of_the_job(database: Database) -> None:
    job_id = add_job(database)
    add_item(database, job_id)
    before = utc_now()
    claim(database)
    with database.read() as session:
        turn = session.scalars(select(Job.last_claimed_at).where(Job.id == job_id)).one()
    assert turn is not None
    assert abs((turn - before).total_seconds()) < 30
