"""What can go wrong between an artefact and a prediction.

Owns: the exceptions of `inference`. All of them are fatal for the operation at hand: no retry mends a damaged model or
an array of the wrong shape. What is wrong with a user's file is `imaging.outcomes.RejectedFile` instead.
"""


class InferenceError(Exception):
    """Base of this package's errors. The message says what was received, what was expected and what to do."""


class ArtefactError(InferenceError):
    """A model artefact cannot be used: damaged, incomplete, of an unknown format, or not what was asked for."""


class ArtefactNotFoundError(ArtefactError):
    """There is no artefact where one was expected."""


class DigestMismatchError(ArtefactError):
    """The file's SHA-256 is not the promoted one: it was replaced, damaged, or the wrong file was named."""


class EngineError(InferenceError):
    """An engine is not installed, cannot compile the graph, or returned something impossible."""


class EngineInputError(InferenceError):
    """The array handed to an engine has the wrong type, shape or values."""


class ExportError(InferenceError):
    """A trained network could not be turned into an artefact."""
