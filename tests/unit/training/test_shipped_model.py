"""The model in `models/`: small enough, the promoted one, and its papers agree with it. Needs no TensorFlow."""

import csv
import json
from collections import defaultdict
from typing import Any

import pytest

from config.settings import ROOT
from inference import artefact
from inference.shipped import default_model
from training.scenario import Scenario
from training.scenario_files import load_scenario

MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def shipped() -> artefact.Artefact:
    model = default_model(MODELS)
    return artefact.load(model.path, model.digest)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MODELS / "neurosight.evaluation.json").read_text("utf-8"))
    return found


def test_it_is_at_most_thirty_megabytes() -> None:
    assert default_model(MODELS).path.stat().st_size <= 30_000_000


def test_its_numbers_are_of_these_bytes(shipped: artefact.Artefact, numbers: dict[str, Any]) -> None:
    assert numbers["digest"] == shipped.digest
    assert numbers["fingerprint"] == shipped.manifest.dataset_fingerprint
    assert numbers["test"] == shipped.manifest.metrics["test"]


def test_it_is_what_the_shipped_scenario_describes(shipped: artefact.Artefact, numbers: dict[str, Any]) -> None:
    scenario = load_scenario(ROOT / "config" / "scenarios" / "shipped.yaml")

    assert Scenario.from_record(numbers["scenario"]) == scenario
    assert shipped.manifest.class_names == scenario.class_names
    assert shipped.manifest.preprocessing == scenario.preprocessing
    assert shipped.manifest.network.name == scenario.network
    assert shipped.manifest.network.head == scenario.head


def test_the_card_is_the_same_everywhere(shipped: artefact.Artefact) -> None:
    assert (MODELS / "neurosight.card.md").read_text("utf-8") == shipped.model_card
    assert (ROOT / "docs" / "model-card.md").read_text("utf-8") == shipped.model_card


def test_the_card_says_the_measured_accuracy(shipped: artefact.Artefact, numbers: dict[str, Any]) -> None:
    accuracy = numbers["test"]["metrics"]["accuracy"]

    assert f"| accuracy | {accuracy['value']:.4f} | {accuracy['low']:.4f} – {accuracy['high']:.4f} |" in (
        shipped.model_card
    )


def test_no_patient_stands_on_two_sides_of_its_split(numbers: dict[str, Any]) -> None:
    sides = defaultdict(set)
    slices: dict[str, int] = defaultdict(int)
    with (MODELS / "neurosight.split.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sides[row["patient"]].add(row["split"])
            slices[row["split"]] += 1

    assert all(len(parts) == 1 for parts in sides.values())
    assert slices["test"] == numbers["test"]["slices"]


def test_the_test_part_was_scored_once_for_these_weights() -> None:
    lines = [json.loads(line) for line in (MODELS / "neurosight.test-log.jsonl").read_text("utf-8").splitlines()]

    assert len({line["weights_sha256"] for line in lines}) == 1
