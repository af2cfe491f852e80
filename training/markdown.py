"""The Markdown that model cards are written in.

Owns: percentages, tables, and putting a section into a card that is there already. Refuses: to know what a card says.
"""

import re
from collections.abc import Sequence

_BEFORE = "Limits"
"""A new section goes before this one: limits and repetition end a card."""


def percent(value: float | None) -> str:
    """`97.3 %`, or a dash where there is no value."""
    return "–" if value is None else f"{100 * value:.1f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; cells are written as they are."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def with_section(card: str, title: str, text: str) -> str:
    """A card with a section of this title: replaced where the card has one, else put before its limits.

    Args:
        card: Markdown with sections that begin with `## `.
        title: Of the section.
        text: Its content.
    """
    parts = re.split(r"(?m)^(?=## )", card)
    ours = f"## {title}\n\n{text.strip()}\n\n"
    titles = [part.split("\n", 1)[0].removeprefix("## ").strip() for part in parts]
    if title in titles:
        parts[titles.index(title)] = ours
    else:
        parts.insert(titles.index(_BEFORE) if _BEFORE in titles else len(parts), ours)
    return "".join(part if part.endswith("\n\n") else part.rstrip("\n") + "\n\n" for part in parts).rstrip("\n") + "\n"
