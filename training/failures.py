"""Why a run failed, in words and as a code.

Owns: the codes, and which exception means which. Refuses: to handle anything: what it does not know is not the run's
fault and goes on upwards.
"""

import errno
from dataclasses import dataclass
from typing import Final, Literal

from inference.errors import InferenceError
from inference.networks import NetworkError, WeightsMissingError
from training.errors import DivergedError, TrainingError

Code = Literal["diverged", "out_of_memory", "disk_full", "weights_missing", "storage", "refused"]
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class RunFailure:
    """A run that ended without a result.

    Attributes:
        name: Name of its scenario.
        code: diverged: the loss is not finite; out_of_memory; disk_full; weights_missing: the weights it starts from
            are not there; storage: a file cannot be read or written; refused: scenario, data or state do not fit.
        detail: For people: what happened and what to do.
    """

    name: str
    code: Code
    detail: str


def failure_of(error: Exception) -> tuple[Code, str] | None:
    """Code and text of an exception that is a failure of one run; None when it is a fault of the program."""
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if isinstance(error, WeightsMissingError):
        return "weights_missing", str(error)
    if isinstance(error, MemoryError) or _is_exhausted(error):
        return "out_of_memory", (
            "The machine's memory did not suffice. Use a smaller batch or picture size, another network, or fewer "
            "training workers."
        )
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return "disk_full", (
                "The disk is full. The state of the last finished epoch is whole: free some space and start the run "
                "again; it goes on from there."
            )
        return "storage", f"A file cannot be read or written: {error.strerror or type(error).__name__}."
    if isinstance(error, TrainingError | NetworkError | InferenceError):
        return "refused", str(error)
    return None


def _is_exhausted(error: Exception) -> bool:
    # TensorFlow raises its own kind, and is not imported here for its name alone.
    return any(kind.__name__ == "ResourceExhaustedError" for kind in type(error).__mro__)
