"""Files of scenarios: one, or a grid of them.

Owns: the form of a scenario file (fields at the top, `grid`, `extends`), the names of a grid's scenarios, and the
report of all mistakes of a file at once, each with its line. Refuses: files outside the folder of the file that extends
them, and more than 500 scenarios. It needs no TensorFlow.

    extends: OTHER.yaml         optional; this file gives only the difference: sections (head, preprocessing,
                                augmentation) and the grid are joined field by field, everything else is replaced
    name: thesis                the first part of every scenario's name
    learning_rate: 0.01         any field of `training.scenario.Scenario`
    grid:                       optional; one scenario for each combination
      optimizer: [adam, sgd]    a field, or one of a section (`head.units`), and its values

What the extending file says of a field, in its grid or outside, replaces what it inherits, in a grid or outside.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

from training import scenario_yaml
from training.errors import Mistake, ScenarioError
from training.scenario import Scenario
from training.scenario_rules import SECTIONS, find_mistakes, known_fields, mistake, unknown

MAX_SCENARIOS: Final = 500
_MAX_CHAIN: Final = 8
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\.ya?ml")

Place = tuple[str, int]
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class ScenarioFile:
    """A valid file.

    Attributes:
        name: The `name` it gives.
        scenarios: At least one; names differ.
        text: The file's own text.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    text: str


@dataclass
class _Draft:
    """Values of a file joined with those it extends, where each stands, and what is wrong so far."""

    values: dict[str, Any]
    places: dict[Keys, Place]
    mistakes: list[Mistake]


def load_scenarios(path: Path) -> ScenarioFile:
    """Read a file of scenarios.

    Raises:
        ScenarioError: There is no such file, or with every mistake in it.
    """
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ScenarioError([_whole(f"There is no scenario file {path}.", "")]) from None
    except UnicodeDecodeError:
        raise ScenarioError([_whole("The file is not UTF-8 text.", path.name)]) from None
    return parse_scenarios(text, path.name, path.parent)


def load_scenario(path: Path) -> Scenario:
    """Read a file that holds one scenario.

    Raises:
        ScenarioError: As `load_scenarios`, or it is a grid of several.
    """
    found = load_scenarios(path).scenarios
    if len(found) > 1:
        words = (
            f"The file is a grid of {len(found)} scenarios; this command trains one. Use `python -m training sweep`."
        )
        raise ScenarioError([_whole(words, path.name)])
    return found[0]


def parse_scenarios(text: str, origin: str, folder: Path | None) -> ScenarioFile:
    """Read the text of a file of scenarios.

    Args:
        text: YAML.
        origin: What to call the text in mistakes, such as its file name.
        folder: Where `extends` finds its file; None: it may not be used.

    Raises:
        ScenarioError: With every mistake: place, value and what is allowed.
    """
    draft = _joined(text, origin, folder, ())
    grid = _grid(draft, origin)
    if grid is None or not draft.values:
        raise ScenarioError(sorted(set(draft.mistakes), key=_order))
    records = list(_combinations(draft, grid))
    mistakes = set(draft.mistakes)
    for record, chosen in records:
        # While the file itself is not sound, a missing field may only be one that could not be read.
        for keys, problem in find_mistakes(record, complete=not draft.mistakes):
            place, line = _place(keys, chosen, draft.places, origin)
            # In a set: a mistake that stands in one place strikes many combinations, and is told once.
            mistakes.add(replace(problem, origin=place, line=line))
    if mistakes:
        raise ScenarioError(sorted(mistakes, key=_order))
    scenarios = _named([(Scenario.from_record(record), chosen) for record, chosen in records], grid)
    return ScenarioFile(str(draft.values["name"]), scenarios, text)


def _joined(text: str, origin: str, folder: Path | None, chain: tuple[str, ...]) -> _Draft:
    """The values of a text with those it extends."""
    parsed = scenario_yaml.parse(text, origin)
    places = {keys: (origin, line) for keys, line in parsed.lines.items()}
    own = _Draft(dict(parsed.values), places, list(parsed.mistakes))
    if "extends" not in own.values:
        return own
    name = own.values.pop("extends")
    base = _base(name, origin, folder, (*chain, origin), own)
    return own if base is None else _over(base, own)


def _base(name: Any, origin: str, folder: Path | None, chain: tuple[str, ...], own: _Draft) -> _Draft | None:
    """The file that is extended; None, and a mistake noted, when it cannot be."""

    def refuse(expected: str, wording: str) -> None:
        place, line = own.places[("extends",)]
        own.mistakes.append(replace(mistake("extends", name, expected, wording), origin=place, line=line))

    if not isinstance(name, str) or not _FILE.fullmatch(name):
        refuse("the name of a .yaml file in the same folder", "{field} is {value}; expected {expected}.")
        return None
    if folder is None:
        refuse("no `extends`", "extends is {value}, but this text stands in no folder; write all fields out.")
        return None
    if name in chain or len(chain) > _MAX_CHAIN:
        refuse("a file that does not lead back", f"extends goes in a circle: {' -> '.join((*chain, name))}.")
        return None
    try:
        text = (folder / name).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        there = sorted(path.name for path in folder.glob("*.y*ml"))
        near = get_close_matches(name, there, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(there) or 'none'}."
        refuse("a file in the same folder", f"extends names {{value}}, which is not in the same folder; {hint}")
        return None
    return _joined(text, name, folder, chain)


def _over(base: _Draft, own: _Draft) -> _Draft:
    """`own` laid over `base`."""
    values, places = dict(base.values), dict(base.places)
    inherited, fresh = values.get("grid"), own.values.get("grid")
    for axis in fresh if isinstance(fresh, dict) else ():
        section, _, inner = axis.partition(".")
        if not inner:
            values.pop(axis, None)
        elif isinstance(values.get(section), dict):
            values[section] = {key: value for key, value in values[section].items() if key != inner}
    for key, value in own.values.items():
        if key in (*SECTIONS, "grid") and isinstance(value, dict) and isinstance(values.get(key), dict):
            values[key] = {**values[key], **value}
            gone: list[Keys] = [(key, inner) for inner in value]
        else:
            values[key] = value
            gone = [(key,)]
        places = {keys: place for keys, place in places.items() if not any(keys[: len(g)] == g for g in gone)}
    places.update(own.places)
    if isinstance(inherited, dict) and isinstance(values.get("grid"), dict):
        again = set(fresh) if isinstance(fresh, dict) else set()
        settled = _settled(own.values) - again
        values["grid"] = {axis: items for axis, items in values["grid"].items() if axis not in settled}
        if not values["grid"]:
            del values["grid"]
    return _Draft(values, places, base.mistakes + own.mistakes)


def _settled(values: Mapping[str, Any]) -> set[str]:
    """The fields that a file sets outside its grid, those of sections with their dotted names."""
    found = {key for key in values if key != "grid"}
    for section in SECTIONS:
        if isinstance(values.get(section), dict):
            found |= {f"{section}.{inner}" for inner in values[section]}
    return found


def _grid(draft: _Draft, origin: str) -> dict[str, list[Any]] | None:
    """The axes of the grid; None, and mistakes noted, when they cannot be combined."""
    if "grid" not in draft.values:
        return {}
    grid = draft.values.pop("grid")

    def note(keys: Keys, problem: Mistake) -> None:
        place, line = draft.places.get(keys, (origin, 1))
        draft.mistakes.append(replace(problem, origin=place, line=line))

    if not isinstance(grid, dict) or not grid:
        note(("grid",), mistake("grid", grid, "a mapping of fields to lists of values"))
        return None
    good: dict[str, list[Any]] = {}
    for axis, items in grid.items():
        field, keys = f"grid.{axis}", ("grid", axis)
        section, _, inner = axis.partition(".")
        known = known_fields(section) if inner and section in SECTIONS else known_fields()
        if axis == "name" or (inner or axis) not in known or (inner and section not in SECTIONS):
            note(keys, unknown(field, inner or axis, [name for name in known if name != "name"]))
        elif not isinstance(items, list) or not items:
            note(keys, mistake(field, items, "a list of one or more values"))
        elif any(item in items[:number] for number, item in enumerate(items)):
            note(keys, mistake(field, items, "different values"))
        elif axis in _settled(draft.values):
            note(keys, mistake(field, items, "one of both", "{field} and " + axis + " both stand in this file."))
        else:
            good[axis] = items
    count = prod(map(len, good.values()))
    if count > MAX_SCENARIOS:
        words = (
            f"The grid makes {count} scenarios; at most {MAX_SCENARIOS} are allowed. Shorten lists or split the file."
        )
        note(("grid",), Mistake("grid", str(count), f"at most {MAX_SCENARIOS} scenarios", words))
        return None
    return good


def _combinations(draft: _Draft, grid: Mapping[str, list[Any]]) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    """Each combination: the record, and which of its values each axis has, by number."""
    for numbers in product(*(range(len(items)) for items in grid.values())):
        record = dict(draft.values)
        chosen = dict(zip(grid, numbers, strict=True))
        for axis, number in chosen.items():
            section, _, inner = axis.partition(".")
            value = grid[axis][number]
            if not inner:
                record[section] = value
            elif isinstance(record.get(section, {}), dict):
                record[section] = {**record.get(section, {}), inner: value}
        yield record, chosen


def _place(keys: Keys, chosen: Mapping[str, int], places: Mapping[Keys, Place], origin: str) -> Place:
    """Where a mistake of a combination stands: in the grid when its field is an axis, else where the field is."""
    for length in range(len(keys), 0, -1):
        axis = ".".join(map(str, keys[:length]))
        if axis in chosen:
            return places.get(("grid", axis, chosen[axis]), (origin, 1))
        if keys[:length] in places:
            return places[keys[:length]]
    return origin, 1


def _named(found: list[tuple[Scenario, dict[str, int]]], grid: Mapping[str, list[Any]]) -> tuple[Scenario, ...]:
    """The scenarios under names of their own: that of the file and the values of the grid."""
    if not grid:
        return tuple(scenario for scenario, _ in found)
    named: dict[str, Scenario] = {}
    for scenario, chosen in found:
        parts = [_part(axis, grid[axis][number], number) for axis, number in chosen.items()]
        stem = "-".join([scenario.name, *parts])[:95]
        name, copy = stem, 2
        while name in named:
            name, copy = f"{stem}-{copy}", copy + 1
        named[name] = replace(scenario, name=name)
    return tuple(named.values())


def _part(axis: str, value: Any, number: int) -> str:
    """What a value adds to the name."""
    word = axis.rpartition(".")[2]
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9._]+", "_", value)[:40]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{word}{number + 1}"
    return f"{value:g}" if word == "learning_rate" else f"{word}{value:g}"


def _order(problem: Mistake) -> tuple[str, int, str, str]:
    return problem.origin, problem.line, problem.field, problem.message


def _whole(words: str, origin: str) -> Mistake:
    return Mistake("", "", "a readable scenario file", words, 0, origin)
