"""From a finished run to an artefact with its card.

Owns: what of a report goes into an artefact and its card, and the further measurements of a model that is shipped (the
shortcut probe, where heatmaps point). Refuses: to choose and to score: it is given a report.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.export import ModelFacts, export
from training import localisation
from training.card import write_card
from training.datasets import Dataset, read_grey
from training.pipeline import Material
from training.report import run_report
from training.runs import RunResult
from training.scenario import Scenario
from training.scoring import Scorer, prepared_blocks, smooth_pictures
from training.shortcuts import probe_sources

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]

CHECKED: Final = 32
"""Slices on which the exported graph is compared with the network."""
NEGATIVE: Final = "no_tumor"


def ship(scenario: Scenario, material: Material, result: RunResult, out: Path) -> str:
    """Evaluate, once on the test part, and write artefact, card and numbers.

    Args:
        scenario: The configuration.
        material: Data and split.
        result: The finished run.
        out: Folder of the results: those of `run_report`, `<name>.neurosight`, `<name>.card.md` and
            `<name>.evaluation.json`.

    Returns:
        The artefact's digest.
    """
    record = run_report(scenario, material, result, out).record
    extras = {
        "shortcuts": _probe(scenario, material),
        "localisation": _localisation(scenario, material, result, record),
    }
    path = out / f"{scenario.name}.neurosight"
    images = check_images(scenario, material.dataset, record)
    digest = ship_run(path, scenario, result.weights, record, images, extras)
    facts = artefact_metrics(record, extras)
    kept = {key: record[key] for key in ("scenario", "data", "leaks", "training", "created_at", "code_version")}
    text = json.dumps(
        {**facts, **kept, "fingerprint": record["data"]["fingerprint"], "digest": digest}, indent=1, sort_keys=True
    )
    (out / f"{scenario.name}.evaluation.json").write_text(text + "\n", "utf-8")
    (out / f"{scenario.name}.card.md").write_text(write_card(scenario, record, extras), "utf-8")
    log.info("wrote %s.neurosight, sha256 %s", scenario.name, digest)
    return digest


def ship_run(
    path: Path,
    scenario: Scenario,
    weights: dict[str, npt.NDArray[Any]],
    record: Mapping[str, Any],
    images: Float32 | None = None,
    extras: Mapping[str, Any] | None = None,
) -> str:
    """Write a run's artefact; its card stands in it.

    Args:
        path: Ends in `.neurosight`.
        scenario: The run's configuration.
        weights: Its best weights, by Keras path.
        record: Its report, with a scored test part or without.
        images: A few prepared slices, float32 (n, S, S, 1) in [0, 1], n >= 1 (`check_images`, or the pictures of its
            mistakes divided by 255): on them the exported graph is compared with the network. None: on smooth random
            pictures, where the data are not at hand.
        extras: Further measurements, `shortcuts` and `localisation`.

    Returns:
        The artefact's digest.

    Raises:
        NetworkError: The weights do not fit the scenario's network.
        ExportError: The exported graph disagrees with the network.
        ArtefactError: A fact breaks the manifest's rules.
    """
    extras = extras or {}
    facts = ModelFacts(
        preprocessing=scenario.preprocessing,
        temperature=record["calibration"]["temperature"],
        planes=tuple(record["data"]["planes"]),
        metrics=artefact_metrics(record, extras),
        dataset_fingerprint=record["data"]["fingerprint"],
        code_version=record["code_version"],
        created_at=record["created_at"],
        model_card=write_card(scenario, record, extras),
    )
    shown = smooth_pictures(scenario.preprocessing.size) if images is None else images
    return export(path, Scorer(scenario, weights).network, facts, shown)


def artefact_metrics(record: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report an artefact carries: numbers, but no file and no patient."""

    def part(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if facts is None:
            return None
        people = {key: value for key, value in facts["by_patient"].items() if key != "rows"}
        return {**{key: value for key, value in facts.items() if key != "curves"}, "by_patient": people}

    return {
        "validation": part(record["validation"]),
        "test": part(record["test"]),
        "calibration": record["calibration"],
        "split_rule": record["data"]["split_rule"],
        "torn": record["data"]["torn"],
        **extras,
    }


def check_images(scenario: Scenario, dataset: Dataset, record: Mapping[str, Any]) -> Float32:
    """Prepared slices of the validation part, float32 (n, S, S, 1), n up to 32, for `ship_run`."""
    files = {outcome["file"] for outcome in record["slices"]["validation"][:CHECKED]}
    samples = [sample for sample in dataset.samples if sample.file in files]
    blocks = prepared_blocks(scenario.preprocessing, dataset, samples)
    return np.concatenate([np.stack([p.image for p in prepared])[..., None] for _, prepared in blocks])


def _probe(scenario: Scenario, material: Material) -> dict[str, dict[str, float]]:
    """The shortcut probe on everything but the test part; empty without slices of no tumour."""
    if NEGATIVE not in scenario.class_names:
        return {}
    rows = [i for i, part in enumerate(material.parts) if part != "test"]
    groups = [int(material.leaks.groups[i]) for i in rows]
    return probe_sources(material.dataset, rows, groups, scenario.preprocessing, NEGATIVE, seed=scenario.seed)


def _localisation(
    scenario: Scenario, material: Material, result: RunResult, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Where the heatmaps of rightly classified test slices point, by class; empty without tumour boxes."""
    boxes = localisation.read_boxes(material.dataset.root)
    right = {outcome["file"] for outcome in record["slices"]["test"] if outcome["prediction"] == outcome["label"]}
    samples = [sample for sample in material.of("test") if sample.file in right and sample.file in boxes]
    found: dict[str, list[tuple[bool, float, float, float]]] = {}
    scorer = Scorer(scenario, result.weights)
    for sample, prepared, heatmap in scorer.heatmaps(material.dataset, samples):
        height, width = read_grey(material.dataset.root / sample.file).shape
        box = localisation.box_in_crop(boxes[sample.file], (height, width), prepared.box)
        found.setdefault(sample.label, []).append(localisation.pointing(heatmap, box))
    return {label: localisation.summarise(items) for label, items in sorted(found.items())}
