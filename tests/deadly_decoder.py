"""A decoder host whose decoders die of certain pictures: a program for tests, run as `imaging.decoder_host` is.

A picture's number of rows says what happens to the process that decodes it.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from imaging.decoder_host import LastFile, main
from imaging.frames import Frame
from imaging.outcomes import Reason, RejectedFile

KILLED, SEGFAULT, HANGS, SPINS, BOMB, MISTAKE, GARBLED, FROZEN, ABORTS, EXITS = range(61, 71)
NAN = 71

_frame = LastFile.frame


def deadly_frame(last: LastFile, path: Path, index: int) -> Frame:
    """Decodes a picture, or dies of it."""
    frame = _frame(last, path, index)
    rows = frame.pixels.shape[0]
    if rows == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    elif rows == SEGFAULT:
        ctypes.string_at(0)
    elif rows == HANGS:
        time.sleep(600)
    elif rows == SPINS:
        while True:
            pass
    elif rows == BOMB:
        kept = []
        while True:
            kept.append(np.empty(4_000_000))  # untouched: the limit is on what was promised
    elif rows == MISTAKE:
        raise ZeroDivisionError("a value of the file")
    elif rows == GARBLED:
        return Frame(frame.pixels, index=index, plane="upside down")  # type: ignore[arg-type]
    elif rows == FROZEN:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    elif rows == ABORTS:
        os.abort()
    elif rows == EXITS:
        os._exit(3)
    elif rows == NAN:
        raise RejectedFile(Reason.DICOM_VALUE, attribute="x" * 1000)
    return frame


if __name__ == "__main__":
    type.__setattr__(LastFile, "frame", deadly_frame)
    sys.exit(main())
