"""`make dataset`: registers a folder of labelled pictures from the terminal, and says what became of it.

Owns bringing the folder below `datasets_dir` (as hard links where the disk allows it, so that it costs no space) and
what the operator sees meanwhile. It uses the running system when there is one, and else starts what is needed (no web).
Refuses to look into a picture: the registry worker does.
"""

import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from config.dataset_problems import english
from config.settings import Settings
from db.datasets import TrainingDataset
from db.queries import audit, datasets
from db.queries.datasets import DatasetRefused
from db.session import Database
from db.states import DatasetState, ItemState
from ops import launcher, local
from ops.console import Console, fraction_bar
from ops.supervisor import Supervisor
from ops.sweep import READY_TIMEOUT_S, planner_lives, running_system

POLL_S = 0.5
NOT_NEEDED = frozenset({"web", "intake", "transfer", "classify", "training"})
BAR_WIDTH = 24


class Wrong(Exception):
    """What was asked for cannot be begun; the message says why."""


def run(name: str, folder: Path, *, labels_as_they_are: bool) -> int:
    """Registers a folder; returns 0 when the data set is ready, 1 when it was refused, 2 when it cannot be begun."""
    try:
        if not folder.is_dir():  # a misspelt path should not start a system first
            raise Wrong(f"there is no folder {folder}")
        settings = running_system()
        if settings is not None:
            return _beside(settings, name, folder, labels_as_they_are)
        return _with_own_services(name, folder, labels_as_they_are)
    except Wrong as error:
        print(f"neurosight: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nThe registration goes on in the background; see the page Data sets.", file=sys.stderr)
        return 130


def bring(folder: Path, datasets_dir: Path, name: str, *, replace: bool = False) -> str:
    """Puts a folder below `datasets_dir`, whole or not at all.

    Args:
        folder: Anywhere; one that lies directly below `datasets_dir` is taken as it is.
        datasets_dir: The setting.
        name: Of the data set; the folder is called like it.
        replace: Whether a folder of that name is an earlier try of the same data set, to be replaced.

    Returns:
        The folder's name below `datasets_dir`.

    Raises:
        Wrong: There is no such folder, it holds links, its name is taken, or the disk refuses.
    """
    if not folder.is_dir():
        raise Wrong(f"there is no folder {folder}")
    datasets_dir.mkdir(parents=True, exist_ok=True)
    if folder.resolve().parent == datasets_dir.resolve():
        return folder.resolve().name
    called = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data-set"
    target = datasets_dir / called
    if target.exists() and not replace:
        raise Wrong(
            f"there is a folder {called!r} among the data sets already ({target}): remove it, choose another "
            "name for the data set, or name that folder itself"
        )
    made = Path(tempfile.mkdtemp(prefix=".bringing-", dir=datasets_dir))
    old = made.with_name(f"{made.name}-old")
    try:
        _link_tree(folder, made)
        made.chmod(0o755)
        if target.exists():
            target.rename(old)
        made.rename(target)
    except OSError as error:
        raise Wrong(f"{folder} could not be brought to {datasets_dir}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return called


def was_refused(database: Database, name: str) -> bool:
    """Whether there is a refused data set of this name: its folder may be replaced by a mended one."""
    with database.read() as session:
        found = datasets.by_name(session, name)
        return found is not None and found.state == DatasetState.REFUSED


def begin(database: Database, settings: Settings, name: str, folder: str, *, labels_as_they_are: bool) -> uuid.UUID:
    """Commits the wish; the dispatcher rings for it within seconds.

    A refused data set of the same name and folder is read again.

    Raises:
        Wrong: The name is empty or taken.
    """
    origin = {"folder": folder, "labels_as_they_are": labels_as_they_are}
    try:
        with database.write() as session:
            found = datasets.by_name(session, name)
            if found is not None and found.state == DatasetState.REFUSED and found.origin.get("folder") == folder:
                done = datasets.register_again(session, settings, found.id, labels_as_they_are=labels_as_they_are)
            else:
                done = datasets.register(session, settings, name=name, kind="folder", origin=origin, by=None)
            audit.record(
                session,
                audit.SYSTEM,
                "dataset.register",
                object_kind="dataset",
                object_id=done.dataset_id,
                detail=origin,
            )
    except DatasetRefused as refused:
        raise Wrong(str(refused)) from None
    return done.dataset_id


def follow(database: Database, dataset_id: uuid.UUID, console: Console, stopping: Callable[[], bool]) -> int:
    """Shows how far it is until it is ready or refused; returns 0 when it is ready, else 1."""
    while not stopping():
        with database.read() as session:
            found = session.get_one(TrainingDataset, dataset_id)
            waiting = datasets.waiting(session, found)
        if found.state != DatasetState.REGISTERING:
            console.end_bar()
            _conclude(found, console)
            return 0 if found.state == DatasetState.READY else 1
        if waiting is not None and waiting.code:
            line = english({"code": waiting.code})
        elif waiting is not None and waiting.state == ItemState.RUNNING and waiting.total:
            line = f"[{fraction_bar(min(1.0, waiting.done / waiting.total), BAR_WIDTH)}] looking at every picture"
        elif waiting is not None and waiting.state == ItemState.RUNNING:
            line = "reading the folder"
        else:
            line = "waiting for the registry worker"
        console.block([f"  {found.name}: {line}"])
        time.sleep(POLL_S)
    console.end_bar()
    return 1


def _conclude(found: TrainingDataset, console: Console) -> None:
    """Says what the data set holds, or what is wrong with it."""
    if found.state == DatasetState.REFUSED:
        console.plain(f"The data set {found.name!r} was refused:")
    else:
        counts, leaks = found.counts, found.leaks
        classes = ", ".join(f"{label} {facts['slices']}" for label, facts in counts["classes"].items())
        patients = f" of {counts['patients']} patients" if counts["patients_known"] else ""
        console.plain(f"The data set {found.name!r} is ready: {counts['slices']} slices{patients} ({classes}).")
        console.plain(
            f"  copies: {leaks['identical_pairs']} identical pairs, {leaks['near_pairs']} nearly identical, "
            f"{leaks['cross_patient_pairs']} across patients, {leaks['cross_label_pairs']} across labels"
        )
        console.plain(f"  fingerprint {found.fingerprint}")
    for problem in found.problems:
        console.plain(f"  - {english(problem)}")


def _beside(settings: Settings, name: str, folder: Path, as_they_are: bool) -> int:
    """Uses the running system."""
    database = Database(settings.resolved_database_url)
    try:
        called = bring(folder, settings.datasets_dir, name, replace=was_refused(database, name))
        dataset_id = begin(database, settings, name, called, labels_as_they_are=as_they_are)
        return follow(database, dataset_id, Console([]), lambda: False)
    finally:
        database.close()


def _with_own_services(name: str, folder: Path, as_they_are: bool) -> int:
    """Starts what is needed, and ends it afterwards."""

    def register(state: local.Local, console: Console, supervisor: Supervisor) -> None:
        database = Database(state.settings.resolved_database_url)
        try:
            called = bring(folder, state.settings.datasets_dir, name, replace=was_refused(database, name))
            dataset_id = begin(database, state.settings, name, called, labels_as_they_are=as_they_are)
            status = follow(database, dataset_id, console, lambda: supervisor.stopping)
            supervisor.stop("the data set was read", exit_status=status)
        except Wrong as error:
            supervisor.stop(str(error), exit_status=2)
        finally:
            database.close()

    def probe(state: local.Local) -> tuple[bool, str]:
        return planner_lives(state.settings), "no worker of the role registry lives yet"

    return launcher.launch(register, quiet=True, without=NOT_NEEDED, probe=probe, give_up_after_s=READY_TIMEOUT_S)


def _link_tree(source: Path, target: Path) -> None:
    """Hard links of every file, copies where the disk does not allow links; links in the source are refused."""
    for here, folders, files in os.walk(source):
        place = target / Path(here).relative_to(source)
        place.mkdir(exist_ok=True)
        for name in folders + files:
            if (Path(here) / name).is_symlink():
                raise Wrong(f"{Path(here) / name} is a link; put the file itself there")
        for name in files:
            try:
                (place / name).hardlink_to(Path(here) / name)
            except OSError:
                shutil.copy2(Path(here) / name, place / name)
