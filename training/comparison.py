"""Whether two classifiers differ on the same slices.

Owns: McNemar's test. Refuses: to judge classifiers that were scored on different slices, and to say which is better in
use: slices of one patient are not independent, which the test assumes, so its p-value is too small rather than too
large (`patients` in a report tells how few independent cases there are).

Source: McNemar, Psychometrika 12 (1947) 153-157; exact form: under the null hypothesis each slice that exactly one of
the two has right is as likely to be the one's as the other's, so the count of one side is binomial with p = 1/2. The
two-sided p-value is min(1, 2 x P(X <= min(b, c))) for X ~ B(b + c, 1/2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class McNemar:
    """The result.

    Attributes:
        slices: n, how many slices both classifiers scored.
        both_right: Slices that both have right.
        only_a: Slices that only A has right.
        only_b: Slices that only B has right.
        both_wrong: Slices that both have wrong.
        accuracy_a: Share of slices that A has right; None without slices.
        accuracy_b: The same of B.
        p_value: Exact, two-sided, 0 to 1; 1 when they differ on no slice.
    """

    slices: int
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    accuracy_a: float | None
    accuracy_b: float | None
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def mcnemar(right_a: Sequence[bool], right_b: Sequence[bool]) -> McNemar:
    """McNemar's exact test.

    Args:
        right_a: Whether classifier A had each slice right.
        right_b: The same of B, in the same order.

    Raises:
        TrainingError: They are not of the same length.
    """
    if len(right_a) != len(right_b):
        raise TrainingError(
            f"McNemar's test needs the same slices of both: received {len(right_a)} and {len(right_b)} outcomes."
        )
    pairs = [(bool(a), bool(b)) for a, b in zip(right_a, right_b, strict=True)]
    total = len(pairs)
    both, only_a, only_b = pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
    return McNemar(
        slices=total,
        both_right=both,
        only_a=only_a,
        only_b=only_b,
        both_wrong=total - both - only_a - only_b,
        accuracy_a=(both + only_a) / total if total else None,
        accuracy_b=(both + only_b) / total if total else None,
        p_value=exact_p(only_a, only_b),
    )


def exact_p(b: int, c: int) -> float:
    """Two-sided exact p-value of the discordant counts b and c."""
    n = b + c
    tail, term = 0, 1  # term: n over k, in whole numbers
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**n))
