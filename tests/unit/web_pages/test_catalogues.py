"""The Indonesian catalogue holds every text of the sources, translated, with the same places to be filled in."""

import re
from collections.abc import Iterator

import pytest
from babel.messages.catalog import Message

from ops import catalogues

PLACE = re.compile(r"%\(\w+\)[sd]|\{\w+\}")  # the second kind is filled in by scripts


def forms(text: object) -> tuple[str, ...]:
    return tuple(str(part) for part in text) if isinstance(text, (tuple, list)) else (str(text),)


def translations(language: str) -> Iterator[Message]:
    for name in ("messages.po", catalogues.BY_HAND):
        yield from (message for message in catalogues.read(language, name) if message.id)


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_every_text_of_the_sources_is_in_the_catalogue(language: str) -> None:
    there = {message.id for message in translations(language)}
    assert {message.id for message in catalogues.wanted() if message.id} - there == set(), "run `make translations`"


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_nothing_is_left_empty_or_doubtful(language: str) -> None:
    assert [message.id for message in translations(language) if not catalogues.is_translated(message)] == []


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_a_translation_has_the_places_of_its_original(language: str) -> None:
    wrong = []
    for message in translations(language):
        wanted = {place for text in forms(message.id) for place in PLACE.findall(text)}
        for text in forms(message.string):
            if set(PLACE.findall(text)) != wanted:
                wrong.append(message.id)
    assert wrong == []


@pytest.mark.parametrize("language", catalogues.LANGUAGES)
def test_the_compiled_catalogue_is_the_one_of_the_sources(language: str) -> None:
    path = catalogues.FOLDER / language / "LC_MESSAGES" / "messages.mo"
    assert path.read_bytes() == catalogues.compiled(language), "run `make translations`"
