"""The report of a finished run.

Owns: what is measured of a run, in which order, the one scoring of its test part, and the log of it. The layout is in
docs/run-report.md. Refuses: to choose: the checkpoint was chosen on the validation part before anything here happens.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from config.version import code_version
from imaging import heatmaps
from training import calibration
from training.balance import count_items, training_items
from training.datasets import Sample
from training.errors import RunError
from training.evaluation import RESAMPLES, evaluate
from training.pipeline import Material
from training.resampling import draw
from training.runs import RunResult
from training.scenario import Scenario
from training.scoring import Scorer, weights_digest

log = logging.getLogger(__name__)

VERSION: Final = 1
MAX_MISTAKES: Final = 24
COMMAND: Final = "python -m training run --scenario {name}.yaml --data DATA --weights-dir WEIGHTS --out OUT"

Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """A run's report.

    Attributes:
        record: JSON values, as docs/run-report.md says.
        pictures: PNG files by name: of each mistake the prepared slice and the heatmap.
    """

    record: dict[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def run_report(
    scenario: Scenario, material: Material, result: RunResult, out_dir: Path | None, *, test: bool = True
) -> Report:
    """Measure a run on the validation part and, once, on the test part.

    Args:
        scenario: The configuration.
        material: Data and split.
        result: The finished run.
        out_dir: Folder of `NAME.report.json`, `NAME.pictures/` and `NAME.test-log.jsonl`. When it holds the report of
            these very weights and data, with a scored test part, that is read and nothing is scored again. None:
            nothing is written; whoever stores the report sees to it that it is made once.
        test: Whether the test part is scored.

    Raises:
        RunError: The run was stopped before any checkpoint was chosen.
        DatasetError: Pictures cannot be read.
        NetworkError: The weights do not fit the network.
    """
    if not result.weights:
        raise RunError(f"{scenario.name} has no checkpoint yet; let it finish an epoch at the exported size first.")
    digest = weights_digest(result.weights)
    if out_dir is not None and (found := _existing(out_dir, scenario, material, digest)):
        return found
    scorer = Scorer(scenario, result.weights)
    validation = _Part("validation", scenario, material, scorer)
    temperature = calibration.fit_temperature(validation.scores, validation.labels)
    parts = [validation]
    if test:
        if out_dir is not None:
            _log_test(out_dir / f"{scenario.name}.test-log.jsonl", digest)
        log.info("scoring the test part of %s, weights %s", scenario.name, digest[:12])
        parts.append(_Part("test", scenario, material, scorer))
    mistakes = {part.name: part.mistakes(temperature) for part in parts}
    record: dict[str, Any] = {
        "version": VERSION,
        "created_at": _now(),
        "code_version": code_version(),
        "scenario": scenario.to_json(),
        "scenario_digest": scenario.digest(),
        "weights_sha256": digest,
        "data": _data(scenario, material),
        "leaks": material.leaks.to_json(),
        "training": {
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "best_loss": result.best_loss,
            "history": result.history,
        },
        "cost": _cost(result),
        "environment": result.facts.get("environment", {}),
        "calibration": {
            "temperature": temperature,
            "bins": calibration.BINS,
            "validation": None,
            "test": None,
            **{part.name: part.calibration(temperature) for part in parts},
        },
        "validation": None,
        "test": None,
        **{part.name: part.evaluation(temperature) for part in parts},
        "slices": {"validation": [], "test": [], **{part.name: part.outcomes(temperature) for part in parts}},
        "mistakes": {"validation": [], "test": [], **{name: found for name, (found, _) in mistakes.items()}},
        "repeat": {
            "scenario_yaml": yaml.safe_dump(scenario.to_json(), sort_keys=False),
            "command": COMMAND.format(name=scenario.name),
        },
    }
    record["leaderboard"] = leaderboard(record)
    report = Report(record, {name: png for _, pictures in mistakes.values() for name, png in pictures.items()})
    if out_dir is not None:
        write_report(out_dir, scenario.name, report)
    return report


def leaderboard(record: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The intervals of a report that tables show, by `PART.NAME`."""
    found: dict[str, dict[str, float | None]] = {}
    for part in ("validation", "test"):
        facts, calibrated = record[part], record["calibration"][part]
        if facts is None:
            continue
        found.update({f"{part}.{name}": value for name, value in facts["metrics"].items()})
        for label, of_class in facts["classes"].items():
            for measure in ("precision", "recall", "f1", "roc_auc", "pr_auc"):
                found[f"{part}.{measure}_{label}"] = of_class[measure]
        found[f"{part}.patient_accuracy"] = facts["by_patient"]["accuracy"]
        found[f"{part}.patient_roc_auc"] = facts["by_patient"]["macro_roc_auc"]
        found[f"{part}.ece_before"] = calibrated["ece_before"]
        found[f"{part}.ece_after"] = calibrated["ece_after"]
    return found


def split_counts(material: Material, class_names: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Slices and patients by part and class."""
    return {
        part: {
            label: {
                "slices": sum(s.label == label for s in material.of(part)),
                "patients": len({s.patient for s in material.of(part) if s.label == label}),
            }
            for label in class_names
        }
        for part in ("train", "validation", "test")
    }


def write_report(out_dir: Path, name: str, report: Report) -> None:
    """Write `NAME.report.json` and `NAME.pictures/`; the JSON last, so that it never stands without its pictures."""
    folder = out_dir / f"{name}.pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for file, png in report.pictures.items():
        (folder / file).write_bytes(png)
    temporary = out_dir / f"{name}.report.json.part"
    temporary.write_text(json.dumps(report.record, indent=1, allow_nan=False) + "\n", "utf-8")
    temporary.replace(out_dir / f"{name}.report.json")


class _Part:
    """One part of the split with its scores."""

    def __init__(self, name: str, scenario: Scenario, material: Material, scorer: Scorer) -> None:
        self.name = name
        self._scenario, self._material, self._scorer = scenario, material, scorer
        self.samples: tuple[Sample, ...] = material.of(name)
        rows = [row for row, part in enumerate(material.parts) if part == name]
        self._groups = material.leaks.groups[rows]
        self.labels: Int = np.array([scenario.class_names.index(s.label) for s in self.samples], np.int64)
        self.scores: Float32 = scorer.scores(material.dataset, self.samples)
        self._scored_at = _now()

    def evaluation(self, temperature: float) -> dict[str, Any]:
        """The metrics of this part."""
        found = evaluate(
            calibration.probabilities_of(self.scores, temperature),
            self.labels,
            self._groups.tolist(),
            [s.plane for s in self.samples],
            self._scenario.class_names,
            [s.patient for s in self.samples],
            seed=self._scenario.seed,
        )
        return {"scored_at": self._scored_at, **found}

    def calibration(self, temperature: float) -> dict[str, Any]:
        """Calibration error before and after, and the reliability diagrams."""
        weights = draw(self.labels, self._groups, RESAMPLES, self._scenario.seed)
        return calibration.report(self.scores, self.labels, weights, temperature)

    def outcomes(self, temperature: float) -> list[dict[str, Any]]:
        """What the network says of each slice."""
        names = self._scenario.class_names
        probabilities = calibration.probabilities_of(self.scores, temperature)
        return [
            {
                "file": sample.file,
                "label": sample.label,
                "prediction": names[int(row.argmax())],
                "probability": round(float(row.max()), 6),
                "probabilities": [round(float(value), 6) for value in row],
                "scores": [round(float(value), 6) for value in scores],
                "patient": sample.patient,
                "plane": sample.plane,
            }
            for sample, row, scores in zip(self.samples, probabilities, self.scores, strict=True)
        ]

    def mistakes(self, temperature: float) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
        """The wrong predictions with the highest probability, and their pictures."""
        outcomes = self.outcomes(temperature)
        wrong = [i for i, outcome in enumerate(outcomes) if outcome["prediction"] != outcome["label"]]
        wrong.sort(key=lambda i: (-outcomes[i]["probability"], outcomes[i]["file"]))
        wrong = wrong[:MAX_MISTAKES]
        found, pictures = [], {}
        explained = self._scorer.heatmaps(self._material.dataset, [self.samples[i] for i in wrong])
        for rank, (index, (_, prepared, heatmap)) in enumerate(zip(wrong, explained, strict=True)):
            stem = f"{self.name}-{rank:03d}"
            found.append(
                {
                    **outcomes[index],
                    "part": self.name,
                    "rank": rank,
                    "picture": f"{stem}-picture.png",
                    "heatmap": f"{stem}-heatmap.png",
                }
            )
            _, png = cv2.imencode(".png", np.rint(prepared.image * 255).astype(np.uint8))
            pictures[f"{stem}-picture.png"] = png.tobytes()
            pictures[f"{stem}-heatmap.png"] = heatmaps.encode(heatmap)
        return found, pictures


def _data(scenario: Scenario, material: Material) -> dict[str, Any]:
    samples, train = material.dataset.samples, material.of("train")
    return {
        "fingerprint": material.fingerprint,
        "split_rule": scenario.split_rule,
        "torn": material.leaks.torn(material.parts),
        "slices": len(samples),
        "patients": len({sample.patient for sample in samples}),
        "planes": sorted({sample.plane for sample in samples if sample.plane}),
        "sources": sorted({sample.source for sample in samples if sample.source}),
        "split": split_counts(material, scenario.class_names),
        "items": count_items(scenario, train, training_items(scenario, train)),
    }


def _cost(result: RunResult) -> dict[str, Any]:
    return {
        name: result.facts[name] for name in ("wall_s", "images_per_s", "peak_memory_bytes") if name in result.facts
    }


def _existing(out_dir: Path, scenario: Scenario, material: Material, digest: str) -> Report | None:
    """The report of these weights and data, if it was made before and has a scored test part."""
    path = out_dir / f"{scenario.name}.report.json"
    try:
        record = json.loads(path.read_text("utf-8"))
        same = (
            (record["version"], record["scenario_digest"], record["weights_sha256"])
            == (VERSION, scenario.digest(), digest)
            and record["data"]["fingerprint"] == material.fingerprint
            and record["test"] is not None
        )
        if not same:
            return None
        names = [m[kind] for part in record["mistakes"].values() for m in part for kind in ("picture", "heatmap")]
        return Report(record, {name: (out_dir / f"{scenario.name}.pictures" / name).read_bytes() for name in names})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_test(path: Path, digest: str) -> None:
    """Note that the test part is about to be scored, and with which weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test_scored_at": _now(), "weights_sha256": digest}) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
