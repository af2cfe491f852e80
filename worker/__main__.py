"""Starts a worker: `python -m worker classify`, or `intake`, `transfer`, `registry`, `training`.

Owns which queues each kind of worker serves and how its Celery process is started, so that a Procfile and a compose
file say one word. Refuses options: everything that may be set is a setting.
A worker that fails starts again by itself; one that was told to end stays ended.

SIGTERM lets the running chunk finish; what takes longer than `soft_shutdown_s` is given back for another worker.
"""

import argparse
import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Final, NamedTuple

from config.queues import (
    QUEUE_BATCH,
    QUEUE_HOUSEKEEPING,
    QUEUE_INTAKE,
    QUEUE_INTERACTIVE,
    QUEUE_REGISTRY,
    QUEUE_TRAINING,
    QUEUE_TRANSFER,
)

RESTART_PAUSE_S: Final = 1.0
TRAINING_NICENESS: Final = 10
"""Training fills every core for hours; a study that arrives on the same machine goes first."""


class Role(NamedTuple):
    """One kind of worker."""

    queues: tuple[str, ...]
    processes: int
    messages_a_child: int | None = None
    """After so many a child process is replaced: what TensorFlow took, only the end of its process gives back."""


ROLES: Final = {
    # One process: it fills all cores by itself, and the order of work is decided at each claim.
    "classify": Role((QUEUE_INTERACTIVE, QUEUE_BATCH), 1),
    # Two: a single image is opened while a folder of ten thousand is.
    "intake": Role((QUEUE_INTAKE, QUEUE_HOUSEKEEPING), 2),
    # One of its own: an archive that does not answer must not keep anybody's files from being opened.
    "transfer": Role((QUEUE_TRANSFER,), 1),
    # One: it plans sweeps, registers data sets and makes artefacts, so that none of that waits for a training.
    "registry": Role((QUEUE_REGISTRY,), 1, messages_a_child=1),
    # One run, or one group of runs that share their work, fills all cores; start as many workers as there are machines.
    "training": Role((QUEUE_TRAINING,), 1, messages_a_child=1),
}


def arguments(role: str, log_level: str = "INFO") -> list[str]:
    """Celery's command line for a kind of worker."""
    kind = ROLES[role]
    return [
        "--quiet",
        "worker",
        "--pool=prefork",
        f"--concurrency={kind.processes}",
        f"--queues={','.join(kind.queues)}",
        f"--hostname={role}-{os.getpid()}@%h",
        f"--loglevel={log_level}",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        *([f"--max-tasks-per-child={kind.messages_a_child}"] if kind.messages_a_child else []),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until told to end: 0; 2 when the settings are not usable."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="A NeuroSight worker.")
    parser.add_argument("role", choices=sorted(ROLES))
    role = parser.parse_args(argv).role
    from config.settings import SettingsError, load_settings
    from worker import logs

    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if not settings.broker_url:
        print("NEUROSIGHT_BROKER_URL is empty; expected redis://:PASSWORD@HOST:PORT/0", file=sys.stderr)
        return 2
    logs.configure(settings)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets at length
    if role == "training":
        os.nice(TRAINING_NICENESS)
        from worker import without_tensorflow

        if not without_tensorflow.is_installed():
            if without_tensorflow.wait(settings):
                os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - a real worker in this process's place
            return 0
    from celery.platforms import SecurityWarning
    from celery.signals import worker_shutting_down

    from worker.celery_app import create_app

    # It warns of pickled messages from strangers; ours are JSON with one id (`accept_content`).
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = create_app(settings)
    told_to_end = threading.Event()

    def ending(**_: object) -> None:
        told_to_end.set()

    worker_shutting_down.connect(ending, weak=False, dispatch_uid="neurosight-told-to-end")
    # Celery 5.7 returns from here also after a failure, and keeps its status to itself: that nobody told it to end is
    # what tells one from the other.
    app.worker_main(arguments(role, settings.log_level))
    if not told_to_end.is_set():
        logging.getLogger("worker").error("worker_starts_again")
    if not told_to_end.wait(RESTART_PAUSE_S):
        # Celery gives up when the connection to the broker breaks at certain moments (kombu 5.7: closing a channel
        # restores its messages over the one that is gone). Work in progress is safe; what is missing is a worker.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - replaced on purpose: the process id stays
    return 0


if __name__ == "__main__":
    sys.exit(main())
