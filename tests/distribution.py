"""How the tests are divided among processes (`-n 2 --dist loadfile`): what is slow first, the browser tests together.

A file stays in one process, for the sake of what its tests share. The browser tests share a whole running site, which
takes a process half a minute to build: they stay together too. Slow files come first, so that the quick ones fill what
is left of the time; xdist's own order, files with many tests first, leaves the slow ones to the end and to one process.
"""

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

SLOWEST_FIRST = ("e2e", "fault", "integration", "contracts", "fuzz", "unit")


def folder_of(node_id: str) -> str:
    """The folder below `tests` of a test."""
    return node_id.removeprefix("tests/").partition("/")[0]


class SlowestFirst(LoadFileScheduling):  # type: ignore[misc]
    """Gives a process whole files, in the order of the collection; all browser tests are as one file."""

    def _split_scope(self, nodeid: str) -> str:
        folder = folder_of(nodeid)
        return folder if folder == "e2e" else str(super()._split_scope(nodeid))


def scheduler(config: pytest.Config, log: object) -> SlowestFirst | None:
    """Our order for `--dist loadfile`; None: xdist's own."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return SlowestFirst(config, log)


def order(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the slow folders first in a process of xdist; whoever runs tests without it sees the quick ones first."""
    if hasattr(config, "workerinput"):
        known = {name: place for place, name in enumerate(SLOWEST_FIRST)}
        items.sort(key=lambda item: known.get(folder_of(item.nodeid), len(known)))
