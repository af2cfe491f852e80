"""Process groups that a launcher started, and how to end them without it.

Owns the run files, `var/run/STAGE-NAME.group`: each names one service's process group, and is locked (flock) by every
process of that service, because they inherit the open file. A lock that is held proves that the group is alive and
that its number has not been given to somebody else since; so nothing that is not ours is ever signalled.

Standard library only: the watchdog runs it when the launcher is already gone.
"""

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

POLL_S = 0.05


def open_run_file(path: Path) -> int:
    """Opens and locks a run file for a service that is about to start; returns the descriptor to hand to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_alive(path: Path) -> bool:
    """Whether any process of the service behind this run file lives."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def group_of(path: Path) -> int | None:
    """The process group in a run file; None when it is absent or was not yet written."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def signal_leader(group: int, number: int) -> bool:
    """Signals the first process of a group: it decides about its children. False when it is gone."""
    try:
        os.kill(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_group(group: int) -> None:
    """Ends every process of a group at once."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def left_over(folder: Path) -> list[Path]:
    """Run files of living services, those to be ended first at the front."""
    return [path for path in sorted(folder.glob("*.group"), reverse=True) if is_alive(path)]


def end(paths: Sequence[Path], grace_s: float) -> None:
    """Ends services in the order given by their stage: the highest stage first, politely, then by force.

    Args:
        paths: Run files, as from `left_over`.
        grace_s: Time that each stage gets between SIGTERM and SIGKILL, seconds.
    """
    stages: dict[str, list[Path]] = {}
    for path in paths:
        stages.setdefault(path.name.partition("-")[0], []).append(path)
    for stage in sorted(stages, reverse=True):
        waiting = []
        for path in stages[stage]:
            group = group_of(path)
            if group is None or not is_alive(path):
                continue
            if signal_leader(group, signal.SIGTERM):
                waiting.append(path)
            else:
                kill_group(group)  # children whose parent was killed have nobody to tell them
        deadline = time.monotonic() + grace_s
        while (waiting := [path for path in waiting if is_alive(path)]) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for path in waiting:
            group = group_of(path)
            if group is not None and is_alive(path):
                kill_group(group)
