"""What the operator sees: prefixed lines, a progress bar, a table. Works without a terminal too, then in plain lines.

Owns layout and colour alone. Refuses to decide what is worth saying, apart from shortening a service's JSON log line to
one that can be read.
"""

import json
import shutil
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from honcho.colour import get_colours
from honcho.printer import Message, Printer

QUIET_KEYS: Final = frozenset({"event", "level", "timestamp", "time", "logger", "service", "pid", "process", "thread"})
LOG_ONLY: Final = frozenset({"broker"})
"""Services whose lines go to their log file alone: the broker greets at length and has nothing to tell an operator."""
EVERYDAY_EVENTS: Final = frozenset({"request"})
"""One a page and picture: in the log file, but no news."""
VALUE_LIMIT: Final = 60
BLOCKS: Final = " ▏▎▍▌▋▊▉█"


class Console:
    """The terminal, shared by the supervisor's lines and a progress bar at the bottom.

    Args:
        names: Services, for the width and the colours of the prefixes.
        quiet: Show only warnings and errors of the services.
    """

    def __init__(self, names: Sequence[str], *, quiet: bool = False) -> None:
        self.tty = sys.stdout.isatty()
        self._quiet = quiet
        self._printer = Printer(sys.stdout, width=max([len("neurosight"), *map(len, names)]))
        self._colours = dict(zip(names, get_colours(), strict=False))
        self._lock = threading.RLock()
        self._block: list[str] = []

    def service_line(self, name: str, raw: str) -> None:
        """Shows one line that a service wrote, shortened."""
        if name in LOG_ONLY:
            return
        level, text = shorten(raw)
        if not text or (self._quiet and level not in {"warning", "error", "critical"}):
            return
        self._line(name, text, self._colours.get(name))

    def say(self, text: str) -> None:
        """Shows a line of the launcher itself."""
        self._line("neurosight", text, None)

    def plain(self, text: str = "") -> None:
        """Shows text without a prefix."""
        with self._lock:
            self._clear_bar()
            print(text, flush=True)

    def bar(self, done: int, total: int, text: str) -> None:
        """Draws the progress bar (terminals only)."""
        width = 32
        filled = width * done // max(total, 1)
        self.block([f"  [{'█' * filled}{'·' * (width - filled)}] {done}/{total} {text}"])

    def block(self, lines: Sequence[str]) -> None:
        """Draws lines that the next call, or any other output, replaces (terminals only)."""
        if not self.tty:
            return
        size = shutil.get_terminal_size()
        with self._lock:
            self._clear_bar()
            self._block = [line[: size.columns - 1] for line in lines[-(size.lines - 1) :]]
            sys.stdout.write("\n".join(self._block))
            sys.stdout.flush()

    def end_bar(self) -> None:
        """Removes the progress bar."""
        with self._lock:
            self._clear_bar()
            sys.stdout.flush()

    def bold(self, text: str) -> str:
        """Emphasised on a terminal."""
        return f"\033[1m{text}\033[0m" if self.tty else text

    def _line(self, name: str, text: str, colour: str | None) -> None:
        with self._lock:
            self._clear_bar()
            self._printer.write(Message(type="line", data=text, time=datetime.now(), name=name, colour=colour))

    def _clear_bar(self) -> None:
        if self._block:
            sys.stdout.write("\r\033[2K" + "\033[1A\033[2K" * (len(self._block) - 1))
            self._block = []


def shorten(raw: str) -> tuple[str, str]:
    """(level, readable text) of one log line; JSON lines lose what the prefix already says."""
    raw = raw.rstrip()
    if not raw.startswith("{"):
        return ("error" if raw.startswith("Traceback") else "info"), raw
    try:
        record: dict[str, Any] = json.loads(raw)
    except ValueError:
        return "info", raw
    level = str(record.get("level", "info")).lower()
    if record.get("event") in EVERYDAY_EVENTS and level in {"info", "debug"}:
        return level, ""
    facts = " ".join(
        f"{key}={_short(value)}" for key, value in record.items() if key not in QUIET_KEYS and value not in (None, "")
    )
    sign = "" if level in {"info", "debug"} else f"{level.upper()}: "
    return level, f"{sign}{record.get('event', '')} {facts}".strip()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.replace("\n", " | ")
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def fraction_bar(value: float, width: int) -> str:
    """A bar for a fraction in [0, 1], to an eighth of a character."""
    eighths = round(min(max(value, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return (BLOCKS[-1] * full + (BLOCKS[rest] if rest else "")).ljust(width)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of a table with columns as wide as needed.

    Args:
        headings: One text a column.
        rows: Texts, one row each.
        right: Columns that are aligned to the right.
    """
    widths = [max(len(str(row[at])) for row in (headings, *rows)) for at in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  " + "  ".join(cells).rstrip()

    return [line(headings), "  " + "  ".join("-" * width for width in widths), *map(line, rows)]
