"""Files that nobody tested are read or refused; files that once broke reading never do again."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS, Search
from tests.fuzz.seeds import seeds
from tests.fuzz.target import Target

BOUNDED_S = 20.0


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with Target() as made:
        yield made


def test_the_whole_files_are_read(target: Target) -> None:
    for data in seeds().values():
        target.read(data)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.name)
def test_what_once_broke_reading_does_so_no_more(target: Target, path: Path) -> None:
    data = path.read_bytes()
    assert path.stem == hashlib.sha256(data).hexdigest()[:16], "a corpus file is what it was when it was found"
    target.read(data)


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_with_a_reason(target: Target) -> None:
    # The same files each time: the gate must not fail for one in a million. `make fuzz` looks for others.
    ends_at = time.monotonic() + BOUNDED_S
    search = Search(target.read, ends_at)
    number = 0
    while time.monotonic() < ends_at:
        assert search.round(number) is None, f"`python -m tests.fuzz --seed={number}` shows it"
        number += 1
    assert search.files > 100
