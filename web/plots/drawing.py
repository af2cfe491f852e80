"""What all plots are made of: elements, scales, axes, the frame with title and description.

Owns escaping (every text goes through `markupsafe`) and the numbers on axes. Refuses inline styles, which the content
security policy forbids: looks come from classes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask_babel import format_decimal
from markupsafe import Markup, escape

CHARACTER = 6.6
"""About the width of a character of a plot's 12-unit text, in the same units."""
BOLD_CHARACTER = 7.6
"""The same of bold text."""


@dataclass(frozen=True)
class Scale:
    """From values to places.

    Attributes:
        low: Value at `start`.
        high: Value at `end`; greater than `low`.
        start: Place of `low`, in the drawing's units.
        end: Place of `high`.
        logarithmic: Whether equal factors take equal room; needs `low` > 0.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values outside are held at the ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within the scale: powers of ten when logarithmic, else steps of 1, 2 or 5."""
        if self.high <= self.low:
            return [self.low]
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)] or [self.low, self.high]
        rough = (self.high - self.low) / max(1, about)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def around(values: Iterable[float], *, floor: float | None = None, ceiling: float | None = None) -> tuple[float, float]:
    """Ends of a scale that holds all values with a little air, and never passes `floor` or `ceiling`."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    low, high = low - air, high + air
    if floor is not None:
        low = max(low, floor)
    if ceiling is not None:
        high = min(high, ceiling)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def figure(value: float) -> str:
    """A number on an axis, in the reader's language, as short as it can be."""
    if value and (abs(value) < 0.001 or abs(value) >= 100_000):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return str(format_decimal(round(value, 4), "#,##0.####"))


def element(tag: str, content: str | Markup = "", /, **attributes: object) -> Markup:
    """One element. Underscores at the end of a name are dropped (`class_`), others become hyphens; None is left out."""
    parts = [
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None
    ]
    opening = Markup("<{}{}").format(tag, Markup("").join(parts))
    return opening + (Markup(">{}</{}>").format(content, tag) if content else Markup("/>"))


def text(words: str, x: float, y: float, *, anchor: str = "start", class_: str = "tick", **more: object) -> Markup:
    """A line of text."""
    return element("text", escape(words), x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=class_, **more)


def line(x0: float, y0: float, x1: float, y1: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=round(x0, 1), y1=round(y0, 1), x2=round(x1, 1), y2=round(y1, 1), class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A broken line through places of the drawing."""
    steps = " ".join(f"{'L' if number else 'M'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
    return element("path", d=steps, class_=class_)


def tip(words: str) -> Markup:
    """What is shown when the pointer rests on the element that holds it, and read out."""
    return element("title", escape(words))


def drawing(
    name: str,
    title: str,
    description: str,
    size: tuple[float, float],
    parts: Iterable[Markup],
    *,
    linked: bool = False,
    natural: bool = False,
    class_: str = "",
) -> Markup:
    """The whole plot.

    Args:
        name: Of the plot on its page, for ids; letters and hyphens.
        title: What it is.
        description: What it shows, in a sentence or two.
        size: Width and height in the drawing's units.
        parts: Its elements.
        linked: Whether it holds links; then it is a group of them, and no picture, for screen readers.
        natural: Whether a unit is a pixel as long as there is room; else the plot is as wide as its place.
        class_: Further classes.
    """
    width, height = size
    inner = Markup("").join(
        [
            element("title", escape(title), id=f"{name}-title"),
            element("desc", escape(description), id=f"{name}-text"),
            *parts,
        ]
    )
    return element(
        "svg",
        inner,
        class_=f"plot {class_}".strip(),
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}" if natural else None,
        role="group" if linked else "img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-text",
    )
