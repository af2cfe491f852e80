"""The hint before a sweep is what the worker will make of it, and says nothing where it cannot know."""

import pytest

from config import scenario_texts
from config.scenario_counts import Extent, extent
from training.scenario_files import parse_scenarios


@pytest.mark.parametrize("name", scenario_texts.names())
def test_it_counts_what_the_worker_counts(name: str) -> None:
    text = scenario_texts.read(name)
    found = parse_scenarios(text, name, scenario_texts.FOLDER).scenarios
    assert extent(text) == Extent(len(found), found[0].epochs)


def test_what_is_set_outside_a_grid_replaces_an_inherited_axis() -> None:
    text = "extends: thesis.yaml\nname: x\noptimizer: adam\ngrid:\n  network: [xception]\n"
    found = parse_scenarios(text, "x", scenario_texts.FOLDER).scenarios
    assert extent(text) == Extent(len(found), 50) == Extent(3, 50)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "[" * 5000,
        "a: 2026-99-99",
        "#" * 70_000 + "\nname: x",
        "name: [",
        "extends: nothing.yaml",
        "extends: ../thesis.yaml",
        "name: x\ngrid: 3",
        "grid: {a: []}",
    ],
)
def test_it_says_nothing_about_what_it_cannot_read(text: str) -> None:
    assert extent(text) is None
