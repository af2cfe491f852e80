"""`python -m tests.fuzz --minutes=10` (`make fuzz ARGS=--minutes=10`): looks for files that break reading.

Owns running for a stated time, and keeping what it finds: each new finding is shrunk and written to `tests/corpus/`,
where a test reads it for ever after. The exit status is 1 when there was one.
"""

import argparse
import hashlib
import secrets
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutations import Mutated, mutated
from tests.fuzz.target import Target

CORPUS = Path(__file__).parents[1] / "corpus"
EXAMPLES_A_ROUND = 500


class Search:
    """Looks for findings, round by round.

    Attributes:
        files: How many files were read.
        known: Findings so far; the same one is not reported twice.
    """

    def __init__(self, read: Callable[[bytes], None], ends_at: float) -> None:
        self._read, self._ends_at = read, ends_at
        self._failing: list[tuple[str, Mutated]] = []
        self.files = 0
        self.known: set[str] = set()

    def round(self, number: int) -> tuple[str, Mutated] | None:
        """Reads some hundred files; gives the smallest one of a new finding, if there is one."""
        self._failing = []
        look = settings(
            max_examples=EXAMPLES_A_ROUND,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(given(mutated())(self._look))
        try:
            seed(number)(look)()
        except BaseException:
            if not self._failing:
                raise
        if not self._failing:
            return None
        self.known |= {name for name, _ in self._failing}
        return self._failing[-1]

    def _look(self, found: Mutated) -> None:
        if time.monotonic() > self._ends_at and not self._failing:
            return  # Hypothesis has no clock: the rest of the round costs nothing
        self.files += 1
        try:
            self._read(found.data)
        except Exception as error:
            name = f"{type(error).__name__}: {error}"[:200]
            if name not in self.known:
                self._failing.append((name, found))
                raise


def search(minutes: float, first: int) -> int:
    """Looks for so long, keeps what it finds, and gives the number of findings."""
    ends_at = time.monotonic() + 60 * minutes
    with Target() as target:
        looking = Search(target.read, ends_at)
        number = first
        while time.monotonic() < ends_at:
            finding = looking.round(number)
            if finding is not None:
                name, found = finding
                path = CORPUS / f"{hashlib.sha256(found.data).hexdigest()[:16]}.bin"
                path.write_bytes(found.data)
                print(f"{name}\n  from {found.seed!r}, kept as {path.name}", flush=True)
            number += 1
    print(f"{looking.files} files in {minutes:g} minutes, {len(looking.known)} findings")
    return len(looking.known)


def main() -> int:
    """Fuzzes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for files that break reading.")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default 2)")
    parser.add_argument("--seed", type=int, help="repeat a run: the number that it printed")
    arguments = parser.parse_args()
    first = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {first}", flush=True)
    warnings.simplefilter("ignore")
    return 1 if search(arguments.minutes, first) else 0


if __name__ == "__main__":
    sys.exit(main())
