"""The epochs of runs that are trained on the same batches.

Owns: the loop of epochs and steps over one or more runs side by side, the choice of each run's best checkpoint on the
validation part, early stopping, the state after each epoch, and that a run which fails or is stopped does so alone.
Refuses: to know whether the inputs are pictures or features, and to see a test sample.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.environment import environment, peak_memory_bytes
from training.errors import DivergedError, RunError
from training.failures import RunFailure, failure_of
from training.learner import Learner
from training.recorder import Recorder
from training.runs import RunResult, validation_facts
from training.sampling import Feed
from training.scenario import Scenario
from training.state import RunState, load_state, save_state

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]
Weights = dict[str, Float32]


@dataclass
class Lane:
    """One run among those in lockstep.

    Attributes:
        scenario: Its configuration.
        learner: What it trains.
        state: After its last finished epoch.
        state_path: Where the state is kept.
        recorder: Is told of progress.
        frozen: Weights that do not learn, by path; they become part of the result.
        ended: Its result or failure, once there is one.
        stopped: Whether its recorder asked to stop.
        reported: Whether its end was handed on.
    """

    scenario: Scenario
    learner: Learner
    state: RunState
    state_path: Path
    recorder: Recorder
    frozen: Weights
    ended: RunResult | RunFailure | None = None
    stopped: bool = False
    reported: bool = False


def open_lane(
    scenario: Scenario,
    learner: Learner,
    data_fingerprint: str,
    frozen_digest: str,
    frozen: Weights,
    state_path: Path,
    recorder: Recorder,
) -> Lane:
    """Take up a run where its state ends, or begin it.

    Raises:
        RunError: The state belongs to another run.
    """
    digest = scenario.digest()
    state = load_state(state_path, digest, data_fingerprint, frozen_digest)
    if state is None:
        state = RunState(digest, data_fingerprint, frozen_digest)
    else:
        learner.restore(state)
    return Lane(scenario, learner, state, state_path, recorder, frozen)


def train(
    lanes: list[Lane],
    feed: Feed,
    validation_labels: npt.NDArray[np.int64],
    threads: int,
    ended: Callable[[RunResult | RunFailure], None],
) -> None:
    """Train all lanes to their ends; each lane's `ended` holds what came of it.

    Runs whose state is ahead wait until the others have caught up. The facts of an epoch are `loss` (mean over its
    steps), `size` (pixels), `images` (training slices), `images_per_s` (of this run, over the training part of the
    epoch), `epoch_s` (by the clock, with all runs in lockstep), `runs_in_lockstep`, `peak_memory_bytes` (of the
    process, so far) and those of `validation_facts`.

    Args:
        lanes: The runs; what shares batches is decided by `groups.sharing_key`.
        feed: The batches.
        validation_labels: int64 (n): true class of each validation slice.
        threads: Of the numeric library, for the record.
        ended: Is called with each result or failure as soon as there is one.
    """
    machine = environment(threads)
    for lane in lanes:
        lane.recorder.started(lane.scenario.to_json(), lane.scenario.epochs, lane.state.epochs_done)
    for epoch in range(max(lane.scenario.epochs for lane in lanes)):
        _finish(lanes, machine, ended)
        active = [lane for lane in lanes if lane.ended is None and lane.state.epochs_done == epoch]
        if active:
            _epoch(active, feed, validation_labels, epoch)
    _finish(lanes, machine, ended)


def _epoch(lanes: list[Lane], feed: Feed, labels: npt.NDArray[np.int64], epoch: int) -> None:
    """One epoch of the lanes that are due."""
    size = lanes[0].scenario.size_of(epoch)
    losses: dict[str, list[float]] = {lane.scenario.name: [] for lane in lanes}
    began = time.monotonic()
    images = 0

    def going() -> list[Lane]:
        return [lane for lane in lanes if lane.ended is None and not lane.stopped]

    def go_on() -> bool:
        for lane in going():
            lane.stopped = lane.recorder.should_stop()
        return bool(going())

    inputs_of_validation: list[Float32] = []
    with _shared_failure(lanes):
        for number, (inputs, targets) in enumerate(feed.batches(epoch, go_on)):
            images += len(inputs)
            for lane in going():
                with _own_failure(lane):
                    losses[lane.scenario.name].append(lane.learner.step(inputs, targets, epoch, number))
            if not go_on():
                break
            if number % 20 == 0:
                lane = going()[0]
                recent = float(np.mean(losses[lane.scenario.name][-20:]))
                log.info("epoch %d step %d of %d, %s: loss %.4f", epoch, number, feed.steps, lane.scenario.name, recent)
        train_s = time.monotonic() - began
        # Kept as a list: all lanes score the same inputs.
        if going():
            inputs_of_validation = list(feed.validation(go_on))
    validations: dict[str, dict[str, float]] = {}
    for lane in going():
        with _own_failure(lane):
            scores = lane.learner.scores(inputs_of_validation)
            validations[lane.scenario.name] = validation_facts(scores, labels, len(lane.scenario.class_names))
    epoch_s = time.monotonic() - began
    for lane in going():
        facts = {
            "loss": float(np.mean(losses[lane.scenario.name])),
            "size": float(size),
            "images": float(images),
            "images_per_s": images / max(train_s, 1e-9),
            "epoch_s": epoch_s,
            "runs_in_lockstep": float(len(lanes)),
            "peak_memory_bytes": float(peak_memory_bytes()),
            **validations[lane.scenario.name],
        }
        with _own_failure(lane):
            _close_epoch(lane, epoch, facts)


def _close_epoch(lane: Lane, epoch: int, facts: dict[str, float]) -> None:
    """Choose, write the state, report."""
    if not np.isfinite(facts["validation_loss"]):
        raise DivergedError(
            f"The validation loss is {facts['validation_loss']} after epoch {epoch}; it must be finite. Lower "
            f"learning_rate (now {lane.scenario.learning_rate})."
        )
    state = lane.state
    state.history.append(facts)
    state.epochs_done = epoch + 1
    # Only the exported size competes: the statistics of smaller pictures do not fit it.
    exported = lane.scenario.size_of(epoch) == lane.scenario.preprocessing.size
    if exported and facts["validation_loss"] < state.best_loss:
        state.best_epoch, state.best_loss = epoch, facts["validation_loss"]
        state.put("best", lane.learner.average())
    lane.learner.store(state)
    save_state(lane.state_path, state)
    lane.recorder.epoch_finished(epoch, facts)


def _finish(lanes: list[Lane], machine: dict[str, Any], ended: Callable[[RunResult | RunFailure], None]) -> None:
    """Give their results to lanes that are done, early or at the end, and hand every new end on."""
    for lane in lanes:
        if lane.ended is None and (lane.stopped or _is_done(lane)):
            with _own_failure(lane):
                lane.ended = result = _result(lane, machine)
                if not lane.stopped:
                    lane.recorder.finished(result.facts)
        if lane.ended is not None and not lane.reported:
            lane.reported = True
            ended(lane.ended)


def _is_done(lane: Lane) -> bool:
    state, patience = lane.state, lane.scenario.patience_epochs
    stale = state.epochs_done - 1 - state.best_epoch
    early = bool(patience) and state.best_epoch >= 0 and stale >= patience
    return early or state.epochs_done >= lane.scenario.epochs


def _result(lane: Lane, machine: dict[str, Any]) -> RunResult:
    """What a lane comes to.

    Raises:
        RunError: It is done, and no epoch qualified.
    """
    state = lane.state
    if state.best_epoch < 0 and not lane.stopped:
        raise RunError("No epoch at the exported size was finished; lengthen the last phase.")
    wall_s = sum(epoch["epoch_s"] for epoch in state.history)
    facts = {
        "best_epoch": state.best_epoch,
        "best_loss": state.best_loss,
        "epochs": state.epochs_done,
        "wall_s": wall_s,
        "images_per_s": sum(epoch["images"] for epoch in state.history) / max(wall_s, 1e-9),
        "peak_memory_bytes": max((int(epoch["peak_memory_bytes"]) for epoch in state.history), default=0),
        "runs_in_lockstep": max((int(epoch["runs_in_lockstep"]) for epoch in state.history), default=1),
        "environment": machine,
    }
    weights = {**lane.frozen, **state.part("best")} if state.best_epoch >= 0 else {}
    return RunResult(lane.scenario.name, weights, state.best_epoch, state.best_loss, state.history, lane.stopped, facts)


@contextmanager
def _own_failure(lane: Lane) -> Iterator[None]:
    """What goes wrong inside is the failure of this lane alone, unless it is a fault of the program."""
    try:
        yield
    except Exception as error:
        _fail(lane, error)


@contextmanager
def _shared_failure(lanes: list[Lane]) -> Iterator[None]:
    """What goes wrong inside, outside of any lane's own part, is the failure of all that still run."""
    try:
        yield
    except Exception as error:
        for lane in lanes:
            if lane.ended is None and not lane.stopped:
                _fail(lane, error)


def _fail(lane: Lane, error: Exception) -> None:
    """Note a failure and report it.

    Raises:
        Exception: The error itself, when it is no failure of a run.
    """
    known = failure_of(error)
    if known is None:
        raise error
    lane.ended = RunFailure(lane.scenario.name, *known)
    log.warning("%s failed (%s): %s", lane.scenario.name, *known)
    lane.recorder.failed(*known)
