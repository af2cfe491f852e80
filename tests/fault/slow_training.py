"""A real training worker that waits at certain places to be killed: a program for the fault tests.

The scene is set by variables: NS_TEST_STEP_S, seconds added to each step; NS_TEST_POISON, a run that kills the process
that trains its second epoch; NS_TEST_NAN, a run whose weights are infinite from the start; NS_TEST_GATES, a folder:
who comes to a gate whose file lies there renames the file to `NAME.reached` and waits to be killed; in that folder, the
file `start`, without which no run begins when NS_TEST_HOLD is set.

TensorFlow is imported before the fork here, which a real worker never does: a killed child is replaced in a second.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow  # noqa: F401 - see above

import training.groups
import training.lockstep
import worker.train
from training.state import RunState, part_path
from worker.__main__ import main
from worker.recording import DatabaseRecorder

STEP_S = float(os.environ.get("NS_TEST_STEP_S", "0"))
POISON = os.environ.get("NS_TEST_POISON", "")
NAN = os.environ.get("NS_TEST_NAN", "")
HOLD = bool(os.environ.get("NS_TEST_HOLD"))
GATES = Path(os.environ.get("NS_TEST_GATES", "/nonexistent"))

_save_state = vars(training.lockstep)["save_state"]
_run_report = vars(worker.train)["run_report"]
_head_learner = vars(training.groups)["head_learner"]


def gate(name: str) -> None:
    """Waits here for the end, when the test wants it."""
    path = GATES / name
    if path.exists():
        path.rename(GATES / f"{name}.reached")
        time.sleep(600)


class SlowRecorder(DatabaseRecorder):
    """The real recorder; it is asked between steps, and so can make them slow."""

    _name = ""
    _epochs = 0

    def started(self, scenario: Mapping[str, Any], epochs: int, first_epoch: int) -> None:
        super().started(scenario, epochs, first_epoch)
        self._name, self._epochs = str(scenario["name"]), first_epoch
        while HOLD and not (GATES / "start").exists():
            time.sleep(0.02)

    def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
        super().epoch_finished(epoch, facts)
        self._epochs = epoch + 1

    def should_stop(self) -> bool:
        if self._name == POISON and self._epochs == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._epochs >= 1:
            gate("in-an-epoch")
        time.sleep(STEP_S)
        return super().should_stop()


def half_written(path: Path, state: RunState) -> None:
    """Saves a state, unless the gate is closed: then half of one lies there under the name of an unfinished file."""
    if state.epochs_done == 3 and (GATES / "writing-a-state").exists():
        part_path(path).write_bytes(path.read_bytes()[:1000])
        gate("writing-a-state")
    _save_state(path, state)


def report_of_the_second(scenario: Any, *arguments: Any) -> Any:
    """Reports a run; the second one only if the gate is open."""
    if scenario.learning_rate < 0.01:
        gate("between-runs")
    return _run_report(scenario, *arguments)


def poisoned_learner(scenario: Any, *arguments: Any) -> Any:
    """The learner of a run, which diverges in its first step when the test wants it."""
    learner = _head_learner(scenario, *arguments)
    if scenario.name == NAN:
        kernel = learner.model.get_layer("head_scores").kernel
        kernel.assign(np.full(kernel.shape, np.inf, np.float32))
    return learner


vars(training.groups)["head_learner"] = poisoned_learner
vars(training.lockstep)["save_state"] = half_written
vars(worker.train)["run_report"] = report_of_the_second
vars(worker.train)["DatabaseRecorder"] = SlowRecorder

if __name__ == "__main__":
    sys.exit(main())
