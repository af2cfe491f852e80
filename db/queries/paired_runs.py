"""Two runs on the same slices: who was right where the other was wrong, and whether luck explains it.

Owns matching the stored outcomes of two reports and McNemar's exact test on what differs. Only slices that both runs
scored count; a slice whose label differs between the two data sets is left out, and counted. Refuses other tests: with
several runs to choose from, a small p is no proof, and slices of one patient are not independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any


@dataclass(frozen=True)
class Pairing:
    """What two runs did on the slices that both scored.

    Attributes:
        slices: How many both scored, with the same label.
        both_right: Both were right.
        only_first: The first alone was right.
        only_second: The second alone was right.
        both_wrong: Neither was right.
        other_label: Slices that both scored under different labels; not counted above.
        p: McNemar's exact two-sided p; 1 when nothing differs.
    """

    slices: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    other_label: int
    p: float


def paired(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Pairing | None:
    """Pairs two lists of slice outcomes by file.

    Args:
        first: `slices.PART` of a report (docs/run-report.md).
        second: The same of another one.

    Returns:
        None when the two share no slice.
    """
    others = {outcome["file"]: outcome for outcome in second}
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    other_label = 0
    for one in first:
        two = others.get(one["file"])
        if two is None:
            continue
        if one["label"] != two["label"]:
            other_label += 1
            continue
        counts[one["prediction"] == one["label"], two["prediction"] == two["label"]] += 1
    if not sum(counts.values()):
        return None
    only_first, only_second = counts[True, False], counts[False, True]
    return Pairing(
        slices=sum(counts.values()),
        both_right=counts[True, True],
        only_first=only_first,
        only_second=only_second,
        both_wrong=counts[False, False],
        other_label=other_label,
        p=exact_p(only_first, only_second),
    )


def exact_p(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p of two discordant counts.

    Under the hypothesis that both are equally good, the smaller count is binomial with n = the sum of both and 1/2:
    p = min(1, 2 P(X <= smaller)). Hand check: 1 and 5 give 2 (1 + 6) / 64 = 0.21875.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(n, k) for k in range(smaller + 1))
    return min(1.0, float(2 * tail / (1 << n)))
