"""How many runs a scenario file would make, and of how many epochs: a hint before anything is started.

Owns this one estimate. It reads the grid and its bases as far as they can be read and says nothing otherwise: what is
valid is decided by `training.scenario_files`, in a worker, with every mistake named. Refuses to be an authority.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import yaml

from config import scenario_texts

LONGEST_CHAIN = 8
LONGEST_TEXT = 64 * 1024
"""Characters; longer texts are left to the worker, so that a hint never keeps a page waiting."""


@dataclass(frozen=True)
class Extent:
    """What a file asks for.

    Attributes:
        runs: Combinations of its grid; 1 without one.
        epochs: Of one run, at most; None when it cannot be told, or the grid changes it.
    """

    runs: int
    epochs: int | None


def extent(text: str) -> Extent | None:
    """The extent of a scenario text; None when it cannot be told."""
    values = _joined(text, LONGEST_CHAIN)
    if values is None:
        return None
    grid = values.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(items, list) and items for items in grid.values()):
        return None
    return Extent(prod(len(items) for items in grid.values()), None if "phases" in grid else _epochs(values))


def _joined(text: str, depth: int) -> dict[str, Any] | None:
    if len(text) > LONGEST_TEXT:
        return None
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none; brackets without end
        return None
    if not isinstance(values, dict) or not values or depth == 0:
        return None
    name = values.pop("extends", None)
    if name is None:
        return values
    try:
        base = _joined(scenario_texts.read(str(name)), depth - 1)
    except KeyError:
        return None
    if base is None:
        return None
    grids = [part.get("grid") or {} for part in (base, values)]
    if not all(isinstance(grid, dict) for grid in grids):
        return None
    # What the extending file sets outside its grid replaces an inherited axis.
    grid = {axis: items for axis, items in grids[0].items() if axis not in _settled(values)}
    return {**base, **values, "grid": {**grid, **grids[1]}}


def _settled(values: dict[str, Any]) -> set[str]:
    found = {key for key in values if key != "grid"}
    for key, inner in values.items():
        if isinstance(inner, dict) and key != "grid":
            found |= {f"{key}.{name}" for name in inner}
    return found


def _epochs(values: dict[str, Any]) -> int | None:
    phases = values.get("phases")
    if not isinstance(phases, list):
        return None
    counts = [phase.get("epochs") if isinstance(phase, dict) else None for phase in phases]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known and len(known) == len(counts) else None
