"""Trains one claimed group of runs that share their work, from the data set's blobs to the runs' reports.

Owns the way of a group: read what it covers (and close the session), lay the data set out on this machine, train, and
store each run's weights and report as soon as it is trained. Every write is fenced. What is on disk (states, features,
pictures) is a cache: without it a run begins anew, with the same numbers.

A run that cannot be trained fails alone, with its reason. TensorFlow is imported by `training.groups` when it begins,
in a process that ends after the item.
"""

import hashlib
import io
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from config.settings import Settings
from config.version import code_version
from db.blobs import BlobMissing
from db.queries import claims
from db.queries import training as rows
from db.queries.claims import Claim
from db.queries.training import Group, Mistake, Outcome, RunToDo
from inference.artefact import SUFFIX
from training.errors import ScenarioError, TrainingError
from training.failures import RunFailure, failure_of
from training.groups import train_group
from training.pipeline import Material, gather
from training.report import Report, run_report
from training.runs import RunResult
from training.scenario import Scenario
from worker import datasets
from worker.context import Context
from worker.faults import Fatal
from worker.lease import Lease, Stopping
from worker.recording import DatabaseRecorder

ARTEFACT_MISSING = "artefact_missing"
SCENARIO_OUTDATED = "scenario_outdated"

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed training item from beginning to end.

    Raises:
        LeaseLost: Somebody else has it, or the sweep was paused or cancelled.
        Stopping: This process has to end; every run goes on from its last epoch.
        Exception: Whatever `worker.work` is to judge.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on speed is not for operators
    with context.database.read() as session:
        group = rows.load_group(session, claim)
    if group is not None:
        _Training(context, claim, lease, group).do()
    context.write(lease, lambda session: claims.finish(session, claim, note="" if group else "gone"))


def states_folder(settings: Settings, sweep_id: object) -> Path:
    """Where the states and reports of a sweep's runs lie."""
    return settings.training_dir / "sweeps" / str(sweep_id)


class _Training:
    """One group in this worker's hands."""

    def __init__(self, context: Context, claim: Claim, lease: Lease, group: Group) -> None:
        self._context, self._claim, self._lease, self._group = context, claim, lease, group
        self._folder = states_folder(context.settings, group.sweep_id)
        self._runs: dict[str, tuple[RunToDo, Scenario, DatabaseRecorder]] = {}
        self._material: Material | None = None

    def do(self) -> None:
        """Trains every run of the group to its end, or until the lease says stop."""
        for todo in self._group.runs:
            recorder = DatabaseRecorder(self._context, self._claim, self._lease, todo.run_id)
            try:
                self._runs[todo.name] = todo, Scenario.from_record(todo.scenario), recorder
            except ScenarioError as error:
                # It was valid when it was planned: another version of the program reads it now.
                recorder.failed(SCENARIO_OUTDATED, str(error))
        if self._runs and self._gather():
            self._train()

    def _gather(self) -> bool:
        """Lays the data set out and splits it; when it does not fit, every run fails and the answer is False."""
        settings = self._context.settings
        first = next(iter(self._runs.values()))[1]
        try:
            data = datasets.materialise(self._context, self._group.dataset_id, settings.training_dir / "datasets")
            self._lease.check()
            self._material = gather(first, data, self._folder / f"{first.name}.split.csv")
        except TrainingError as error:
            self._fail_all(*(failure_of(error) or ("refused", str(error))))
        else:
            self._lease.check()
            return True
        return False

    def _artefacts(self) -> Path:
        """A folder with the artefacts of the store from which runs start.

        Raises:
            Fatal: One is not in the store any more.
        """
        folder = self._context.settings.training_dir / "artefacts"
        folder.mkdir(parents=True, exist_ok=True)
        for _, scenario, _ in self._runs.values():
            kind, _, digest = scenario.weights.partition(":")
            target = folder / f"{digest}{SUFFIX}"
            if kind != "sha256":
                continue
            if target.exists():
                target.touch()  # housekeeping removes what was not used for long
                continue
            temporary = folder / f"{digest}.{self._claim.lease_token}.part"
            try:
                with self._context.blobs.open(digest) as source, temporary.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            except BlobMissing:
                raise Fatal(ARTEFACT_MISSING, f"the artefact {digest} is not in the store") from None
            temporary.replace(target)
        return folder

    def _train(self) -> None:
        settings = self._context.settings
        assert self._material is not None  # noqa: S101 - gathered before
        ends = train_group(
            [scenario for _, scenario, _ in self._runs.values()],
            self._material,
            self._folder,
            [recorder for _, _, recorder in self._runs.values()],
            settings.weights_dir,
            settings.training_dir / "features",
            settings.training_threads or os.cpu_count() or 1,
            models_dir=self._artefacts(),
            max_cache_bytes=settings.feature_cache_bytes,
            ended=self._ended,
        )
        if any(isinstance(end, RunResult) and end.stopped for end in ends):
            self._lease.check()
            raise Stopping(f"work item {self._claim.item_id}: stopped after an epoch, because this process has to end")

    def _ended(self, end: RunResult | RunFailure) -> None:
        """Stores what a run came to, while the others wait."""
        if isinstance(end, RunFailure) or end.stopped:
            return  # its recorder was told, or it goes on later
        todo, scenario, recorder = self._runs[end.name]
        try:
            self._finish(todo, scenario, end)
        except Exception as error:
            known = failure_of(error)
            if known is None:
                raise
            recorder.failed(*known)

    def _finish(self, todo: RunToDo, scenario: Scenario, result: RunResult) -> None:
        assert self._material is not None  # noqa: S101 - as above
        # In the folder it is found again if this process is killed before the commit: the test part is scored once.
        report = run_report(scenario, self._material, result, self._folder)
        self._lease.check()
        digest, _ = self._context.blobs.put(io.BytesIO(weights_archive(result.weights)))
        outcome = outcome_of(result, report, digest)
        finish = partial(
            rows.finish_run,
            claim=self._claim,
            run_id=todo.run_id,
            outcome=outcome,
            lease_s=self._context.settings.lease_s,
        )
        self._context.write(self._lease, finish)
        log.info("run_finished", run_id=str(todo.run_id), best_epoch=result.best_epoch, mistakes=len(outcome.mistakes))

    def _fail_all(self, code: str, detail: str) -> None:
        log.error("data_unusable", code=code)
        for _, _, recorder in self._runs.values():
            recorder.failed(code, detail)


def weights_archive(weights: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Weights by Keras path as an `.npz` archive; equal weights give equal bytes."""
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **{name: weights[name] for name in sorted(weights)})
    return archive.getvalue()


def outcome_of(result: RunResult, report: Report, weights_sha256: str) -> Outcome:
    """What is stored of a finished run."""
    record, facts = report.record, result.facts
    return Outcome(
        best_epoch=result.best_epoch,
        metrics=record["leaderboard"],
        facts={
            "environment": facts.get("environment", {}),
            "runs_in_lockstep": facts.get("runs_in_lockstep", 1),
            "split": record["data"]["split"],
            "split_rule": record["data"]["split_rule"],
            "test_sha256": _part_digest(record["slices"]["test"]),
        },
        report=record,
        wall_s=float(facts.get("wall_s", 0.0)),
        images_per_s=facts.get("images_per_s"),
        peak_memory_bytes=facts.get("peak_memory_bytes"),
        code_version=code_version(),
        weights_sha256=weights_sha256,
        mistakes=[
            Mistake(
                part=part,
                rank=mistake["rank"],
                facts=mistake,
                picture_png=report.pictures[mistake["picture"]],
                heatmap_png=report.pictures[mistake["heatmap"]],
            )
            for part in ("validation", "test")
            for mistake in record["mistakes"][part]
        ],
    )


def _part_digest(slices: Sequence[Mapping[str, Any]]) -> str:
    """Identifies a part by its files and labels, so that runs can be compared on the same one."""
    lines = sorted(f"{one['file']}\t{one['label']}" for one in slices)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
