"""How much one worker process did lately.

Owns a count of slices and the seconds of work they took, over the last minutes, for its heartbeat. Refuses to know
what a slice is.
"""

import threading
import time
from collections import deque

WINDOW_S = 300.0


class Stopwatch:
    """Safe to use from the working thread and the heartbeat thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, int, float]] = deque()
        self._total = 0

    def add(self, slices: int, seconds: float) -> None:
        """Counts finished slices and the working time they took."""
        with self._lock:
            self._total += slices
            self._recent.append((time.monotonic(), slices, seconds))

    def facts(self) -> dict[str, object]:
        """Slices since start; slices per second of work within the last five minutes (None: no work)."""
        with self._lock:
            oldest = time.monotonic() - WINDOW_S
            while self._recent and self._recent[0][0] < oldest:
                self._recent.popleft()
            slices = sum(entry[1] for entry in self._recent)
            seconds = sum(entry[2] for entry in self._recent)
            rate = round(slices / seconds, 3) if seconds > 0 and slices else None
            return {"slices_done": self._total, "slices_per_s": rate}
