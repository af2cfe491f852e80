"""What a run needs to go on after it was killed.

Owns: writing and reading the state of a run: weights, averaged weights, optimiser, random generators, history. One
file, written whole or not at all. Refuses: pickles, and states of another scenario, data set or frozen part. A file
that cannot be read is set aside under another name, and the run starts anew.
"""

import json
import logging
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.errors import RunError

log = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]

_DAMAGED: Final = (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, zlib.error, struct.error)
"""What reading a file raises that is cut off or is no state; bytes that changed fail the archive's checksums."""


@dataclass
class RunState:
    """The state after a number of finished epochs.

    Attributes:
        scenario_digest: `Scenario.digest()` of the run.
        data_fingerprint: `datasets.fingerprint` of the data and their split.
        frozen_digest: Of the weights that do not learn; empty when all do.
        epochs_done: Finished epochs.
        arrays: Arrays by name; the prefix tells what they are (`model/`, `ema/`, `optimizer/`, `best/`).
        best_epoch: Epoch, counted from 0, whose averaged weights are under `best/`; -1 before there is one.
        best_loss: Its validation loss.
        history: Facts of each finished epoch.
    """

    scenario_digest: str
    data_fingerprint: str
    frozen_digest: str = ""
    epochs_done: int = 0
    arrays: Arrays = field(default_factory=dict)
    best_epoch: int = -1
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)

    def part(self, prefix: str) -> Arrays:
        """The arrays under a prefix, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.arrays.items() if k.startswith(f"{prefix}/")}

    def put(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the arrays under a prefix."""
        self.arrays = {k: v for k, v in self.arrays.items() if not k.startswith(f"{prefix}/")}
        self.arrays.update({f"{prefix}/{k}": np.array(v) for k, v in arrays.items()})


def save_state(path: Path, state: RunState) -> None:
    """Write the state; a kill or a full disk at any moment leaves the old or the new one, whole.

    Raises:
        OSError: It could not be written; the old one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(
        {
            "scenario_digest": state.scenario_digest,
            "data_fingerprint": state.data_fingerprint,
            "frozen_digest": state.frozen_digest,
            "epochs_done": state.epochs_done,
            "best_epoch": state.best_epoch,
            "best_loss": None if np.isinf(state.best_loss) else state.best_loss,
            "history": state.history,
        }
    )
    temporary = part_path(path)
    try:
        with temporary.open("wb") as file:
            np.savez(file, __facts__=np.frombuffer(facts.encode(), np.uint8), **state.arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk the room is needed
        raise


def part_path(path: Path) -> Path:
    """Under which name this process writes a state before it is whole.

    A process that was taken for dead may wake up in the middle of writing: it must not have the same file open.
    """
    return path.with_suffix(f".{_writer()}.part")


@cache
def _writer() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def load_state(path: Path, scenario_digest: str, data_fingerprint: str, frozen_digest: str = "") -> RunState | None:
    """Read the state of this very run.

    Returns:
        The state, or None when there is no file, or one that cannot be read; that one is renamed to `.damaged`.

    Raises:
        RunError: The state belongs to another scenario, other data or another frozen part.
    """
    if not path.is_file():
        return None
    try:
        state = _read(path)
    except _DAMAGED as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        log.warning("%s cannot be read (%s); it now is %s, and the run starts anew", path.name, error, aside.name)
        return None
    if (state.scenario_digest, state.data_fingerprint) != (scenario_digest, data_fingerprint):
        raise RunError(
            f"{path.name} is the state of another run: its scenario is {state.scenario_digest[:12]} and its data "
            f"{state.data_fingerprint[:12]}, now {scenario_digest[:12]} and {data_fingerprint[:12]}. Name another "
            "folder for the state, or delete the file to start anew."
        )
    if state.frozen_digest != frozen_digest:
        raise RunError(
            f"{path.name} was trained on other frozen weights ({state.frozen_digest[:12]}) than are at hand now "
            f"({frozen_digest[:12]}). Put the old weights back, or delete the file to start anew."
        )
    return state


def _read(path: Path) -> RunState:
    """The state in a file.

    Raises:
        zipfile.BadZipFile: Or another of `_DAMAGED`: the file is cut off, altered, or no state at all.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays.pop("__facts__").tobytes().decode())
    best_loss = facts["best_loss"]
    state = RunState(
        facts["scenario_digest"],
        facts["data_fingerprint"],
        facts.get("frozen_digest", ""),
        facts["epochs_done"],
        arrays,
        facts["best_epoch"],
        float("inf") if best_loss is None else best_loss,
        facts["history"],
    )
    if len(state.history) != state.epochs_done:
        raise ValueError(f"it counts {state.epochs_done} epochs and tells of {len(state.history)}")
    return state
