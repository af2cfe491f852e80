"""Which MR sequence a series was taken with, guessed from its header.

This module owns the guess: first by the words that technicians put into the description, since they name what the
radiologist asked for, then by the times of the acquisition (echo, repetition and inversion time), by bounds as they
stand in textbooks for 1.5 and 3 tesla. Contrast comes from the header's contrast agent or from the words. It refuses
to guess when neither says enough; a guess is shown as one and decides no classification.
"""

from __future__ import annotations

import re

from imaging.frames import DicomFacts

_SEPARATED = r"(?<![a-z0-9]){}(?![a-z0-9])"

# The first that is found counts: a "T2 FLAIR" is a FLAIR, a "T2*" is no T2, a diffusion is often called "ep2d t2".
_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("DWI", _SEPARATED.format(r"(dwi|diff|diffusion|difusi|adc|dti|trace[w]?|ep2d_diff\w*|resolve)")),
        ("SWI", r"swi|t2\*|t2_?star|suscept|" + _SEPARATED.format(r"(hemo|fl2d_hemo)")),
        ("MRA", _SEPARATED.format(r"(mra|tof|angio\w*|mrv)")),
        ("perfusion", r"perf|dsc|" + _SEPARATED.format(r"(asl|dce)")),
        ("FLAIR", r"flair|dark.?fluid|tirm"),
        ("STIR", r"stir"),
        ("T1", r"(?<![a-z0-9])t1|mp2?rage|bravo|(?<![a-z])spgr|t1w"),
        ("T2", r"(?<![a-z0-9])t2|t2w|ciss|fiesta"),
        ("PD", _SEPARATED.format(r"(pd|pdw|proton|dp)")),
    )
)
_WITHOUT_CONTRAST = re.compile(
    r"(?<![a-z])(pre|without|w/o|no (contrast|gd|c)|non|tanpa|native?|unenhanced)(?![a-z])"
    r"|(?<![a-z0-9])-c(?![a-z0-9])"
)
_WITH_CONTRAST = re.compile(
    r"(?<![a-z])(gd|gad\w*|post|ce|\+ ?c|c\+|\+ ?gd|km|kontras|contrast|enhanced|dotarem|magnevist)(?![a-z])"
)


def guess(facts: DicomFacts) -> str | None:
    """Guess the sequence of a series.

    Args:
        facts: Header facts of one of its instances.

    Returns:
        `T1`, `T1+C` (with contrast), `T2`, `FLAIR`, `PD`, `STIR`, `DWI`, `SWI`, `MRA`, `perfusion`; the weighted ones
        with `+C` when a contrast agent was given; None when the header does not say enough.
    """
    words = " ".join(filter(None, (facts.series_description, facts.protocol_name))).casefold().replace("_", " ")
    name = next((name for name, pattern in _WORDS if pattern.search(words)), None) or _by_times(facts)
    if name is None:
        return None
    return f"{name}+C" if name in ("T1", "FLAIR") and _contrast(facts, words) else name


def _contrast(facts: DicomFacts, words: str) -> bool:
    if _WITHOUT_CONTRAST.search(words):
        return False
    return facts.contrast_agent or _WITH_CONTRAST.search(words) is not None


def _by_times(facts: DicomFacts) -> str | None:
    """Guess the weighting from echo, repetition and inversion time, in milliseconds."""
    echo, repetition, inversion = facts.echo_time_ms, facts.repetition_time_ms, facts.inversion_time_ms
    if echo is None or repetition is None or echo <= 0 or repetition <= 0:
        return None
    if "EP" in facts.scanning_sequence:
        return None  # echo-planar: diffusion, perfusion or function; the times do not tell
    if inversion is not None and inversion > 1400:
        return "FLAIR" if echo > 60 else None
    if inversion is not None and 400 < inversion <= 1400:
        return "T1"  # magnetisation-prepared, or T1 FLAIR
    if "GR" in facts.scanning_sequence and "SE" not in facts.scanning_sequence:
        return "T1" if echo < 10 and repetition < 800 else None
    if echo <= 35 and repetition <= 1200:
        return "T1"
    if repetition >= 1800:
        return "T2" if echo >= 70 else "PD" if echo <= 45 else None
    return None
