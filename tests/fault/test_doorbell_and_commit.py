"""Promise 7: what is committed is done although no message was sent; what is rolled back sends none."""

import time
import uuid

from sqlalchemy import select

from config.queues import QUEUE_INTAKE, QUEUES, TASK_INTAKE
from config.settings import Settings
from db.doorbell import Doorbell
from db.jobs import WorkItem
from db.queries import claims
from db.session import Database
from tests.servers import BrokerServer
from tests.work_rig import pictures, submit
from worker.housekeeping import Housekeeper


def sent(settings: Settings) -> int:
    lengths = Doorbell(settings).waiting()
    assert lengths is not None
    return lengths[QUEUE_INTAKE]


def enqueued_at(database: Database, job_id: uuid.UUID) -> object:
    with database.read() as session:
        return session.scalars(select(WorkItem.enqueued_at).where(WorkItem.job_id == job_id)).one()


def test_a_committed_job_without_a_message_is_sent_once(work: Settings, database: Database) -> None:
    job_id = submit(database, work, pictures(1))
    assert sent(work) == 0
    with Housekeeper(work) as housekeeper:
        housekeeper.ring()
        housekeeper.ring()
    assert sent(work) == 1
    assert enqueued_at(database, job_id) is not None


def test_a_message_that_waits_in_a_long_queue_is_not_sent_again(work: Settings, database: Database) -> None:
    impatient = work.model_copy(update={"resend_after_s": 0.01})
    submit(database, impatient, pictures(1), doorbell=Doorbell(impatient))
    time.sleep(0.05)
    with Housekeeper(impatient) as housekeeper:
        housekeeper.ring()
    assert sent(impatient) == 1


def test_a_lost_message_is_sent_again(work: Settings, broker: BrokerServer, database: Database) -> None:
    impatient = work.model_copy(update={"resend_after_s": 0.01})
    submit(database, impatient, pictures(1), doorbell=Doorbell(impatient))
    broker.empty()
    time.sleep(0.05)
    with Housekeeper(impatient) as housekeeper:
        housekeeper.ring()
    assert sent(impatient) == 1


def test_without_a_broker_the_caller_goes_on_and_the_item_stays_unsent(
    work: Settings, broker: BrokerServer, database: Database
) -> None:
    broker.stop(kill=True)
    doorbell = Doorbell(work)
    began = time.monotonic()
    job_id = submit(database, work, pictures(1), doorbell=doorbell)
    assert not doorbell.ring(TASK_INTAKE, QUEUE_INTAKE, uuid.uuid4())
    assert time.monotonic() - began < 5
    assert enqueued_at(database, job_id) is None
    with Housekeeper(work) as housekeeper:
        housekeeper.ring()
        assert enqueued_at(database, job_id) is None
        broker.start()
        time.sleep(2.1)  # the doorbell's own pause after a failure
        housekeeper.ring()
    assert sent(work) == 1
    assert enqueued_at(database, job_id) is not None


def test_a_silent_broker_holds_up_nobody(work: Settings) -> None:
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)  # takes connections and never answers
        doorbell = Doorbell(work.model_copy(update={"broker_url": f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"}))
        began = time.monotonic()
        assert not doorbell.ring(TASK_INTAKE, QUEUE_INTAKE, uuid.uuid4())
        assert time.monotonic() - began < 6
        began = time.monotonic()
        assert not doorbell.ring(TASK_INTAKE, QUEUE_INTAKE, uuid.uuid4())
        assert time.monotonic() - began < 0.1, "the second caller waited as well"


def test_a_rolled_back_job_leaves_nothing_to_send(work: Settings, database: Database) -> None:
    try:
        with database.write() as session:
            job_id = _unfinished(session)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with database.read() as session:
        assert session.get(WorkItem, job_id) is None
        assert not claims.anything_waits(session, QUEUES)
    with Housekeeper(work) as housekeeper:
        housekeeper.ring()
    assert sent(work) == 0


def _unfinished(session) -> uuid.UUID:  # type: ignore[no-untyped-def]
    from db.jobs import Job

    job = Job(title="never committed")
    session.add(job)
    session.flush()
    item = WorkItem(job_id=job.id, task=TASK_INTAKE, queue=QUEUE_INTAKE, max_attempts=1)
    session.add(item)
    session.flush()
    return item.id
