"""The rules that choose which series of a study are classified, as text in the settings.

Owns the grammar and its meaning. A text is rules separated by semicolons; a rule is `all`, or terms separated by
commas:

* sequences, as guessed from the header: `t1`, `t1_contrast`, `t2`, `flair`, `flair_contrast`, `pd`, `stir`, `dwi`,
  `swi`, `mra`, `perfusion`, `unknown_sequence`;
* planes: `axial`, `coronal`, `sagittal`, `oblique`, `unknown_plane`;
* `slices>=N`: at least N slices;
* `largest`: of the series that all of this holds for, the one with the most slices.

Terms of one kind are alternatives, kinds must all hold: `t1,t2,axial` is an axial T1 or T2. The first rule that holds
for some series of a study decides; when none does, nothing is chosen (end with `; all` to choose everything then).
Scouts are chosen by `all` alone.

Refuses to guess what a mistyped term means: every mistake is told, with its rule.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SEQUENCES: Final = {
    "t1": "T1",
    "t1_contrast": "T1+C",
    "t2": "T2",
    "flair": "FLAIR",
    "flair_contrast": "FLAIR+C",
    "pd": "PD",
    "stir": "STIR",
    "dwi": "DWI",
    "swi": "SWI",
    "mra": "MRA",
    "perfusion": "perfusion",
    "unknown_sequence": "",
}
"""Term -> name of the guess (`imaging.sequence`)."""

PLANES: Final = {
    "axial": "axial",
    "coronal": "coronal",
    "sagittal": "sagittal",
    "oblique": "oblique",
    "unknown_plane": "",
}
ALL: Final = "all"
LARGEST: Final = "largest"
SCOUT: Final = "localizer"

_LEAST: Final = re.compile(r"slices>=([0-9]{1,9})")


@dataclass(frozen=True)
class Candidate:
    """What the rules look at in a series.

    Attributes:
        key: Names it in the answer.
        sequence: Guess, or empty.
        plane: As on the series, or empty.
        slices: How many it has.
    """

    key: str
    sequence: str
    plane: str
    slices: int


@dataclass(frozen=True)
class Rule:
    """One rule; empty sets hold for every series."""

    text: str
    sequences: frozenset[str] = frozenset()
    planes: frozenset[str] = frozenset()
    least_slices: int = 0
    largest: bool = False
    all: bool = False

    def of(self, series: Sequence[Candidate]) -> list[Candidate]:
        """The series that it chooses, in the order given."""
        if self.all:
            return list(series)
        found = [
            one
            for one in series
            if one.plane != SCOUT
            and (not self.sequences or one.sequence in self.sequences)
            and (not self.planes or one.plane in self.planes)
            and one.slices >= self.least_slices
        ]
        # Of equally large ones the first: what was chosen must not change from look to look.
        return [max(found, key=lambda one: one.slices)] if self.largest and found else found


class SeriesRulesError(ValueError):
    """A text that is no list of rules; the message names every mistake."""


def parse(text: str) -> tuple[Rule, ...]:
    """Reads the rules.

    Args:
        text: As above; case and spaces do not matter.

    Raises:
        SeriesRulesError: With every mistake, its rule and what is accepted.
    """
    rules: list[Rule] = []
    mistakes: list[str] = []
    parts = text.split(";")
    for place, part in enumerate(parts, start=1):
        terms = [re.sub(r"\s+", "", term).lower() for term in part.split(",")]
        wrong = _mistakes(terms)
        if ALL in terms and place < len(parts):
            wrong.append(f"'{ALL}' stands before other rules, which would never be used; put it last")
        mistakes += [f"rule {place}: {mistake}" for mistake in wrong]
        if not wrong:
            rules.append(_rule(terms))
    if mistakes:
        raise SeriesRulesError("; ".join(mistakes))
    return tuple(rules)


def choose(rules: Sequence[Rule], series: Sequence[Candidate]) -> tuple[frozenset[str], str]:
    """Applies the rules to the series of one study.

    Returns:
        (keys of those that are chosen, text of the rule that decided; empty when none did).
    """
    for rule in rules:
        found = rule.of(series)
        if found:
            return frozenset(one.key for one in found), rule.text
    return frozenset(), ""


def _mistakes(terms: Sequence[str]) -> list[str]:
    found = []
    for term in terms:
        if not term:
            found.append("a term is empty; expected terms separated by single commas")
        elif term not in (ALL, LARGEST) and term not in SEQUENCES and term not in PLANES and not _LEAST.fullmatch(term):
            found.append(
                f"received '{term[:40]}'; expected {ALL}, {', '.join(SEQUENCES)}, {', '.join(PLANES)}, {LARGEST} or "
                "slices>=N"
            )
    if ALL in terms and len(terms) > 1:
        found.append(f"'{ALL}' stands with other terms; expected it alone")
    if sum(bool(_LEAST.fullmatch(term)) for term in terms) > 1:
        found.append("slices>=N stands there more than once")
    return found


def _rule(terms: Sequence[str]) -> Rule:
    least = [int(match[1]) for term in terms if (match := _LEAST.fullmatch(term))]
    return Rule(
        text=",".join(terms),
        sequences=frozenset(SEQUENCES[term] for term in terms if term in SEQUENCES),
        planes=frozenset(PLANES[term] for term in terms if term in PLANES),
        least_slices=least[0] if least else 0,
        largest=LARGEST in terms,
        all=ALL in terms,
    )
