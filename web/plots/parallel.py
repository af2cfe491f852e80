"""Parallel coordinates: one upright axis a field of the scenarios and one for the metric; one line a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from web.plots.drawing import Scale, around, drawing, element, figure, line, path, text, tip

WIDTH, HEIGHT = 760.0, 320.0
SIDE, TOP, BOTTOM = 92.0, 44.0, 18.0


@dataclass(frozen=True)
class Axis:
    """One upright axis.

    Attributes:
        label: Above it.
        values: Of names: all of them, from the top; None: a numeric axis.
        logarithmic: Of numbers: whether powers of ten lie at equal distances.
    """

    label: str
    values: Sequence[str] | None = None
    logarithmic: bool = False


@dataclass(frozen=True)
class Path:
    """One run.

    Attributes:
        places: Its value on each axis.
        tip: What it says when asked.
        address: Where it leads.
        strength: How strong its line is, 0 (the worst) to 1 (the best).
        best: Whether it is drawn as the best.
    """

    places: Sequence[str | float]
    tip: str
    address: str
    strength: float
    best: bool = False


def parallel(name: str, title: str, description: str, axes: Sequence[Axis], paths: Sequence[Path]) -> Markup:
    """Draws the axes and the runs, the strongest on top.

    Args:
        name: Of the plot on its page.
        title: What it is.
        description: What it shows.
        axes: From left to right; at least two.
        paths: Runs that have a value on each.
    """
    step = (WIDTH - 2 * SIDE) / max(1, len(axes) - 1)
    parts: list[Markup] = []
    labels: list[Markup] = []  # drawn last, so that no line crosses them out
    scales: list[Scale] = []
    for number, axis in enumerate(axes):
        x = SIDE + number * step
        numbers = [float(item.places[number]) for item in paths] if axis.values is None else []
        scales.append(_scale(axis, numbers))
        parts += [line(x, TOP, x, HEIGHT - BOTTOM, "axis"), text(axis.label, x, 18, anchor="middle", class_="name")]
        labels += _labels(axis, scales[number], x, last=number + 1 == len(axes))
    for item in sorted(paths, key=lambda item: (item.best, item.strength)):
        points = [
            (SIDE + number * step, _place(axes[number], scales[number], value))
            for number, value in enumerate(item.places)
        ]
        look = "run-line best-line" if item.best else "run-line"
        drawn = element("g", path(points, look), stroke_opacity=round(0.25 + 0.7 * item.strength, 2))
        # A broad invisible line below the visible one is easier to hit.
        parts.append(
            element("a", tip(item.tip) + path(points, "reach") + drawn, href=item.address, aria_label=item.tip)
        )
    return drawing(name, title, description, (WIDTH, HEIGHT), [*parts, *labels], linked=True, class_="parallel-plot")


def _scale(axis: Axis, numbers: Sequence[float]) -> Scale:
    if axis.values is not None:
        return Scale(-0.5, max(0.5, len(axis.values) - 0.5), TOP, HEIGHT - BOTTOM)
    if axis.logarithmic:
        low, high = min(numbers, default=0.1), max(numbers, default=1.0)
        return Scale(low / 1.5, high * 1.5, HEIGHT - BOTTOM, TOP, logarithmic=True)
    low, high = around(numbers)
    return Scale(low, high, HEIGHT - BOTTOM, TOP)


def _place(axis: Axis, scale: Scale, value: str | float) -> float:
    return scale(axis.values.index(str(value)) if axis.values is not None else float(value))


def _labels(axis: Axis, scale: Scale, x: float, *, last: bool) -> list[Markup]:
    """The values beside an axis; those of the last one stand to its right, where no line passes."""
    side, anchor = (x + 8, "start") if last else (x - 8, "end")
    if axis.values is not None:
        shown = [(value, scale(number)) for number, value in enumerate(axis.values)]
    else:
        shown = [(figure(value), scale(value)) for value in scale.ticks()]
    return [text(words, side, y + 4, anchor=anchor, class_="tick halo") for words, y in shown]
