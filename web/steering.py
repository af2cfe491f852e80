"""What an administrator does to sweeps and runs: begin, pause, take up again, cancel, try one run again.

Owns these steps for pages and API alike: the change, its audit row in the same transaction, and the bell after the
commit. Refuses to read scenarios: a worker does, and its answer stands in the sweep.
"""

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from config import scenario_texts
from db.datasets import TrainingDataset
from db.queries import audit, sweep_views, sweeps
from db.queries.sweep_views import SweepView
from db.states import DatasetState
from db.sweeps import TrainingRun
from web.access import actor, the_user
from web.problems import Problem
from web.services import services

REFUSALS = {
    "no_name": "Give the sweep a name of a few words.",
    "no_scenarios": "There are no scenarios. Choose a scenario file, or write one.",
    "too_long": "The scenario text is too long: at most %(limit)s characters are accepted.",
    "no_dataset": "Choose a registered data set.",
    "dataset_not_ready": "This data set is not ready yet. Wait until it is registered, or choose another one.",
}


def find_sweep(session: Session, sweep_id: uuid.UUID) -> SweepView:
    """A sweep. Raises Problem 404 when there is none."""
    found = sweep_views.view(session, sweep_id)
    if found is None:
        raise Problem(404, "not_found", "There is no such sweep.")
    return found


def find_run(session: Session, run_id: uuid.UUID) -> TrainingRun:
    """A run with its sweep and data set. Raises Problem 404 when there is none."""
    found = sweep_views.run(session, run_id)
    if found is None:
        raise Problem(404, "not_found", "There is no such run.")
    return found


def begin(*, name: str, dataset_id: uuid.UUID | None, scenario_text: str, scenario_file: str) -> uuid.UUID:
    """Begins a sweep.

    Args:
        name: For people.
        dataset_id: A registered data set; None: none was chosen.
        scenario_text: YAML; empty: that of `scenario_file`.
        scenario_file: Name in `config/scenarios`, or empty; kept only when the text is that of the file.

    Returns:
        The sweep, in state `planning`.

    Raises:
        Problem: 422 when the sweep cannot be begun; `code` says why.
    """
    parts = services()
    if scenario_file and scenario_file not in scenario_texts.names():
        raise Problem(422, "no_scenario_file", "There is no scenario file of this name.")
    text = scenario_text.replace("\r\n", "\n")
    if scenario_file:
        given = scenario_texts.read(scenario_file)
        text = text if text.strip() else given
        scenario_file = scenario_file if text.strip() == given.strip() else ""
    if dataset_id is None:
        raise refusal("no_dataset")
    try:
        with parts.database.write() as db:
            created = sweeps.create(
                db,
                parts.settings,
                name=name,
                dataset_id=dataset_id,
                scenario_text=text,
                scenario_file=scenario_file,
                by=the_user().id,
            )
            detail = {"dataset": str(dataset_id), "file": scenario_file}
            audit.record(db, actor(), "sweep.create", object_kind="sweep", object_id=created.sweep_id, detail=detail)
    except sweeps.SweepRefused as refused:
        raise refusal(refused.code) from refused
    parts.doorbell.ring_committed(parts.database, created.item_ids)
    return created.sweep_id


def pause(sweep_id: uuid.UUID) -> bool:
    """Pauses a sweep; False when it does not run."""
    return _stop(sweep_id, "sweep.pause", sweeps.pause)


def cancel(sweep_id: uuid.UUID) -> bool:
    """Cancels a sweep; False when it has ended."""
    return _stop(sweep_id, "sweep.cancel", sweeps.cancel)


def resume(sweep_id: uuid.UUID) -> bool:
    """Takes up a paused or cancelled sweep; False when there is nothing to take up."""
    parts = services()
    with parts.database.write() as db:
        find_sweep(db, sweep_id)
        items = sweeps.resume(db, sweep_id, parts.settings)
        if items:
            audit.record(db, actor(), "sweep.resume", object_kind="sweep", object_id=sweep_id)
    parts.doorbell.ring_committed(parts.database, items)
    return bool(items)


def retry(run_id: uuid.UUID) -> bool:
    """Tries a failed or cancelled run again; False when it is neither, or its sweep is paused."""
    parts = services()
    with parts.database.write() as db:
        find_run(db, run_id)
        items = sweeps.retry_run(db, run_id, parts.settings)
        if items:
            audit.record(db, actor(), "run.retry", object_kind="run", object_id=run_id)
    parts.doorbell.ring_committed(parts.database, items)
    return bool(items)


def ready_datasets(session: Session) -> list[TrainingDataset]:
    """Data sets that a sweep may learn from, by name."""
    query = select(TrainingDataset).where(TrainingDataset.state == DatasetState.READY).order_by(TrainingDataset.name)
    return list(session.scalars(query))


def refusal(code: str) -> Problem:
    """Why a sweep cannot be begun."""
    facts: dict[str, Any] = {"limit": sweeps.TEXT_LIMIT} if code == "too_long" else {}
    return Problem(422, code, REFUSALS[code], facts=facts)


def _stop(sweep_id: uuid.UUID, action: str, change: Callable[[Session, uuid.UUID], bool]) -> bool:
    with services().database.write() as db:
        find_sweep(db, sweep_id)
        done = change(db, sweep_id)
        if done:
            audit.record(db, actor(), action, object_kind="sweep", object_id=sweep_id)
    return done
