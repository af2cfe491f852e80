"""From a finished run to an artefact: calibrate, score the test part, measure, write the card, export.

Owns: the order of these steps and the log of every time the test part was scored. Refuses: to choose: the checkpoint
was chosen on the validation part before anything here happens.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.version import code_version
from imaging.preprocess import prepare
from inference.export import ModelFacts, export
from inference.gradcam import explained_model
from inference.networks import Network, build
from training import calibration, localisation
from training.card import write_card
from training.datasets import Sample, read_grey
from training.evaluation import evaluate
from training.pipeline import Material
from training.runs import RunResult
from training.scenario import Scenario
from training.shortcuts import probe_sources

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]


def ship(scenario: Scenario, material: Material, result: RunResult, out: Path) -> str:
    """Evaluate once on the test part and write artefact, card and numbers.

    Args:
        scenario: The configuration.
        material: Data and split.
        result: The finished run.
        out: Folder of the results: `<name>.neurosight`, `<name>.card.md`, `<name>.evaluation.json`,
            `<name>.test-log.jsonl`.

    Returns:
        The artefact's digest.
    """
    network = build(scenario.network, scenario.preprocessing.size, scenario.class_names, scenario.head)
    network.set_weights(result.weights)
    created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    validation = _Scored(scenario, material, network, "validation", temperature=1.0)
    temperature = calibration.fit_temperature(validation.scores, validation.labels)
    log.info("temperature %.4f", temperature)
    _log_test(out / f"{scenario.name}.test-log.jsonl", result, created_at)
    test = _Scored(scenario, material, network, "test", temperature)
    facts: dict[str, Any] = {
        "split": split_counts(material, scenario.class_names),
        "leaks": material.leaks.to_json(),
        "validation": validation.evaluation(temperature),
        "test": test.evaluation(temperature),
        "calibration": {
            "temperature": temperature,
            "validation": validation.calibration(temperature),
            "test": test.calibration(temperature),
        },
        "shortcuts": _probe(scenario, material),
        "localisation": test.localisation(),
        "run": {"best_epoch": result.best_epoch, "best_loss": result.best_loss, "history": result.history},
        "sources": sorted({sample.source for sample in material.dataset.samples if sample.source}),
        "fingerprint": material.fingerprint,
        "created_at": created_at,
        "code_version": code_version(),
        "command": (
            "python -m training run --scenario config/scenarios/shipped.yaml "
            "--data DATA --weights-dir WEIGHTS --out models"
        ),
    }
    card = write_card(scenario, facts)
    model = ModelFacts(
        preprocessing=scenario.preprocessing,
        temperature=temperature,
        planes=tuple(sorted({sample.plane for sample in material.of("train") if sample.plane})),
        metrics={
            "test": facts["test"],
            "validation": facts["validation"],
            "calibration": facts["calibration"],
            "shortcuts": facts["shortcuts"],
            "localisation": facts["localisation"],
        },
        dataset_fingerprint=material.fingerprint,
        code_version=facts["code_version"],
        created_at=created_at,
        model_card=card,
    )
    digest = export(out / f"{scenario.name}.neurosight", network, model, validation.images[:32])
    (out / f"{scenario.name}.card.md").write_text(card, "utf-8")
    record = {**facts, "scenario": scenario.to_json(), "digest": digest}
    (out / f"{scenario.name}.evaluation.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", "utf-8")
    log.info("wrote %s.neurosight, sha256 %s", scenario.name, digest)
    return digest


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


class _Scored:
    """One part of the split, prepared exactly as in use, with scores and heatmaps."""

    def __init__(self, scenario: Scenario, material: Material, network: Network, part: str, temperature: float) -> None:
        self._scenario, self._material = scenario, material
        self.samples: tuple[Sample, ...] = material.of(part)
        self.labels = np.array([scenario.class_names.index(s.label) for s in self.samples], np.int64)
        pictures = [read_grey(material.dataset.root / s.file).astype(np.float32) / 255 for s in self.samples]
        prepared = [prepare(picture, scenario.preprocessing) for picture in pictures]
        self._shapes = [picture.shape for picture in pictures]
        self._crops = [p.box for p in prepared]
        self.images: Float32 = np.stack([p.image for p in prepared])[..., None]
        model = explained_model(network, temperature)
        outputs = [model(self.images[i : i + 32], training=False) for i in range(0, len(self.images), 32)]
        self.scores: Float32 = np.concatenate([np.asarray(o["scores"]) for o in outputs])
        self._heatmaps: Float32 = np.concatenate([np.asarray(o["heatmaps"]) for o in outputs])

    def evaluation(self, temperature: float) -> dict[str, Any]:
        """The metrics of this part."""
        return evaluate(
            calibration.probabilities_of(self.scores, temperature),
            self.labels,
            [s.patient for s in self.samples],
            [s.plane for s in self.samples],
            self._scenario.class_names,
            seed=self._scenario.seed,
        )

    def calibration(self, temperature: float) -> dict[str, Any]:
        """Calibration error before and after, and the reliability diagram after."""
        before = calibration.probabilities_of(self.scores)
        after = calibration.probabilities_of(self.scores, temperature)
        return {
            "ece_before": calibration.expected_calibration_error(before, self.labels),
            "ece_after": calibration.expected_calibration_error(after, self.labels),
            "reliability": [asdict(b) for b in calibration.reliability(after, self.labels)],
        }

    def localisation(self) -> dict[str, Any]:
        """Where the heatmaps of rightly classified slices point, by class."""
        boxes = localisation.read_boxes(self._material.dataset.root)
        right = calibration.probabilities_of(self.scores).argmax(axis=1) == self.labels
        found: dict[str, list[tuple[bool, float, float, float]]] = {}
        for i, sample in enumerate(self.samples):
            if right[i] and sample.file in boxes:
                box = localisation.box_in_crop(boxes[sample.file], self._shapes[i], self._crops[i])
                found.setdefault(sample.label, []).append(localisation.pointing(self._heatmaps[i], box))
        return {label: localisation.summarise(items) for label, items in sorted(found.items())}


def _probe(scenario: Scenario, material: Material) -> dict[str, dict[str, float]]:
    """The shortcut probe on everything but the test part."""
    rows = [i for i, part in enumerate(material.parts) if part != "test"]
    groups = [int(material.leaks.groups[i]) for i in rows]
    return probe_sources(material.dataset, rows, groups, scenario.preprocessing, seed=scenario.seed)


def _log_test(path: Path, result: RunResult, created_at: str) -> None:
    """Note that the test part is about to be scored, and with which weights."""
    digest = hashlib.sha256()
    for name in sorted(result.weights):
        digest.update(name.encode() + np.ascontiguousarray(result.weights[name]).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test_scored_at": created_at, "weights_sha256": digest.hexdigest()}) + "\n")
