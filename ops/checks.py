"""The doctor's single checks, each a question to a running part and an answer that says how to mend it.

Owns what is healthy: thresholds stand here. A check never changes anything that stays; what it writes, it removes.
Refuses to guess: what could not be asked is said to be unknown, not to be well.
"""

import io
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import redis
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from config.queues import QUEUE_BATCH, QUEUE_INTAKE, QUEUE_INTERACTIVE, QUEUE_REGISTRY, QUEUE_TRAINING
from config.settings import Settings
from db import migrate
from db.blobs import BlobStore, StoreFull
from db.clock import database_now
from db.jobs import WorkItem
from db.queries import heartbeats
from db.queries.checkpoints import serving
from db.session import Database
from db.states import ItemState
from db.workers import WorkerHeartbeat

OLDEST_BROKER = (6, 2)
"""Older servers lack the command by which messages of a lost worker are brought back."""
CLOCK_WARN_S, CLOCK_FAIL_S = 2.0, 30.0
QUEUE_WARN_S = 600.0
DISK_COMFORT_BYTES = 2 * 1024**3


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Answer:
    """One line of the doctor's report."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Answer:
    """All is well."""
    return Answer(name, Verdict.OK, found)


def warn(name: str, found: str, mend: str) -> Answer:
    """It works, but not as it should."""
    return Answer(name, Verdict.WARN, found, mend)


def fail(name: str, found: str, mend: str) -> Answer:
    """It does not work."""
    return Answer(name, Verdict.FAIL, found, mend)


Check = Callable[[Settings], list[Answer]]


def check_database(settings: Settings) -> list[Answer]:
    """Answers, is at the newest revision, takes a write, and agrees on the time."""
    name = "database"
    database = Database(settings.resolved_database_url)
    try:
        with database.engine.connect() as connection:
            at = migrate.current(connection)
            dialect = connection.dialect.name
            question = "SELECT sqlite_version()" if dialect == "sqlite" else "SHOW server_version"
            version = connection.execute(text(question)).scalar()
        answers = [ok(name, f"{dialect} {version} answers")]
        if at == migrate.head():
            answers.append(ok("migrations", f"at revision {at}, the newest"))
        else:
            answers.append(
                fail("migrations", f"at revision {at}, the code expects {migrate.head()}", "run make migrate")
            )
        if at is not None:
            with database.write() as session:
                answers.append(_clock(database_now(session)))
    except SQLAlchemyError as error:
        # The type alone: a message may hold the URL.
        return [
            fail(name, f"does not answer ({type(error).__name__})", "is it started? is NEUROSIGHT_DATABASE_URL right?")
        ]
    finally:
        database.close()
    return answers


def _clock(theirs: datetime) -> Answer:
    off_s = abs((datetime.now(UTC) - theirs).total_seconds())
    found = f"differs from the database's by {off_s:.1f} s"
    if off_s > CLOCK_FAIL_S:
        return fail("clock", found, "set the clock by NTP: times in results and audit trail are wrong")
    return warn("clock", found, "set the clock by NTP") if off_s > CLOCK_WARN_S else ok("clock", found)


def check_broker(settings: Settings) -> list[Answer]:
    """Answers, asks for a password, keeps what it is given, and is new enough."""
    name = "broker"
    if not settings.broker_url:
        return [fail(name, "none is configured", "start the system with make up, or set NEUROSIGHT_BROKER_URL")]
    try:
        with redis.Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5) as client:
            facts = client.info("server") | client.info("persistence") | client.info("memory")
    except redis.AuthenticationError:
        return [fail(name, "refuses the password", "is another server on that port? restart with make up")]
    except redis.RedisError as error:
        return [
            fail(name, f"does not answer ({type(error).__name__})", "jobs wait until it is back; start it with make up")
        ]
    product = "Valkey" if "valkey_version" in facts else "Redis"
    version = str(facts.get("valkey_version") or facts.get("redis_version", "0"))
    answers = [ok(name, f"{product} {version} answers")]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_BROKER:
        answers.append(fail("broker version", version, "use Redis 6.2 or newer, or Valkey"))
    policy = str(facts.get("maxmemory_policy", "unknown"))
    answers.append(
        ok("broker memory", f"policy {policy}")
        if policy == "noeviction"
        else fail("broker memory", f"policy {policy} may drop messages", "set maxmemory-policy noeviction")
    )
    answers.append(
        ok("broker persistence", "append-only file is on")
        if facts.get("aof_enabled")
        else warn(
            "broker persistence", "append-only file is off", "set appendonly yes: else a restart costs some seconds"
        )
    )
    return answers


def check_blobs(settings: Settings) -> list[Answer]:
    """Takes bytes, gives the same back, and lets them be removed."""
    name = "blob store"
    content = b"neurosight doctor " + secrets.token_bytes(32)
    try:
        store = BlobStore(settings.resolved_blob_url, min_free_bytes=settings.min_free_disk_bytes)
        digest, _size = store.put(io.BytesIO(content))
        same = store.read(digest) == content
        store.delete(digest)
    except StoreFull as error:
        return [fail(name, str(error), "make room, or move var/ to a larger disk")]
    except Exception as error:  # whatever a remote file system raises: the doctor reports it and goes on
        return [
            fail(name, f"cannot write and read ({type(error).__name__})", "check NEUROSIGHT_BLOB_URL and its rights")
        ]
    if not same:
        return [fail(name, "returned other bytes than were written", "check the disk or the S3 server")]
    return [ok(name, "writes, reads and removes")]


def check_disk(settings: Settings) -> list[Answer]:
    """Has room for uploads, and keeps secrets to itself."""
    free = shutil.disk_usage(settings.var_dir).free
    found = f"{free / 1024**3:.1f} GiB free at {settings.var_dir}"
    if free < settings.min_free_disk_bytes:
        room = fail("disk", found, "uploads are refused: make room")
    elif free < DISK_COMFORT_BYTES:
        room = warn("disk", found, "make room before uploads are refused")
    else:
        room = ok("disk", found)
    answers = [room]
    env_file = settings.var_dir / "neurosight.env"
    if env_file.exists() and env_file.stat().st_mode & 0o077:
        answers.append(fail("secrets", f"{env_file} can be read by others", f"run chmod 600 {env_file}"))
    if os.access(settings.models_dir, os.R_OK) and any(settings.models_dir.glob("*.neurosight")):
        answers.append(ok("models", f"found in {settings.models_dir}"))
    else:
        answers.append(fail("models", f"none in {settings.models_dir}", "put a *.neurosight file there"))
    return answers


def check_workers(settings: Settings) -> list[Answer]:
    """Workers of each kind live, and the classify workers have the serving model."""
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            model = serving(session)
            alive = heartbeats.alive(session, age_s=settings.worker_ready_age_s)
            ready = heartbeats.ready_workers(session, age_s=settings.worker_ready_age_s)
            waiting = heartbeats.queue_facts(session)
            found = [
                (set(worker.queues), worker.engine, int(worker.facts.get("resident_bytes", 0)), worker in ready)
                for worker in alive
            ]
    except SQLAlchemyError as error:
        return [fail("workers", f"cannot be asked about ({type(error).__name__})", "mend the database first")]
    finally:
        database.close()
    answers = []
    if model is None:
        answers.append(
            fail("model", "none is promoted", "the dispatcher does it: is it running? see var/log/dispatcher.log")
        )
    else:
        answers.append(ok("model", f"{model.name}, digest {model.digest[:12]}"))
    classify = [worker for worker in found if QUEUE_INTERACTIVE in worker[0] or QUEUE_BATCH in worker[0]]
    with_model = [worker for worker in classify if worker[3]]
    if not classify:
        answers.append(fail("classify worker", "none was seen lately", "see var/log/classify.log; start with make up"))
    elif not with_model:
        answers.append(
            fail("classify worker", f"{len(classify)} alive, none with the serving model", "see var/log/classify.log")
        )
    else:
        memory = ", ".join(f"{worker[1]} in {worker[2] / 1024**2:.0f} MiB" for worker in with_model)
        answers.append(ok("classify worker", f"{len(with_model)} with the serving model: {memory}"))
    intake = sum(QUEUE_INTAKE in worker[0] for worker in found)
    answers.append(
        ok("intake worker", f"{intake} alive")
        if intake
        else fail("intake worker", "none was seen lately", "see var/log/intake.log; start with make up")
    )
    for queue in (QUEUE_REGISTRY, QUEUE_TRAINING):
        of_queue = [worker for worker in alive if queue in worker.queues]
        waits = waiting[queue].waiting if queue in waiting else 0
        answers.append(_training_side(queue, of_queue, waits))
    return answers


def _training_side(queue: str, workers: Sequence[WorkerHeartbeat], waits: int) -> Answer:
    """Workers that no study needs: none is a fault only when something waits for them."""
    name = f"{queue} worker"
    able = [worker for worker in workers if not worker.facts.get("missing")]
    if able:
        return ok(name, f"{len(able)} alive")
    if workers:
        found, mend = f"{len(workers)} alive, but TensorFlow is not installed", "run make environment-train"
    else:
        found, mend = "none was seen lately", f"see var/log/{queue}.log; start with make up"
    return warn(name, f"{found}; {waits} waiting", mend) if waits else ok(name, f"{found}; nothing waits for it")


def check_queues(settings: Settings) -> list[Answer]:
    """Nothing waits for long, and what was given up is counted."""
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            queues = heartbeats.queue_facts(session)
            dead = session.scalar(select(func.count()).where(WorkItem.state == ItemState.DEAD)) or 0
    except SQLAlchemyError as error:
        return [fail("queues", f"cannot be asked about ({type(error).__name__})", "mend the database first")]
    finally:
        database.close()
    # A run may well wait for hours while another one is trained.
    oldest_s = max((facts.oldest_wait_s for name, facts in queues.items() if name != QUEUE_TRAINING), default=0.0)
    counts = ", ".join(f"{name} {facts.waiting}" for name, facts in queues.items() if facts.waiting) or "nothing waits"
    answers = [
        warn("queues", f"{counts}; the oldest for {oldest_s:.0f} s", "more workers, or see why none takes it (log/)")
        if oldest_s > QUEUE_WARN_S
        else ok("queues", counts)
    ]
    if dead:
        answers.append(
            warn("given up", f"{dead} work items were given up after all attempts", "retry them on their job's page")
        )
    return answers
