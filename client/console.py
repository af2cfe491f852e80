"""What the client shows: a bar on a terminal, a line now and then elsewhere.

Owns the words. Refuses to write progress to standard output: that is for results.
"""

import sys
import time
from typing import Any, TextIO

from client.api import Sending

WIDTH = 30
LINE_EVERY_S = 5.0


class Console:
    """Shows progress on standard error.

    Args:
        out: By default standard error.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._tty = self._out.isatty()
        self._last = 0.0
        self._before = ""
        self._open = False

    def sending(self, state: Sending) -> None:
        """The upload."""
        fraction = state.bytes_done / state.size_bytes if state.size_bytes else state.files_done / max(1, state.files)
        text = f"sending {state.files_done}/{state.files} files, {_size(state.bytes_done)} of {_size(state.size_bytes)}"
        if state.trouble:
            text += f" ({state.trouble})"
        self._show(fraction, text, final=state.files_done == state.files, at_once=bool(state.trouble))

    def following(self, job: dict[str, Any]) -> None:
        """The job."""
        slices = job["slices"]
        settled = slices["total"] - slices["pending"]
        if slices["total"]:
            text = f"{job['state']}: {settled}/{slices['total']} slices"
            if slices["failed"]:
                text += f", {slices['failed']} failed"
        else:
            text = str(job["state"])
            if job["files"]["opened"]:
                text += f": {job['files']['opened']} files opened"
        if not job["ended"]:
            if job["jobs_ahead"]:
                text += f", {job['jobs_ahead']} jobs ahead"
            if job["seconds_left"] is not None:
                text += f", about {_duration(job['seconds_left'])} left"
            if job["waits_for"]:
                text += f" ({job['waits_for']['sentence']})"
        self._show(job["fraction"], text, final=job["ended"])

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end()
        print(text, file=self._out, flush=True)

    def end(self) -> None:
        """Leaves the bar's line."""
        if self._open:
            print(file=self._out, flush=True)
            self._open = False

    def _show(self, fraction: float, text: str, *, final: bool, at_once: bool = False) -> None:
        now = time.monotonic()
        pause = 0.1 if self._tty else LINE_EVERY_S
        if text == self._before or (not final and not at_once and now - self._last < pause):
            return
        self._last, self._before = now, text
        if self._tty:
            full = round(WIDTH * min(1.0, max(0.0, fraction)))
            print(f"\r\033[K[{'#' * full}{'.' * (WIDTH - full)}] {text}", end="", file=self._out, flush=True)
            self._open = True
            if final:
                self.end()
        else:
            print(f"{round(100 * fraction):3d} % {text}", file=self._out, flush=True)


def summary(job: dict[str, Any], studies: list[dict[str, Any]]) -> str:
    """What came out, for people."""
    slices, outcomes = job["slices"], job["files"]["outcomes"]
    lines = [
        f"Job {job['id']}: {job['state']}",
        f"  files: {sum(outcomes.values())} looked at"
        + "".join(f", {count} {outcome.replace('_', ' ')}" for outcome, count in sorted(outcomes.items())),
        f"  slices: {slices['total']}, of these {slices['done']} with a result, {slices['failed']} failed, "
        f"{slices['cancelled']} cancelled, {slices.get('left_out', 0)} left out",
    ]
    if job["failure"]:
        lines.append(f"  {job['failure']['sentence']}")
    if job["duplicate_of"]:
        lines.append(f"  The same content was sent before: job {job['duplicate_of']}")
    for study in studies:
        found = study["summary"]
        classes = ", ".join(f"{support['class_name']} on {support['slices']}" for support in found["support"])
        lines.append(f"  study {study['title']}: {found['finding']}" + (f" ({classes} slices)" if classes else ""))
    if studies:
        lines.append(f"  {studies[0]['notice']}")
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, step in (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
