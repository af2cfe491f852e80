"""A real worker whose engine is slow and which dies of certain pictures: a program for the fault tests.

The scene is set by variables: NS_TEST_DELAY_S, seconds added to each slice; NS_TEST_POISON_SIDE, number of rows of a
picture that kills the worker, as a fault of the engine would; NS_TEST_DECODERS, the module of a program with decoders
of its own.
"""

import os
import signal
import sys
import time
from typing import Any

import imaging.decoder_processes
import imaging.decoders
import inference.engines
import inference.predictor
from imaging.frames import Pixels
from imaging.outcomes import RejectedFile
from worker.__main__ import main

DELAY_S = float(os.environ.get("NS_TEST_DELAY_S", "0"))
POISON_SIDE = int(os.environ.get("NS_TEST_POISON_SIDE", "0"))

_choose = inference.engines.choose
_read_pixels = imaging.decoders.Decoders.read_pixels


class SlowEngine:
    """The real engine, with a pause for each slice."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def group(self) -> int:
        return 2

    def run(self, images: Any) -> Any:
        time.sleep(DELAY_S * len(images))
        return self._engine.run(images)


def slow_choose(*arguments: Any) -> Any:
    return SlowEngine(_choose(*arguments))


def deadly_read_pixels(*arguments: Any) -> list[Pixels | RejectedFile]:
    answers = _read_pixels(*arguments)
    if any(not isinstance(pixels, RejectedFile) and pixels.shape[0] == POISON_SIDE for pixels in answers):
        os.kill(os.getpid(), signal.SIGKILL)
    return answers


vars(inference.predictor)["choose"] = slow_choose
type.__setattr__(imaging.decoders.Decoders, "read_pixels", deadly_read_pixels)
vars(imaging.decoder_processes)["PROGRAM"] = os.environ.get("NS_TEST_DECODERS", imaging.decoder_processes.PROGRAM)

if __name__ == "__main__":
    sys.exit(main())
