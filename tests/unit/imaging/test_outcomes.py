"""Every reason has an outcome and a sentence; a rejection carries facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from imaging.frames import Identity
from imaging.limits import Limits
from imaging.outcomes import OUTCOME_OF, SENTENCES, Outcome, Reason, RejectedFile

CATALOGUES = Path(__file__).parents[3] / "web" / "translations" / "id"
PLACE = re.compile(r"%\((\w+)\)s")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_one_outcome_and_one_plain_sentence(reason: Reason) -> None:
    words = SENTENCES[reason]
    assert OUTCOME_OF[reason] in Outcome
    assert words.endswith(".")
    assert re.search(r"\w\. ", words) is None, "one sentence"
    assert re.sub(PLACE, "", words).count("%") == 0, "only named places"


def test_every_outcome_can_happen() -> None:
    assert set(OUTCOME_OF.values()) == set(Outcome)


def test_a_rejection_says_its_facts() -> None:
    rejection = RejectedFile(Reason.FILE_BYTES, found=10, limit=5)
    assert rejection.outcome is Outcome.OVER_LIMIT
    assert rejection.detail == {"found": 10, "limit": 5}
    assert "has 10 bytes, more than the 5 allowed" in str(rejection)


def test_a_rejection_without_the_facts_of_its_sentence_is_our_mistake() -> None:
    with pytest.raises(KeyError, match="limit"):
        RejectedFile(Reason.FILE_BYTES, found=10)


def test_identity_says_nothing_of_itself() -> None:
    identity = Identity(patient_name="Secret^Name", patient_id="12345")
    assert repr(identity) == "Identity(<2 fields withheld>)"
    assert "Secret" not in f"{identity} {identity!r} {[identity]}"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"max_pixels": 0}, "max_pixels is 0"), ({"modalities": frozenset()}, "modalities is empty")],
)
def test_limits_that_limit_nothing_are_refused(wrong: Mapping[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Limits(**wrong)  # type: ignore[arg-type]


def test_every_sentence_has_its_indonesian_with_the_same_facts() -> None:
    translated: dict[str, str] = {}
    for path in CATALOGUES.rglob("*.po"):
        with path.open("rb") as file:
            translated |= {str(one.id): str(one.string) for one in read_po(file) if one.id and one.string}
    for reason, words in SENTENCES.items():
        assert words in translated, f"{reason} has no Indonesian sentence"
        assert sorted(PLACE.findall(translated[words])) == sorted(PLACE.findall(words)), reason
