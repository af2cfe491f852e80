"""The life of a worker process: what is built after the fork, what runs beside the work, what is tidied at the end.

Owns the one context of this process, and its heartbeat thread. Everything is built in `worker_process_init`: sockets,
engines and threads do not survive a fork, so the parent process holds none (and never imports OpenVINO or TensorFlow).

A new process first ends the leases of processes that are known to be dead on this machine (its killed predecessor,
for one), so that their work is taken up within seconds instead of a lease's time.
"""

import mmap
import threading
import time
from collections.abc import Callable

import structlog
from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from config.queues import QUEUE_INTERACTIVE, QUEUE_REGISTRY, QUEUE_TRAINING, QUEUE_TRANSFER, QUEUES
from config.settings import Settings
from config.version import code_version
from db.queries import claims, heartbeats
from worker import logs, work
from worker.context import Context, build_context
from worker.processes import is_known_dead, resident_bytes, worker_name

NAMES = {
    QUEUE_INTERACTIVE: "classify",
    QUEUE_REGISTRY: "registry",
    QUEUE_TRAINING: "training",
    QUEUE_TRANSFER: "transfer",
}
"""How a worker's name begins, by a queue that it serves; others are called `worker`."""

log = structlog.get_logger(__name__)

_context: Context | None = None
_heart: "Heart | None" = None
_helper: "Helper | None" = None


def context() -> Context:
    """The context of this process.

    Raises:
        RuntimeError: Outside a worker process.
    """
    if _context is None:
        raise RuntimeError("there is no worker context in this process; expected a worker child started by Celery")
    return _context


def install(app: Celery, settings: Settings) -> None:
    """Connects the life of this application's worker processes to Celery's signals."""

    # One byte of memory that parent and children share: the parent is told to end, the children do the work.
    told_to_end = mmap.mmap(-1, 1)

    def start(**_: object) -> None:
        begin(settings, _queues_of(app), stopping=lambda: told_to_end[0] != 0)

    def stopping(**_: object) -> None:
        told_to_end[0] = 1

    worker_shutting_down.connect(stopping, weak=False, dispatch_uid="neurosight-stopping")
    worker_process_init.connect(start, weak=False, dispatch_uid="neurosight-start")
    worker_process_shutdown.connect(_stop, weak=False, dispatch_uid="neurosight-stop")


def begin(settings: Settings, queues: tuple[str, ...], stopping: Callable[[], bool] = lambda: False) -> Context:
    """Builds the context of this process, loads the serving model if it classifies, and starts the heartbeat."""
    global _context, _heart, _helper
    logs.configure(settings)
    role = next((name for queue, name in NAMES.items() if queue in queues), "worker")
    _context = build_context(settings, worker_name(role), queues)
    _context.stopping = stopping
    started = time.monotonic()
    _context.decoders.start()  # their libraries load while the model does
    expire_dead(_context)
    work.preload(queues)
    if role == "classify":
        follow(_context)
    _heart = Heart(_context, period_s=min(5.0, settings.worker_ready_age_s / 4))
    _heart.start()
    _helper = Helper(_context)
    _helper.start()
    log.info("worker_started", worker=_context.name, queues=list(queues), seconds=round(time.monotonic() - started, 3))
    return _context


def end() -> None:
    """Stops the heartbeat, removes the worker's row, closes everything."""
    global _context, _heart, _helper
    if _helper is not None:
        _helper.stop()
        _helper = None
    if _heart is not None:
        _heart.stop()
        _heart = None
    if _context is not None:
        try:
            with _context.database.write() as session:
                heartbeats.leave(session, _context.name)
        except SQLAlchemyError as error:
            log.warning("heartbeat_left_behind", error=type(error).__name__)
        _context.close()
        _context = None


def expire_dead(context: Context) -> None:
    """Ends the leases of processes of this machine that run no more."""
    try:
        with context.database.read() as session:
            dead = [name for name in claims.running_workers(session) if is_known_dead(name)]
        if dead:
            with context.database.write() as session:
                count = claims.expire_leases_of(session, dead)
            log.warning("dead_worker_leases_ended", workers=len(dead), items=count)
    except SQLAlchemyError as error:
        log.warning("dead_workers_not_checked", error=type(error).__name__)


def follow(context: Context) -> None:
    """Loads the serving checkpoint if it is not loaded; a fault is logged and tried again with the next heartbeat."""
    try:
        context.predictors.follow()
    except Exception as error:  # whatever a damaged model or a missing library raises must not end the process
        log.error("model_not_followed", error=type(error).__name__)


class Heart(threading.Thread):
    """Says every few seconds that this process lives and what it has loaded; follows promotions meanwhile.

    Args:
        context: This process's context.
        period_s: Time between two beats, seconds.
    """

    def __init__(self, context: Context, period_s: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._context, self._period_s = context, period_s
        self._ended = threading.Event()
        self._classifies = QUEUE_INTERACTIVE in context.queues

    def run(self) -> None:
        """Beats until stopped."""
        while True:
            self._beat()
            if self._ended.wait(self._period_s):
                return
            if self._classifies:
                follow(self._context)

    def stop(self) -> None:
        """Ends the thread; waits for a beat in progress, but not for long."""
        self._ended.set()
        self.join(timeout=2.0)

    def _beat(self) -> None:
        predictors = self._context.predictors
        model = predictors.facts() if self._classifies else {"engine": ""}
        facts = {
            **{name: value for name, value in model.items() if name != "engine"},
            **self._context.pace.facts(),
            "resident_bytes": resident_bytes(),
            "code_version": code_version(),
        }
        try:
            with self._context.database.write() as session:
                heartbeats.beat(
                    session,
                    name=self._context.name,
                    queues=list(self._context.queues),
                    engine=str(model["engine"]),
                    checkpoint_id=predictors.serving,
                    facts=facts,
                )
        except SQLAlchemyError as error:
            log.warning("heartbeat_missed", error=type(error).__name__)


class Helper(threading.Thread):
    """Looks now and then for work that waits although this process is idle, and does it.

    Messages only save waiting; without a broker, or with a parent process that has gone deaf to it, this thread is what
    keeps the promise that committed work is done.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(name="helper", daemon=True)
        self._context = context
        self._ended = threading.Event()

    def run(self) -> None:
        """Looks until stopped."""
        patience_s = self._context.settings.resend_after_s
        while not self._ended.wait(patience_s / 2):
            # Twice the time after which a lost message is sent again: it is not messages that are missing.
            work.help_out(self._context, waited_s=2 * patience_s)

    def stop(self) -> None:
        """Ends the thread after the item in its hands."""
        self._ended.set()
        self.join(timeout=2.0)


def _stop(**_: object) -> None:
    end()


def _queues_of(app: Celery) -> tuple[str, ...]:
    """The queues this worker was started for, the most urgent first."""
    wanted = set(app.amqp.queues.consume_from)
    return tuple(queue for queue in QUEUES if queue in wanted)
