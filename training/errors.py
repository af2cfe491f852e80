"""What can go wrong in training.

Owns: the exceptions of `training`. They are fatal for the run: no retry mends a wrong scenario or a leaking split.
"""


class TrainingError(Exception):
    """Base of this package's errors. The message says what was received, what was expected and what to do."""


class DatasetError(TrainingError):
    """A data set cannot be read: no images, unknown columns, missing files, unreadable pictures."""


class ScenarioError(TrainingError):
    """A scenario has an unknown key or a value out of range."""


class LeakError(TrainingError):
    """A split is not clean: a patient or a near-duplicate stands on two sides of it."""


class RunError(TrainingError):
    """A run cannot go on: the loss is not finite, or a saved state belongs to another scenario or data set."""
