"""The Celery application of the workers.

Owns Celery's settings and the registration of tasks. `create_app(settings)` builds one; for `celery -A
worker.celery_app` the attribute `app` is built when it is first asked for, so that nothing happens at import.

Why these settings (names as of Celery 5.7):
* `task_acks_late` with `task_reject_on_worker_lost`: a killed child's message comes back. That is safe because the
  database counts attempts when an item is claimed; the message itself decides nothing.
* One visibility timeout for all processes on a broker, far beyond the longest chunk; recovery does not wait for it,
  because housekeeping rings again.
* `worker_disable_prefetch` and the priority order of queues: a message is fetched only when the process is free, and
  the interactive queue is looked at first.
* A message for training is acknowledged when it is taken: work of hours must not depend on a visibility timeout. A
  training worker that is lost is replaced through its lease, like any other.
* No result backend, no retries, no countdown in Celery: state, retry and delay are columns.
* SIGTERM is Celery's warm shutdown: the running chunk finishes, then the process ends with status 0. What takes longer
  than `soft_shutdown_s` gives its item back (`worker.lease.Stopping`). Celery's own soft shutdown is not used: it
  always sleeps for its whole time, and ends with a failure.
"""

from collections.abc import Mapping
from typing import Any, Final

from celery import Celery

from config.queues import (
    TASK_COMPARE,
    TASK_EXPORT_RUN,
    TASK_HOUSEKEEPING,
    TASK_IMPORT,
    TASK_INTAKE,
    TASK_PLAN_SWEEP,
    TASK_REGISTER_DATASET,
    TASK_RETRIEVE,
    TASK_SEND,
    TASK_TRAIN,
    TASKS,
)
from config.settings import Settings, load_settings
from db.doorbell import declared_queues, shared_transport_options

SOFT_LIMIT_S, HARD_LIMIT_S = 150, 180
LIMITS_S: Final[Mapping[str, tuple[float | None, float | None]]] = {
    # Opening ten thousand files takes longer than classifying a chunk; the lease is renewed meanwhile.
    TASK_INTAKE: (3600, 3660),
    # Whichever message wakes the registry worker, it may find a large data set to read.
    TASK_REGISTER_DATASET: (3600, 3660),
    TASK_PLAN_SWEEP: (3600, 3660),
    TASK_EXPORT_RUN: (3600, 3660),
    TASK_COMPARE: (3600, 3660),
    TASK_IMPORT: (3600, 3660),
    # A slow archive and a large study; what was answered for is not sent or fetched again.
    TASK_SEND: (3600, 3660),
    TASK_RETRIEVE: (3600, 3660),
    # Days, if need be. There is no limit in the settings either: Celery takes that one where a task names none.
    TASK_TRAIN: (None, None),
}
"""Soft and hard limit of tasks that take longer than others, seconds."""

PROCESS_START_LIMIT_S = 60.0
"""Celery kills a child that is not up by then; loading a large model may take more than its default of 4 s."""


def create_app(settings: Settings) -> Celery:
    """Builds the application: settings, tasks, and the life cycle of its processes."""
    from worker import lifecycle

    app = Celery("neurosight", set_as_current=True)
    app.conf.update(celery_settings(settings))
    _register(app, settings)
    lifecycle.install(app, settings)
    return app


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Every Celery setting that is not left at its default."""
    return {
        "broker_url": settings.broker_url,
        "broker_connection_timeout": 5,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            **shared_transport_options(settings),
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": "priority",
        },
        "task_queues": declared_queues(),
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_publish_retry": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_proc_alive_timeout": PROCESS_START_LIMIT_S,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        # Our logs are written to stderr by ourselves; Celery's proxy would swallow them in the child.
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_max_memory_per_child": 2 * 1024 * 1024,  # KiB; a fuse against leaks, checked between tasks
        "enable_utc": True,
        "timezone": "UTC",
    }


def _register(app: Celery, settings: Settings) -> None:
    def wake(work_item_id: str = "") -> None:
        """There may be something to do; which item, the database says."""
        from worker import lifecycle, work

        work.turn(lifecycle.context())

    def housekeep(work_item_id: str = "") -> None:
        """One round of housekeeping, for an operator who does not want to wait for the dispatcher's."""
        from worker.housekeeping import Housekeeper

        with Housekeeper(settings) as housekeeper:
            housekeeper.round()

    for task in TASKS:
        soft, hard = LIMITS_S.get(task, (SOFT_LIMIT_S, HARD_LIMIT_S))
        body = housekeep if task == TASK_HOUSEKEEPING else wake
        app.task(body, name=task, acks_late=task != TASK_TRAIN, soft_time_limit=soft, time_limit=hard)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    built = create_app(load_settings())
    globals()["app"] = built
    return built
