"""The dispatcher: `python -m worker.dispatcher` does a round of housekeeping every few seconds, for ever.

Owns the loop and its back-off. It is a plain process and no Celery beat, because what has to survive the loss of the
broker must not be woken through the broker (docs/adr/0004). Several may run; every step is safe to do twice.
"""

import signal
import sys
import threading
from types import FrameType

import structlog

from config.settings import Settings, SettingsError, load_settings
from worker import logs
from worker.faults import delay_s
from worker.housekeeping import Housekeeper

log = structlog.get_logger(__name__)


def run(settings: Settings, ended: threading.Event) -> None:
    """Rounds until `ended` is set; after rounds that failed the pause grows up to a minute."""
    failures = 0
    with Housekeeper(settings) as housekeeper:
        log.info("dispatcher_started", period_s=settings.housekeeping_period_s)
        while not ended.is_set():
            failures = 0 if housekeeper.round() else failures + 1
            pause_s = settings.housekeeping_period_s
            # A database that comes back should not wait a minute for us: grow slowly, stay below ten seconds.
            ended.wait(min(delay_s(failures, pause_s), max(10.0, pause_s)) if failures else pause_s)
    log.info("dispatcher_ended")


def main() -> int:
    """Runs until SIGTERM or SIGINT; exit status 2 when the settings are not usable."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure(settings)
    ended = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    run(settings, ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
