"""Sweeps in every state, put straight into the tables, for tests of pages and API that need no training.

Owns rows with plausible curves and reports. The numbers of reports are made by the real evaluation on drawn scores, so
that their layout is the real one; only the network is missing.
"""

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import cv2
import numpy as np

from config import scenario_texts
from db.base import utc_now
from db.datasets import TrainingDataset
from db.session import Database
from db.states import DatasetState, RunState, SweepState
from db.sweeps import RunEpoch, RunMistake, RunReport, Sweep, TrainingRun
from imaging import heatmaps
from training import calibration
from training.evaluation import evaluate
from training.resampling import draw
from training.scenario import Scenario
from training.scenario_files import parse_scenarios

PATIENTS, SLICES_EACH = 40, 5
RESAMPLES = 100
REPORTED = 3
"""How many runs of the finished sweep have whole reports; the others have their numbers for the leaderboard alone."""


@dataclass
class TrainingWorld:
    """Ids of what is there."""

    dataset: uuid.UUID
    finished: uuid.UUID
    running: uuid.UUID
    paused: uuid.UUID
    refused: uuid.UUID
    runs: list[uuid.UUID] = field(default_factory=list)
    """Reported runs of the finished sweep, the first two with mistakes."""
    failed_run: uuid.UUID | None = None
    live_run: uuid.UUID | None = None
    mistake: uuid.UUID | None = None


def plant(
    database: Database, by: uuid.UUID | None = None, *, scenarios: str = "thesis.yaml", most: int = 27
) -> TrainingWorld:
    """Puts one sweep of each state into the tables; the finished one has the first `most` scenarios of the file."""
    text = scenario_texts.read(scenarios)
    found = parse_scenarios(text, scenarios, scenario_texts.FOLDER).scenarios[:most]
    with database.write() as db:
        dataset = TrainingDataset(
            name="public-axial",
            kind="folder",
            state=DatasetState.READY,
            fingerprint="ab" * 32,
            counts={"slices": 1829, "patients": 180, "classes": {}, "planes": {}},
        )
        db.add(dataset)
        db.flush()

        def sweep(name: str, state: SweepState, **more: Any) -> Sweep:
            made = Sweep(
                name=name,
                created_by_id=by,
                dataset_id=dataset.id,
                scenario_file=scenarios,
                scenario_text=text,
                state=state,
                code_version="0.9.0+abcdef0",
                **more,
            )
            db.add(made)
            db.flush()
            return made

        now = utc_now()
        finished = sweep("Thesis, axial", SweepState.FINISHED, started_at=now - timedelta(hours=3), finished_at=now)
        running = sweep("Light backbones", SweepState.RUNNING, started_at=now - timedelta(minutes=20))
        paused = sweep("Thesis, all planes", SweepState.PAUSED, started_at=now - timedelta(hours=5))
        refused = sweep(
            "First try",
            SweepState.REFUSED,
            problems=[
                {
                    "line": 42,
                    "field": "optimizer",
                    "value": "'adamm'",
                    "expected": "one of adamw, adam, sgd, rmsprop",
                    "message": "optimizer is 'adamm'; did you mean adam?",
                    "origin": "",
                },
                {
                    "line": 58,
                    "field": "learning_rate",
                    "value": "-1",
                    "expected": "a number above 0, up to 1",
                    "message": "learning_rate is -1; expected a number above 0, up to 1.",
                    "origin": "",
                },
            ],
        )
        world = TrainingWorld(dataset.id, finished.id, running.id, paused.id, refused.id)
        for number, scenario in enumerate(found):
            _finished_run(db, finished, number, scenario, world)
        for number, scenario in enumerate(found[:9]):
            run = _run(running, number, scenario)
            db.add(run)
            db.flush()
            if number < 3:
                run.state = RunState.RUNNING
                run.started_at = now - timedelta(minutes=19)
                run.attempts = 1
                _epochs(db, run, np.random.default_rng(number), 14 + number, 0.8)
                world.live_run = world.live_run or run.id
        for number, scenario in enumerate(found[:4]):
            run = _run(paused, number, scenario)
            run.state = RunState.PAUSED if number else RunState.CANCELLED
            db.add(run)
    return world


def _run(sweep: Sweep, number: int, scenario: Scenario) -> TrainingRun:
    return TrainingRun(
        sweep_id=sweep.id,
        sequence=number,
        name=scenario.name,
        scenario=scenario.to_json(),
        scenario_digest=scenario.digest(),
        group_key=scenario.network,
        epochs_planned=scenario.epochs,
        code_version="0.9.0+abcdef0",
    )


def _finished_run(db: Any, sweep: Sweep, number: int, scenario: Scenario, world: TrainingWorld) -> None:
    rng = np.random.default_rng(number)
    run = _run(sweep, number, scenario)
    db.add(run)
    db.flush()
    run.started_at = sweep.started_at
    run.finished_at = sweep.finished_at
    run.attempts = 1
    if number == 5:
        run.state, run.failure_code, run.failure_detail = RunState.FAILED, "diverged", {"epoch": 3}
        _epochs(db, run, rng, 3, 0.5)
        world.failed_run = run.id
        return
    skill = 1.2 + 1.6 * rng.random() - 0.4 * (scenario.learning_rate == 0.0001)
    _epochs(db, run, rng, int(rng.integers(12, 50)), min(0.97, 0.7 + skill / 12))
    run.state = RunState.FINISHED
    run.images_per_s, run.peak_memory_bytes = 120.5 + number, 1_400_000_000 + number
    run.weights_sha256 = f"{number:064x}"
    if len(world.runs) < REPORTED:
        report, outcomes = _report(scenario, run, rng, skill)
        run.metrics = report["leaderboard"]
        run.facts = {"environment": report["environment"]}
        db.add(RunReport(run_id=run.id, report=report))
        if len(world.runs) < 2:
            made = _mistakes(db, run, outcomes, rng)
            world.mistake = world.mistake or made
        world.runs.append(run.id)
        return
    for part, shift in (("validation", 0.0), ("test", -0.01)):
        for name in ("accuracy", "macro_f1", "macro_roc_auc"):
            value = min(0.995, 0.72 + skill / 12 + shift + (0.03 if "auc" in name else 0))
            run.metrics = {**run.metrics, f"{part}.{name}": {"value": value, "low": value - 0.04, "high": value + 0.02}}


def _epochs(db: Any, run: TrainingRun, rng: np.random.Generator, count: int, reached: float) -> None:
    losses = []
    for epoch in range(count):
        share = 1 - np.exp(-epoch / 6)
        loss = 0.7 - 0.5 * share + 0.02 * rng.random()
        validation = 0.72 - 0.4 * share + 0.006 * max(0, epoch - 20) + 0.03 * rng.random()
        losses.append(validation)
        accuracy = 0.5 + (reached - 0.5) * share - 0.02 * rng.random()
        facts = {
            "loss": float(loss),
            "validation_loss": float(validation),
            "validation_accuracy": float(accuracy),
            "validation_balanced_accuracy": float(accuracy - 0.01),
            "images_per_s": 118.0 + float(rng.random()),
            "epoch_s": 11.2,
        }
        db.add(RunEpoch(run_id=run.id, epoch=epoch, facts=facts))
    run.epochs_done, run.wall_s = count, 11.2 * count
    run.best_epoch = int(np.argmin(losses)) if losses else None


def _report(
    scenario: Scenario, run: TrainingRun, rng: np.random.Generator, skill: float
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    names = scenario.class_names
    split = {label: {"slices": 300, "patients": 60} for label in names}
    record: dict[str, Any] = {
        "version": 1,
        "created_at": "2026-11-25T02:30:00Z",
        "code_version": "0.9.0+abcdef0",
        "scenario": scenario.to_json(),
        "scenario_digest": scenario.digest(),
        "weights_sha256": run.weights_sha256,
        "data": {
            "fingerprint": "ab" * 32,
            "split_rule": scenario.split_rule,
            "torn": {"patients": 0, "groups": 0, "identical_pairs": 0, "near_pairs": 0},
            "slices": 1829,
            "patients": 180,
            "planes": ["axial"],
            "sources": ["public"],
            "split": {"train": split, "validation": split, "test": split},
            "items": {label: {"pictures": 672, "static": 828} for label in names},
        },
        "leaks": {
            "groups": 171,
            "identical_pairs": 12,
            "near_pairs": 40,
            "cross_patient_pairs": 7,
            "cross_label_pairs": 1,
            "examples": {
                "identical": [_pair("1.jpg", "901.jpg", names[0], names[0], 1.0)],
                "near": [_pair("14.jpg", "15.jpg", names[1], names[1], 0.994)],
                "cross_patient": [],
                "cross_label": [_pair("77.jpg", "78.jpg", names[0], names[1], 0.991)],
            },
        },
        "training": {"epochs": run.epochs_done, "best_epoch": run.best_epoch, "best_loss": 0.31, "history": []},
        "cost": {"wall_s": run.wall_s},
        "environment": {"python": "3.11.2", "tensorflow": "2.21.0", "processor": "x86_64", "threads": 2},
        "calibration": {"temperature": 1.3, "bins": 15, "validation": None, "test": None},
        "validation": None,
        "test": None,
        "slices": {"validation": [], "test": []},
        "mistakes": {"validation": [], "test": []},
        "repeat": {
            "scenario_yaml": f"name: {scenario.name}\nnetwork: {scenario.network}\n",
            "command": f"python -m training run --scenario {scenario.name}.yaml --data DATA --weights-dir W --out OUT",
        },
    }
    for part in ("validation", "test"):
        # Slices and their truth are the same for every run; how well they are told apart is not.
        labels = np.repeat(np.arange(PATIENTS) % len(names), SLICES_EACH)
        groups = np.repeat(np.arange(PATIENTS), SLICES_EACH)
        scores = rng.normal(0, 1, (labels.size, len(names))).astype(np.float32)
        scores[np.arange(labels.size), labels] += skill
        probabilities = calibration.probabilities_of(scores, 1.3)
        patients = [f"{100360 + group}" for group in groups]
        record[part] = {
            "scored_at": "2026-11-25T02:30:00Z",
            **evaluate(
                probabilities, labels, groups.tolist(), ["axial"] * labels.size, names, patients, resamples=RESAMPLES
            ),
        }
        weights = draw(labels, groups, RESAMPLES, 1)
        record["calibration"][part] = calibration.report(scores, labels, weights, 1.3)
        record["slices"][part] = [
            {
                "file": f"images/{part}/{index}.jpg",
                "label": names[labels[index]],
                "prediction": names[int(row.argmax())],
                "probability": float(row.max()),
                "probabilities": row.tolist(),
                "scores": scores[index].tolist(),
                "patient": patients[index],
                "plane": "axial",
            }
            for index, row in enumerate(probabilities)
        ]
    record["leaderboard"] = _leaderboard(record)
    return record, record["slices"]


def _leaderboard(record: dict[str, Any]) -> dict[str, Any]:
    """As `training.report.leaderboard` makes it, which cannot be imported without TensorFlow."""
    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        facts = record[part]
        found |= {f"{part}.{name}": value for name, value in facts["metrics"].items()}
        for label, of_class in facts["classes"].items():
            found |= {f"{part}.{name}_{label}": of_class[name] for name in ("precision", "recall", "f1", "roc_auc")}
        found[f"{part}.patient_accuracy"] = facts["by_patient"]["accuracy"]
        found |= {f"{part}.{name}": record["calibration"][part][name] for name in ("ece_before", "ece_after")}
    return found


def _pair(first: str, second: str, label: str, other: str, correlation: float) -> dict[str, Any]:
    files = [f"images/{label}/{first}", f"images/{other}/{second}"]
    return {"files": files, "labels": [label, other], "same_patient": True, "correlation": correlation}


def _mistakes(
    db: Any, run: TrainingRun, outcomes: dict[str, list[dict[str, Any]]], rng: np.random.Generator
) -> uuid.UUID:
    made: list[RunMistake] = []
    for part, rows in outcomes.items():
        wrong = sorted(
            (row for row in rows if row["prediction"] != row["label"]), key=lambda row: -float(row["probability"])
        )
        for rank, row in enumerate(wrong[:6]):
            centre = (int(rng.integers(80, 144)), int(rng.integers(80, 144)))
            picture = np.zeros((224, 224), np.uint8)
            cv2.ellipse(picture, (112, 112), (80, 98), 0, 0, 360, 110, -1)
            cv2.circle(picture, centre, 18, 215, -1)
            y, x = np.mgrid[0:7, 0:7]
            heat = np.exp(-((x - centre[0] / 32) ** 2 + (y - centre[1] / 32) ** 2) / 2).clip(0, 1)
            made.append(
                RunMistake(
                    run_id=run.id,
                    part=part,
                    rank=rank,
                    facts={key: row[key] for key in ("file", "label", "prediction", "probability", "plane")},
                    picture_png=cv2.imencode(".png", cv2.GaussianBlur(picture, (0, 0), 4))[1].tobytes(),
                    heatmap_png=heatmaps.encode(heat),
                )
            )
    db.add_all(made)
    db.flush()
    return made[0].id
