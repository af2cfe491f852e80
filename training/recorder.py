"""How a run reports.

Owns: the protocol that a run speaks and a recorder that writes lines of JSON. Refuses: databases: the worker
implements the protocol onto its own tables.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """What a run tells while it goes on. What a method raises ends the training of the whole group."""

    def started(self, scenario: Mapping[str, Any], epochs: int, first_epoch: int) -> None:
        """The run starts, or goes on from `first_epoch`, counted from 0."""

    def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
        """An epoch ended and its state is on disk; `facts` are numbers, see `lockstep.train`."""

    def finished(self, facts: Mapping[str, Any]) -> None:
        """The run ended and its best checkpoint was chosen; `facts` as in `RunResult.facts`."""

    def failed(self, code: str, detail: str) -> None:
        """The run failed alone; `code` and `detail` as in `RunFailure`."""

    def should_stop(self) -> bool:
        """Whether the run shall stop now; asked after each step and, while features are made, every few seconds."""


class JsonLinesRecorder:
    """Appends one JSON object a line to a file, and logs a short line of the same.

    Args:
        path: The file; its folder is made.
        name: Of the run, for the log.
    """

    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._name = path, name
        self._epochs = 0

    def started(self, scenario: Mapping[str, Any], epochs: int, first_epoch: int) -> None:
        """See `Recorder`."""
        self._epochs = epochs
        self._write("started", {"scenario": dict(scenario), "epochs": epochs, "first_epoch": first_epoch})
        log.info("%s: %d epochs, %d done", self._name, epochs, first_epoch)

    def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
        """See `Recorder`."""
        self._write("epoch_finished", {"epoch": epoch, **facts})
        log.info(
            "%s: epoch %d of %d, loss %.4f, validation loss %.4f, balanced accuracy %.4f, %.1f s",
            self._name,
            epoch + 1,
            self._epochs,
            facts["loss"],
            facts["validation_loss"],
            facts["validation_balanced_accuracy"],
            facts["epoch_s"],
        )

    def finished(self, facts: Mapping[str, Any]) -> None:
        """See `Recorder`."""
        self._write("finished", facts)
        log.info("%s: best epoch %d, validation loss %.4f", self._name, facts["best_epoch"] + 1, facts["best_loss"])

    def failed(self, code: str, detail: str) -> None:
        """See `Recorder`."""
        self._write("failed", {"code": code, "detail": detail})

    def should_stop(self) -> bool:
        """A run from the command line is stopped with Ctrl-C and resumed by the same command."""
        return False

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        record = {"event": event, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
