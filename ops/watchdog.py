"""Ends the services when the launcher was killed and could not do it itself.

Owns nothing but a pipe from the launcher: while that is open, it sleeps. A launcher that ends in order says so through
the pipe first. One that was killed does not: then the services are ended here, politely and in order. The launcher's
lock is inherited, so that a next `make up` waits until this is done.

Run as `python -S -m ops.watchdog RUN_FOLDER GRACE_S`; standard library only.
"""

import os
import signal
import sys
from pathlib import Path

from ops import groups

ENDED_IN_ORDER = b"done"


def main() -> int:
    """Waits for the launcher's end."""
    folder, grace_s = Path(sys.argv[1]), float(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while piece := os.read(0, 64):
        said += piece
    if said.endswith(ENDED_IN_ORDER):
        return 0
    groups.end(groups.left_over(folder), grace_s)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
