"""Recorders for the tests of training."""

from collections.abc import Mapping
from typing import Any


class Silent:
    """A recorder that keeps what it is told and stops the run after a number of steps."""

    def __init__(self, stop_after: int = -1) -> None:
        self.steps = 0
        self.first_epoch = -1
        self.epochs: list[int] = []
        self.facts: Mapping[str, Any] = {}
        self.failure = ""
        self._stop_after = stop_after

    def started(self, scenario: Mapping[str, Any], epochs: int, first_epoch: int) -> None:
        self.first_epoch = first_epoch

    def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
        self.epochs.append(epoch)

    def finished(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def failed(self, code: str, detail: str) -> None:
        self.failure = code

    def should_stop(self) -> bool:
        self.steps += 1
        return self.steps == self._stop_after
