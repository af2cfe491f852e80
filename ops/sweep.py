"""`make sweep`: trains a set of scenarios from the terminal and ends with the leaderboard.

Owns what the operator sees of a sweep without a browser. It uses the running system when there is one, and else starts
what training needs (no web). Refuses to train in its own process: the workers do, so that Ctrl-C costs nothing.
"""

import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from config import scenario_texts
from config.queues import QUEUE_REGISTRY
from config.settings import Settings, SettingsError, load_settings
from db.datasets import TrainingDataset
from db.queries import audit, heartbeats, sweep_views, sweeps
from db.queries.sweep_views import Remaining, SweepView
from db.session import Database
from db.states import RUN_ENDED, SWEEP_ENDED, RunState, SweepState
from db.sweeps import TrainingRun
from ops import launcher, local
from ops.console import Console, fraction_bar, table
from ops.supervisor import Supervisor

POLL_S = 1.0
NOT_NEEDED = frozenset({"web", "intake", "transfer", "classify"})
READY_TIMEOUT_S = 120.0
BAR_WIDTH = 12
SHOWN_RUNS = 20
"""Most lines of running runs on a terminal at once."""
METRICS = ("accuracy", "macro_f1", "macro_roc_auc")
SORTED_BY = "validation.accuracy"


class Wrong(Exception):
    """What was asked for cannot be begun; the message says why."""


@dataclass(frozen=True)
class Wish:
    """What to train: a new sweep, or one that is there (`follow`)."""

    scenarios: str = ""
    dataset: str = ""
    name: str = ""
    follow: uuid.UUID | None = None


def run(wish: Wish) -> int:
    """Begins or follows a sweep; returns 0 when every run is finished, 1 when not, 130 after Ctrl-C."""
    try:
        if wish.follow is None:
            read_scenarios(wish.scenarios)  # a misspelt name should not start a system first
    except Wrong as error:
        print(f"neurosight: {error}", file=sys.stderr)
        return 2
    settings = running_system()
    if settings is not None:
        return _beside(settings, wish)
    return _with_own_services(wish)


def read_scenarios(wanted: str) -> tuple[str, str]:
    """(text, name in `config/scenarios` or empty) of a file named by its name there or by a path.

    Raises:
        Wrong: There is no such file.
    """
    if wanted in scenario_texts.names():
        return scenario_texts.read(wanted), wanted
    try:
        return Path(wanted).read_text(encoding="utf-8"), ""
    except (OSError, UnicodeDecodeError) as error:
        raise Wrong(
            f"cannot read the scenario file {wanted!r} ({type(error).__name__}); expected a path, or one of: "
            f"{', '.join(scenario_texts.names())}"
        ) from None


def begin(database: Database, settings: Settings, wish: Wish) -> uuid.UUID:
    """Commits the sweep; the dispatcher rings for it within seconds.

    Raises:
        Wrong: No such data set, or not ready.
    """
    text, file = read_scenarios(wish.scenarios)
    with database.write() as session:
        dataset = session.scalar(select(TrainingDataset).where(TrainingDataset.name == wish.dataset))
        if dataset is None:
            known = ", ".join(sorted(session.scalars(select(TrainingDataset.name)))) or "none yet"
            raise Wrong(
                f"there is no data set {wish.dataset!r}; registered: {known}. Register one on the page Data sets, or "
                'with make dataset ARGS="NAME FOLDER"'
            )
        name = wish.name or f"{Path(wish.scenarios).stem} on {dataset.name}"
        try:
            created = sweeps.create(
                session, settings, name=name, dataset_id=dataset.id, scenario_text=text, scenario_file=file
            )
        except sweeps.SweepRefused as error:
            raise Wrong(str(error)) from None
        audit.record(session, audit.SYSTEM, "sweep.create", object_kind="sweep", object_id=created.sweep_id)
    return created.sweep_id


def running_system() -> Settings | None:
    """The settings of a system whose registry worker lives; None when none runs."""
    try:
        settings = load_settings(var_dir=local.var_folder())
    except SettingsError:
        return None  # the launcher says what is wrong
    return settings if planner_lives(settings) else None


def planner_lives(settings: Settings) -> bool:
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            alive = heartbeats.alive(session, age_s=settings.worker_ready_age_s)
        return any(QUEUE_REGISTRY in worker.queues for worker in alive)
    except SQLAlchemyError:
        return False
    finally:
        database.close()


def _beside(settings: Settings, wish: Wish) -> int:
    """Uses the running system."""
    console = Console([])
    database = Database(settings.resolved_database_url)
    try:
        sweep_id = wish.follow or begin(database, settings, wish)
        return follow(database, settings, sweep_id, console, lambda: False)
    except Wrong as error:
        print(f"neurosight: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.end_bar()
        console.plain("The sweep goes on in the background; pause or cancel it on its page (Training).")
        return 130
    finally:
        database.close()


def _with_own_services(wish: Wish) -> int:
    """Starts what training needs, and ends it afterwards."""

    def train(state: local.Local, console: Console, supervisor: Supervisor) -> None:
        database = Database(state.settings.resolved_database_url)
        try:
            sweep_id = wish.follow or begin(database, state.settings, wish)
            console.say(f"sweep {sweep_id}")
            status = follow(database, state.settings, sweep_id, console, lambda: supervisor.stopping)
            if supervisor.stopping:
                console.plain(
                    "Nothing is lost: the sweep goes on from its last epochs with the next make up, or with "
                    f'make sweep ARGS="--follow {sweep_id}".'
                )
            supervisor.stop("the sweep has ended", exit_status=status)
        except Wrong as error:
            supervisor.stop(str(error), exit_status=2)
        finally:
            database.close()

    def probe(state: local.Local) -> tuple[bool, str]:
        return planner_lives(state.settings), "no worker of the role registry lives yet"

    return launcher.launch(train, quiet=True, without=NOT_NEEDED, probe=probe, give_up_after_s=READY_TIMEOUT_S)


def follow(
    database: Database, settings: Settings, sweep_id: uuid.UUID, console: Console, stopping: Callable[[], bool]
) -> int:
    """Shows a line for each run until the sweep has ended, then the leaderboard.

    Returns:
        0 when every run is finished; 1 when it was refused or cancelled, or when a run failed.

    Raises:
        Wrong: There is no such sweep.
    """
    told: dict[uuid.UUID, str] = {}
    said = ""
    while not stopping():
        with database.read() as session:
            shown = sweep_views.view(session, sweep_id)
            runs = sweep_views.runs(session, sweep_id)
            left = sweep_views.remaining(session, sweep_id, worker_age_s=settings.worker_ready_age_s)
            latest = {run.id: _latest(session, run) for run in runs if run.state == RunState.RUNNING}
        if shown is None:
            raise Wrong(f"there is no sweep {sweep_id}")
        for run in runs:
            news = run_news(run)
            if news and told.get(run.id) != news:
                told[run.id] = news
                console.say(news)
        hint = waiting_for(shown, left)
        if hint and hint != said:
            said = hint
            console.say(hint)
        if shown.state in SWEEP_ENDED:
            console.end_bar()
            return _conclude(shown, runs, console)
        going = [run for run in runs if run.state == RunState.RUNNING][:SHOWN_RUNS]
        width = max((len(run.name) for run in going), default=0)
        console.block([*(run_line(run, latest[run.id], width) for run in going), sweep_line(shown, left)])
        time.sleep(POLL_S)
    console.end_bar()
    return 1


def run_news(run: TrainingRun) -> str:
    """What is worth a line that stays: a run began, or ended."""
    if run.state == RunState.FINISHED:
        return f"{run.name}: finished after {run.epochs_done} epochs, validation accuracy {_metric(run, SORTED_BY)}"
    if run.state == RunState.FAILED:
        return f"{run.name}: FAILED ({run.failure_code}) {run.failure_detail.get('text', '')}".rstrip()
    if run.state == RunState.RUNNING:
        return f"{run.name}: training"
    return ""


def run_line(run: TrainingRun, facts: dict[str, float], width: int) -> str:
    """The progress line of a run that is being trained, its name as wide as those of the others."""
    share = run.epochs_done / max(1, run.epochs_planned)
    numbers = (
        f"  loss {facts['loss']:.4f}  validation loss {facts['validation_loss']:.4f}, "
        f"accuracy {facts['validation_accuracy']:.3f}"
        if {"loss", "validation_loss", "validation_accuracy"} <= facts.keys()
        else ""
    )
    return (
        f"  {run.name.ljust(width)}  [{fraction_bar(share, BAR_WIDTH)}] {run.epochs_done}/{run.epochs_planned}{numbers}"
    )


def sweep_line(shown: SweepView, left: Remaining | None) -> str:
    """The line of the sweep as a whole."""
    text = f"  {shown.name}: {shown.ended_runs} of {shown.runs} runs have ended" if shown.runs else "  planning"
    if left is not None and left.seconds is not None:
        text += f", at most {left.seconds / 60:.0f} min left" if left.seconds >= 90 else f", {left.seconds:.0f} s left"
        if left.unmeasured_runs:
            text += f" and {left.unmeasured_runs} runs of a kind not measured yet"
    return text


def waiting_for(shown: SweepView, left: Remaining | None) -> str:
    """Why nothing moves, when nothing can."""
    if shown.state == SweepState.PAUSED:
        return "the sweep is paused; resume it on its page"
    if shown.state == SweepState.RUNNING and left is not None and not left.workers:
        return (
            "no worker that can train is alive: it starts with make up; without TensorFlow it waits "
            "(make environment-train installs it)"
        )
    return ""


def leaderboard(runs: list[TrainingRun]) -> list[str]:
    """A table of the finished runs, the best on the validation part first."""
    finished = [run for run in runs if run.state == RunState.FINISHED]
    finished.sort(key=lambda run: -(run.metrics.get(SORTED_BY, {}).get("value") or 0.0))
    headings = ("run", *(f"{part} {name}" for part in ("validation", "test") for name in METRICS), "epochs", "minutes")
    rows = [
        (
            run.name,
            *(_metric(run, f"{part}.{name}") for part in ("validation", "test") for name in METRICS),
            str(run.epochs_done),
            f"{run.wall_s / 60:.1f}",
        )
        for run in finished
    ]
    return table(headings, rows, right=frozenset(range(1, len(headings))))


def _conclude(shown: SweepView, runs: list[TrainingRun], console: Console) -> int:
    if shown.state == SweepState.REFUSED:
        console.plain(f"The sweep was refused: {len(shown.problems)} mistake(s).")
        for problem in shown.problems:
            place = f"line {problem['line']}: " if problem.get("line") else ""
            console.plain(f"  {place}{problem['message']}")
        return 1
    console.plain()
    for line in leaderboard(runs):
        console.plain(line)
    console.plain("  Sorted by the validation part, which chose; the test part was scored once and chooses nothing.")
    failed = [run for run in runs if run.state in RUN_ENDED and run.state != RunState.FINISHED]
    for run in failed:
        console.plain(f"  {run.name}: {run.state} {run.failure_code} {run.failure_detail.get('text', '')}".rstrip())
    return 1 if failed else 0


def _latest(session: Any, run: TrainingRun) -> dict[str, float]:
    found = sweep_views.epochs(session, run.id, after=run.epochs_done - 2)
    return dict(found[-1].facts) if found else {}


def _metric(run: TrainingRun, name: str) -> str:
    value = run.metrics.get(name, {}).get("value")
    return "-" if value is None else f"{value:.4f}"
