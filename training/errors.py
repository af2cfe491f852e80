"""What can go wrong in training.

Owns: the exceptions of `training`. They are fatal for the run: no retry mends a wrong scenario or a leaking split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class TrainingError(Exception):
    """Base of this package's errors. The message says what was received, what was expected and what to do."""


class DatasetError(TrainingError):
    """A data set cannot be used: no images, unknown columns, missing files, unreadable pictures, too few patients.

    Attributes:
        code: Names the kind of problem for programs, such as `unreadable` or `one_class`.
        files: The files that it is about, if any; paths relative to the data set's folder.
    """

    def __init__(self, message: str, code: str = "unusable", files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.files = tuple(files)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a scenario or a file of scenarios.

    Attributes:
        field: Dotted name, such as `head.units`; empty for the file as a whole.
        value: What stands there, shortened.
        expected: What is allowed.
        message: One sentence of all of it, without the place.
        line: Line of the file, counted from 1; 0 when there is no file.
        origin: Name of the file.
    """

    field: str
    value: str
    expected: str
    message: str
    line: int = 0
    origin: str = ""

    def __str__(self) -> str:
        """The message with its place."""
        place = f"{self.origin}, line {self.line}: " if self.line else f"{self.origin}: " if self.origin else ""
        return place + self.message

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `line`, `field`, `value`, `expected`, `message`, `origin`."""
        return {name: getattr(self, name) for name in ("line", "field", "value", "expected", "message", "origin")}


class ScenarioError(TrainingError):
    """Scenarios cannot be used.

    Attributes:
        mistakes: Everything that is wrong, in the order of the file; the message lists the same.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        lines = [str(mistake) for mistake in mistakes]
        super().__init__(lines[0] if len(lines) == 1 else f"{len(lines)} mistakes:\n" + "\n".join(lines))
        self.mistakes = tuple(mistakes)


class LeakError(TrainingError):
    """A split is not clean: a patient or a near-duplicate stands on two sides of it."""


class WeightsError(TrainingError):
    """A file of weights from elsewhere cannot be used: a whole model, damaged, hostile, or of another network."""


class RunError(TrainingError):
    """A run cannot go on: a saved state belongs to another scenario, data set or frozen part, or nothing was chosen."""


class DivergedError(RunError):
    """The loss of a run is not finite."""
