"""Writes the results of one item while the next one is worked on.

Owns one thread that does the last step of an item. A commit waits for a disk, or for a database on another machine,
and the cores need not wait with it.

Refuses to have more than one item's results in its hands, and to judge how a step ended: the step itself does.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

LastStep = Callable[[], None]
"""What remains of an item when its results are known: writing them, under the lease it was worked on with."""


class Writer:
    """Use as a context manager around a turn; leaving it waits for the last step."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._step: Future[None] | None = None

    def hand(self, step: LastStep) -> None:
        """Does `step` in the background; call `wait` before, so that there is never a second one."""
        self._step = self._thread.submit(step)

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self._step is not None:
            step, self._step = self._step, None
            step.result()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()
        self.wait()
