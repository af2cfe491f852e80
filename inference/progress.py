"""A progress bar on standard error.

Owns: drawing it, at most ten times a second, and only where somebody can see it. Refuses: to write into files and
pipes.
"""

import sys
import time
from typing import Final, TextIO

_WIDTH: Final = 30


class Progress:
    """Counts finished files and slices.

    Args:
        total_files: How many there are.
        stream: A terminal, or anything else, in which case nothing is drawn; None: standard error.
    """

    def __init__(self, total_files: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total_files
        self._visible = self._stream.isatty()
        self._files = 0
        self._slices = 0
        self._started = time.monotonic()
        self._drawn = 0.0

    def step(self, *, file_done: bool) -> None:
        """One more slice; perhaps the last of its file."""
        self._slices += 1
        self._files += file_done
        now = time.monotonic()
        if self._visible and (now - self._drawn >= 0.1 or self._files == self._total):
            self._drawn = now
            self._draw(now - self._started)

    def close(self) -> None:
        """Ends the line of the bar."""
        if self._visible and self._slices:
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self, elapsed_s: float) -> None:
        done = self._files / max(1, self._total)
        bar = ("#" * round(_WIDTH * done)).ljust(_WIDTH, ".")
        rate = self._slices / max(elapsed_s, 1e-6)
        left = ""
        if 0 < self._files < self._total:
            left = f", {elapsed_s / self._files * (self._total - self._files):.0f} s left"
        text = f"[{bar}] {self._files}/{self._total} files, {self._slices} slices, {rate:.1f} slices/s{left}"
        self._stream.write(f"\r{text:<100}")
        self._stream.flush()
