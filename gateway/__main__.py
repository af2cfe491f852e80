"""Starts a way in: `python -m gateway listen` (DICOM) or `python -m gateway watch` (a folder).

Owns which processes there are, and that one which is switched off waits instead of ending, for a tool that reads the
Procfile ends everything when one of its processes ends. Two processes, not one: a folder on a network disk that hangs
must not keep the listener from answering, nor a flood of instances the folder from being read.
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from config.settings import Settings, SettingsError, load_settings

REFUSED_STATUS = 2

log = logging.getLogger("gateway")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; exit status 2 when the settings are not usable."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="A way in for NeuroSight.")
    parser.add_argument("way", choices=("listen", "watch"))
    way = parser.parse_args(argv).way
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return REFUSED_STATUS
    from config import logs

    logs.configure(settings)
    ended = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    run = _switched_on(way, settings)
    if run is None:
        log.info("switched_off", extra={"way": way})
        ended.wait()
        return 0
    try:
        run(settings, ended)
    except OSError as error:
        log.error("cannot_start", extra={"way": way, "detail": str(error)})
        return REFUSED_STATUS
    return 0


def _switched_on(way: str, settings: Settings) -> Callable[[Settings, threading.Event], None] | None:
    """What to run; None when the settings do not ask for it."""
    if way == "listen" and settings.dicom_port:
        from gateway import listener

        return listener.run
    if way == "watch" and settings.watch_dir is not None:
        from gateway import watch

        return watch.run
    return None


if __name__ == "__main__":
    sys.exit(main())
