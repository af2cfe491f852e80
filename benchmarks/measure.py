"""Measuring several ways of doing the same thing, fairly.

Owns: alternating rounds, medians, paired ratios, and the facts of the machine. Refuses: to compare numbers of two runs.

The ways take turns within each round, so that whatever else the machine does at that time slows all of them; a ratio is
taken within a round, and the median over the rounds is reported.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple


class Took(NamedTuple):
    """What one run of a way took.

    Attributes:
        slices: How many it did.
        seconds: By the clock on the wall.
        cpu_seconds: Of all threads of this process and of the processes below it (decoders); hardly moved by other
            work on the machine.
    """

    slices: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work.

    Attributes:
        name: For the table.
        run: Does it once.
    """

    name: str
    run: Callable[[], Took]


@dataclass(slots=True)
class Rates:
    """Slices a second of each way, and CPU milliseconds a slice; one value a round."""

    values: dict[str, list[float]] = field(default_factory=dict)
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median rate of a way."""
        return statistics.median(self.values[name])

    def cpu_median(self, name: str) -> float:
        """Median of a way's CPU milliseconds a slice."""
        return statistics.median(self.cpu_ms[name])

    def ratio(self, name: str, to: str) -> float:
        """Median over the rounds of one way's rate divided by another's in the same round."""
        return statistics.median(a / b for a, b in zip(self.values[name], self.values[to], strict=True))

    def cpu_ratio(self, name: str, to: str) -> float:
        """Median over the rounds of the other's processor time a slice divided by this one's in the same round."""
        return statistics.median(b / a for a, b in zip(self.cpu_ms[name], self.cpu_ms[to], strict=True))


def timed(work: Callable[[], int]) -> Callable[[], Took]:
    """Makes a `Way.run` of a function that returns how many slices it did."""

    def run() -> Took:
        started, cpu_started = time.perf_counter(), cpu_seconds()
        slices = work()
        return Took(slices, time.perf_counter() - started, cpu_seconds() - cpu_started)

    return run


def cpu_seconds() -> float:
    """Processor time of this process and of all that run below it."""
    return time.process_time() + sum(map(_run_seconds, _below(os.getpid())))


def _below(pid: int) -> list[int]:
    children = [int(child) for words in _of_tasks(pid, "children") for child in words]
    return children + [grandchild for child in children for grandchild in _below(child)]


def _run_seconds(pid: int) -> float:
    return sum(int(words[0]) for words in _of_tasks(pid, "schedstat")) * 1e-9


def _of_tasks(pid: int, name: str) -> Iterator[list[str]]:
    """The words of a file of each thread; one that has just ended has none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            yield (task / name).read_text().split()


def alternate(ways: list[Way], rounds: int, say: Callable[[str], None]) -> Rates:
    """Runs each way once to warm up, then `rounds` times in turn."""
    rates = Rates({way.name: [] for way in ways}, {way.name: [] for way in ways})
    for way in ways:
        say(f"warming up: {way.name}")
        way.run()
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        # Turned around each time: no way always runs after the same other one.
        for way in ways if number % 2 else ways[::-1]:
            took = way.run()
            rates.values[way.name].append(took.slices / took.seconds)
            rates.cpu_ms[way.name].append(took.cpu_seconds / took.slices * 1000)
    return rates


def table(rates: Rates, base: str) -> str:
    """Rates and ratios as text, the base first."""
    width = max(map(len, rates.values))
    heads = (
        f"{'slices/s':>9}",
        f"{'lowest':>8}",
        f"{'highest':>8}",
        f"{'ratio':>8}",
        f"{'CPU ms':>7}",
        f"{'ratio':>8}",
    )
    lines = [f"{'way':<{width}}  {'  '.join(heads)}"]
    for name, values in rates.values.items():
        lines.append(
            f"{name:<{width}}  {rates.median(name):9.2f}  {min(values):8.2f}  {max(values):8.2f}  "
            f"{rates.ratio(name, base):8.3f}  {rates.cpu_median(name):7.2f}  "
            f"{rates.cpu_ratio(name, base):8.3f}"
        )
    return "\n".join(lines)


def machine(packages: tuple[str, ...]) -> str:
    """What this was measured on, when, and with which versions."""
    load = os.getloadavg()[0]
    facts: Mapping[str, str] = {
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{load:.1f}" + (" (other work runs: trust the ratios, not the rates)" if load > 0.7 else ""),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in packages),
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items())


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def verdict(what: str, value: float, limit: float, *, at_most: bool = False) -> str:
    """One line that says whether a target was reached."""
    reached = value <= limit if at_most else value >= limit
    return f"{'reached' if reached else 'MISSED '}  {what}: {value:.3g} (target {'<=' if at_most else '>='} {limit:g})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
