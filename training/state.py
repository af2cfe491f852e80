"""What a run needs to go on after it was killed.

Owns: writing and reading the state of a run: weights, averaged weights, optimiser, random generators, history. One
file, written whole or not at all. Refuses: pickles, and states of another scenario or data set.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import RunError

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class RunState:
    """The state after a number of finished epochs.

    Attributes:
        scenario_digest: `Scenario.digest()` of the run.
        data_fingerprint: `datasets.fingerprint` of the data and their split.
        epochs_done: Finished epochs.
        arrays: Arrays by name; the prefix tells what they are (`model/`, `ema/`, `optimizer/`, `best/`).
        best_epoch: Epoch, counted from 0, whose averaged weights are under `best/`; -1 before there is one.
        best_loss: Its validation loss.
        history: Facts of each finished epoch.
    """

    scenario_digest: str
    data_fingerprint: str
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
    """Write the state; a kill at any moment leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(
        {
            "scenario_digest": state.scenario_digest,
            "data_fingerprint": state.data_fingerprint,
            "epochs_done": state.epochs_done,
            "best_epoch": state.best_epoch,
            "best_loss": None if np.isinf(state.best_loss) else state.best_loss,
            "history": state.history,
        }
    )
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(file, __facts__=np.frombuffer(facts.encode(), np.uint8), **state.arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path, scenario_digest: str, data_fingerprint: str) -> RunState | None:
    """Read the state of this very run.

    Returns:
        The state, or None when there is no file.

    Raises:
        RunError: The state belongs to another scenario or other data.
    """
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays.pop("__facts__").tobytes().decode())
    if (facts["scenario_digest"], facts["data_fingerprint"]) != (scenario_digest, data_fingerprint):
        raise RunError(
            f"{path.name} is the state of another run: its scenario is {facts['scenario_digest'][:12]} and its data "
            f"{facts['data_fingerprint'][:12]}, now {scenario_digest[:12]} and {data_fingerprint[:12]}. Name another "
            "folder for the state, or delete the file to start anew."
        )
    best_loss = facts["best_loss"]
    return RunState(
        scenario_digest,
        data_fingerprint,
        facts["epochs_done"],
        arrays,
        facts["best_epoch"],
        float("inf") if best_loss is None else best_loss,
        facts["history"],
    )
