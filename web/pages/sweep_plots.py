"""The two plots of a sweep: architecture x optimizer x learning rate as a heatmap, and as parallel coordinates.

Owns which run stands where, and what each mark says. Where several runs share a square, the best of them stands there
and the square says how many there are. The leaderboard below the plots holds the same numbers as a table.
"""

from collections.abc import Sequence

from flask import url_for
from flask_babel import gettext
from markupsafe import Markup

from db.queries import leaderboard
from db.queries.leaderboard import Entry
from db.sweeps import TrainingRun
from web.pages.training_words import learning_rate, measure, metric_label, spread
from web.plots.grid import Cell, grid
from web.plots.parallel import Axis, Path, parallel

FEWEST_LINES = 2
"""Parallel coordinates of one run say nothing."""


def both(runs: Sequence[TrainingRun], metric: str) -> dict[str, Markup | None]:
    """The plots of the given runs, coloured by a metric; None where there is too little to draw."""
    entries = leaderboard.ranked(runs, metric)
    numbered = [entry for entry in entries if entry.place]
    return {
        "heatmap": _heatmap(entries, metric) if numbered else None,
        "parallel": _parallel(numbered, metric) if len(numbered) >= FEWEST_LINES else None,
    }


def _heatmap(entries: Sequence[Entry], metric: str) -> Markup:
    squares: dict[tuple[str, tuple[str, str]], list[Entry]] = {}
    for entry in entries:
        scenario = entry.run.scenario
        column = (str(scenario["optimizer"]), learning_rate(scenario["learning_rate"]))
        squares.setdefault((str(scenario["network"]), column), []).append(entry)
    rows = sorted({row for row, _ in squares})
    columns = sorted({column for _, column in squares}, key=lambda column: (column[0], -float(column[1])))
    cells = {place: _cell(found, metric) for place, found in squares.items()}
    return grid(
        "heatmap",
        gettext("%(metric)s by architecture, optimizer and learning rate", metric=metric_label(metric)),
        gettext("One square a scenario, the stronger the colour the higher the number. The table below says the same."),
        rows,
        columns,
        cells,
    )


def _cell(found: Sequence[Entry], metric: str) -> Cell:
    """The square of runs that share architecture, optimizer and learning rate; the best one comes first."""
    first = found[0]
    number = leaderboard.interval(first.run, metric)
    more = gettext(", the best of %(count)s", count=len(found)) if len(found) > 1 else ""
    value = number.value
    return Cell(
        value if value is None or not leaderboard.is_better_small(metric) else -value,
        measure(value, metric) if value is not None else "…",
        f"{first.run.name}: {_words(first, metric)}{more}",
        url_for("pages.run", run_id=first.run.id),
        best=first.place == 1,
    )


def _parallel(entries: Sequence[Entry], metric: str) -> Markup:
    fields = [("network", gettext("architecture")), ("optimizer", gettext("optimizer"))]
    axes = [Axis(label, sorted({str(entry.run.scenario[field]) for entry in entries})) for field, label in fields] + [
        Axis(gettext("learning rate"), logarithmic=True),
        Axis(metric_label(metric)),
    ]
    last = max(1, len(entries) - 1)
    paths = [
        Path(
            [
                *(str(entry.run.scenario[field]) for field, _ in fields),
                float(entry.run.scenario["learning_rate"]),
                leaderboard.interval(entry.run, metric).value or 0.0,
            ],
            f"{entry.run.name}: {_words(entry, metric)}",
            url_for("pages.run", run_id=entry.run.id),
            1 - number / last,
            best=number == 0,
        )
        for number, entry in enumerate(entries)
    ]
    return parallel(
        "parallel",
        gettext("Each run as a line through its choices to its result"),
        gettext("The best runs are drawn strongest. The table below says the same."),
        axes,
        paths,
    )


def _words(entry: Entry, metric: str) -> str:
    number = leaderboard.interval(entry.run, metric)
    interval = spread(number, metric)
    return f"{measure(number.value, metric)} ({interval})" if interval else measure(number.value, metric)
