"""A heatmap of one metric over two axes of scenarios: a row each network, a column each optimizer and learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from web.plots.drawing import BOLD_CHARACTER, Scale, drawing, element, text, tip

CELL_WIDTH, CELL_HEIGHT, GAP = 66.0, 38.0, 2.0
HEADS = 46.0
FAINTEST, STRONGEST = 0.06, 0.55
"""Opacity of the colour at the ends of the range; text on it stays readable."""


@dataclass(frozen=True)
class Cell:
    """One square.

    Attributes:
        value: What the colour says; None: no number yet.
        words: What stands in it.
        tip: What it says when asked: the run, its interval.
        address: Where it leads.
        best: Whether it is outlined as the best of all.
    """

    value: float | None
    words: str
    tip: str
    address: str
    best: bool = False


def grid(
    name: str,
    title: str,
    description: str,
    rows: Sequence[str],
    columns: Sequence[tuple[str, str]],
    cells: Mapping[tuple[str, tuple[str, str]], Cell],
) -> Markup:
    """Draws the heatmap.

    Args:
        name: Of the plot on its page.
        title: What it is.
        description: What it shows.
        rows: Names of the rows.
        columns: (upper, lower) heading of each; neighbours with the same upper one share it.
        cells: By (row, column); what is missing stays blank.
    """
    left = max([len(row) for row in rows], default=0) * BOLD_CHARACTER + 20
    size = (left + len(columns) * CELL_WIDTH + 4, HEADS + len(rows) * CELL_HEIGHT + 4)
    known = [cell.value for cell in cells.values() if cell.value is not None]
    shade = Scale(min(known, default=0.0), max(known, default=1.0), FAINTEST, STRONGEST)
    parts = [
        text(row, left - 8, HEADS + number * CELL_HEIGHT + CELL_HEIGHT / 2 + 4, anchor="end", class_="name")
        for number, row in enumerate(rows)
    ]
    start = 0
    for number, (upper, lower) in enumerate(columns):
        middle = left + (number + 0.5) * CELL_WIDTH
        parts.append(text(lower, middle, HEADS - 8, anchor="middle"))
        if number + 1 == len(columns) or columns[number + 1][0] != upper:
            middle = left + (start + number + 1) / 2 * CELL_WIDTH
            parts.append(text(upper, middle, 16, anchor="middle", class_="name"))
            start = number + 1
    for (row, column), cell in cells.items():
        x = left + columns.index(column) * CELL_WIDTH + GAP / 2
        y = HEADS + rows.index(row) * CELL_HEIGHT + GAP / 2
        parts.append(_cell(cell, x, y, shade))
    return drawing(name, title, description, size, parts, linked=True, natural=True, class_="grid-plot")


def _cell(cell: Cell, x: float, y: float, shade: Scale) -> Markup:
    box = {"x": x, "y": y, "width": CELL_WIDTH - GAP, "height": CELL_HEIGHT - GAP, "rx": 3}
    colour = (
        element("rect", **box, class_="empty-cell")
        if cell.value is None
        else element("rect", **box, class_="heat", fill_opacity=round(shade(cell.value), 3))
    )
    frame = element("rect", **box, class_="best-cell" if cell.best else "frame-cell")
    words = text(cell.words, x + (CELL_WIDTH - GAP) / 2, y + CELL_HEIGHT / 2 + 3, anchor="middle", class_="value")
    return element("a", tip(cell.tip) + colour + frame + words, href=cell.address, aria_label=cell.tip)
