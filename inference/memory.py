"""Memory that pictures free is kept for the next picture.

Owns one wish to the C library (glibc's mallopt(3); elsewhere nothing happens). By itself it gives arrays of the size of
a slice back to the system as soon as they are freed, so that each of the dozen arrays on the way of each slice is made
of fresh pages, which the system has to clear and map one by one: that cost more than some of the work done on them.
The wish holds for the whole process and costs it some megabytes. Refuses to be made at import.
"""

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 128 * 1024 * 1024
_LARGEST_KEPT_BYTES: Final = 32 * 1024 * 1024  # the C library takes no larger one


def keep_freed_memory() -> None:
    """Makes the wish; cheap, and may be repeated."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
