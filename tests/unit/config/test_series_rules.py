"""The grammar of the series rules, and what they choose."""

import pytest

from config.series_rules import Candidate, SeriesRulesError, choose, parse
from config.settings import SettingsError, load_settings

STUDY = [
    Candidate("scout", "T1", "localizer", 300),
    Candidate("t1", "T1", "axial", 20),
    Candidate("t1c", "T1+C", "axial", 24),
    Candidate("t1c_thin", "T1+C", "axial", 160),
    Candidate("t1c_cor", "T1+C", "coronal", 200),
    Candidate("flair", "FLAIR", "axial", 24),
    Candidate("pictures", "", "", 5),
]


@pytest.mark.parametrize(
    ("text", "chosen", "rule"),
    [
        ("all", {one.key for one in STUDY}, "all"),
        ("t1_contrast, Axial, LARGEST", {"t1c_thin"}, "t1_contrast,axial,largest"),
        ("t1_contrast,axial", {"t1c", "t1c_thin"}, "t1_contrast,axial"),
        ("t1,flair,axial", {"t1", "flair"}, "t1,flair,axial"),
        ("largest", {"t1c_cor"}, "largest"),  # never the scout, however large
        ("swi; t1_contrast,sagittal; slices >= 100", {"t1c_thin", "t1c_cor"}, "slices>=100"),
        ("swi; all", {one.key for one in STUDY}, "all"),
        ("unknown_sequence,unknown_plane", {"pictures"}, "unknown_sequence,unknown_plane"),
        ("swi", set(), ""),
    ],
)
def test_the_first_rule_that_holds_for_some_series_decides(text: str, chosen: set[str], rule: str) -> None:
    assert choose(parse(text), STUDY) == (frozenset(chosen), rule)


def test_of_equally_large_series_the_first_is_taken() -> None:
    twins = [Candidate("a", "T1", "axial", 20), Candidate("b", "T1", "axial", 20)]
    assert choose(parse("largest"), twins)[0] == {"a"}


def test_every_mistake_is_told_with_its_rule() -> None:
    with pytest.raises(SeriesRulesError, match="rule 1: received") as caught:
        parse("t1_kontrast,axial; all; ,largest; all,t2; slices>=2,slices>=3; slices>=-1")
    told = str(caught.value).split("; rule ")
    assert [text.removeprefix("rule ").partition(":")[0] for text in told] == ["1", "2", "3", "4", "4", "5", "6"]
    assert "received 't1_kontrast'; expected all, t1, t1_contrast" in told[0]
    assert "'all' stands before other rules" in told[1]
    assert "a term is empty" in told[2]
    assert "'all' stands with other terms" in str(caught.value)
    assert "slices>=N stands there more than once" in told[5]


def test_settings_are_refused_at_load() -> None:
    with pytest.raises(
        SettingsError, match=r"NEUROSIGHT_SERIES_RULES: .*rule 1: received 'tt1'.*rule 2: received 'up'"
    ):
        load_settings(series_rules="tt1; up")
