"""Lines over a common axis: losses by epoch, ROC and precision-recall curves, reliability, several runs overlaid."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from web.plots.drawing import CHARACTER, Scale, around, drawing, element, figure, line, path, text, tip

WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 14.0, 46.0
LEGEND_ROW = 19.0
STYLES = 6
"""How many looks of a line there are."""


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        label: In the legend.
        points: (x, y), in the order in which they are joined.
        style: Which look, 0 to `STYLES` - 1.
        dots: Whether each point is marked and says its values; for a few dozen points.
    """

    label: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    dots: bool = False


def curves(
    name: str,
    title: str,
    description: str,
    lines: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    mark_x: float | None = None,
    mark_label: str = "",
) -> Markup:
    """Draws lines.

    Args:
        name: Of the plot on its page.
        title: What it is.
        description: What it shows.
        lines: At least one point in all, or the plot stays empty.
        x_label: What lies to the right.
        y_label: What lies upwards.
        x_range: Ends of the horizontal axis; by default those of the points.
        y_range: Ends of the vertical axis; by default around the points.
        diagonal: Whether to draw the line from corner to corner (chance, or perfect calibration).
        mark_x: A place on the horizontal axis to be marked, such as the best epoch.
        mark_label: What the mark says.
    """
    every = [point for curve in lines for point in curve.points]
    x_low, x_high = x_range or (min((x for x, _ in every), default=0), max((x for x, _ in every), default=1))
    y_low, y_high = y_range or around([y for _, y in every])
    across = Scale(x_low, x_high if x_high > x_low else x_low + 1, LEFT, WIDTH - RIGHT)
    up = Scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    parts = list(_axes(across, up, x_label, y_label))
    if diagonal:
        parts.append(line(across(x_low), up(y_low), across(x_high), up(y_high), "guide"))
    if mark_x is not None:
        at = across(mark_x)
        parts.append(element("g", tip(mark_label) + line(at, TOP, at, HEIGHT - BOTTOM, "mark")))
    for curve in lines:
        places = [(across(x), up(y)) for x, y in curve.points]
        style = f"line line-{curve.style % STYLES}"
        parts.append(element("g", tip(curve.label) + path(places, style)) if places else Markup(""))
        if curve.dots or len(places) == 1:
            for (x, y), (left, top) in zip(curve.points, places, strict=True):
                words = f"{curve.label}: {x_label} {figure(x)}, {y_label} {figure(y)}"
                parts.append(element("circle", tip(words), cx=left, cy=top, r=3, class_=f"dot dot-{curve.style}"))
    legend, rows = _legend(lines)
    height = HEIGHT + rows * LEGEND_ROW
    return drawing(name, title, description, (WIDTH, height), [*parts, *legend], class_="curves")


def _axes(across: Scale, up: Scale, x_label: str, y_label: str) -> list[Markup]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in up.ticks():
        parts += [
            line(LEFT, up(value), WIDTH - RIGHT, up(value), "grid"),
            text(figure(value), LEFT - 6, up(value) + 4, anchor="end"),
        ]
    for value in across.ticks(6):
        parts += [
            line(across(value), bottom, across(value), bottom + 4, "axis"),
            text(figure(value), across(value), bottom + 17, anchor="middle"),
        ]
    parts += [
        line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"),
        text(x_label, (LEFT + WIDTH - RIGHT) / 2, bottom + 35, anchor="middle", class_="name"),
        text(
            y_label,
            13,
            (TOP + bottom) / 2,
            anchor="middle",
            class_="name",
            transform=f"rotate(-90 13 {(TOP + bottom) / 2:g})",
        ),
    ]
    return parts


def _legend(lines: Sequence[Curve]) -> tuple[list[Markup], int]:
    """The legend below the plot, and how many rows it takes; as many entries a row as fit."""
    if len(lines) < 2:
        return [], 0
    parts, x, row = [], 12.0, 0
    for curve in lines:
        label = curve.label if len(curve.label) <= 56 else f"{curve.label[:55]}…"
        room = 34 + len(label) * CHARACTER + 14
        if x > 12.0 and x + room > WIDTH:
            x, row = 12.0, row + 1
        y = HEIGHT + 6 + row * LEGEND_ROW
        parts += [line(x, y, x + 26, y, f"line line-{curve.style % STYLES}"), text(label, x + 32, y + 4, class_="key")]
        x += room
    return parts, row + 1
