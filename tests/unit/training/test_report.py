"""The report of a run: its layout, the one scoring of the test part, shared features, and what is shipped of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tensorflow")

from imaging import heatmaps
from imaging.preprocess import Preprocessing
from inference import artefact
from inference.networks import HeadSpec, build
from inference.predictor import open_predictor
from tests.unit.training.dataset_files import write_dataset
from tests.unit.training.tiny_run import SCENARIO
from training import scoring
from training.card import write_card
from training.datasets import Sample, read_grey
from training.errors import RunError
from training.pipeline import Material, gather
from training.report import Report, run_report
from training.runs import RunResult
from training.scenario import Scenario
from training.scenario_files import parse_scenarios
from training.scoring import Scorer
from training.shipping import check_images, ship_run

pytestmark = pytest.mark.tensorflow


def result_of(scenario: Scenario, seed: int = 1) -> RunResult:
    """A finished run whose network learnt nothing: random weights."""
    import keras

    keras.utils.set_random_seed(seed)
    network = build(scenario.network, scenario.preprocessing.size, scenario.class_names, scenario.head)
    rng = np.random.default_rng(seed)
    weights: dict[str, npt.NDArray[np.float32]] = {
        path: np.abs(value) + np.float32(0.1)
        if "variance" in path
        else value + rng.normal(0, 0.3, value.shape).astype(np.float32)
        for path, value in network.weights().items()
    }
    facts = {"wall_s": 3.0, "images_per_s": 9.0, "peak_memory_bytes": 5, "environment": {"cores": 2}, "other": 1}
    history = [{"loss": 0.7, "validation_loss": 0.6}] * 2
    return RunResult(scenario.name, weights, 1, 0.6, history, False, facts)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("data")
    return gather(SCENARIO, write_dataset(root / "set", patients=20), root / "tiny.split.csv")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def report(material: Material, out: Path) -> Report:
    return run_report(SCENARIO, material, result_of(SCENARIO), out)


@pytest.fixture(autouse=True)
def no_features_of_other_tests() -> Iterator[None]:
    scoring._features.clear()
    yield
    scoring._features.clear()


def test_the_record_has_the_layout_of_its_document(report: Report) -> None:
    record = report.record
    text = Path("docs/run-report.md").read_text("utf-8")

    for key in record:
        assert f"`{key}`" in text, key
    assert set(record["test"]) == {
        "scored_at",
        "slices",
        "patients",
        "metrics",
        "classes",
        "confusion",
        "planes",
        "by_patient",
        "curves",
    }
    assert set(record["slices"]["test"][0]) == {
        "file",
        "label",
        "prediction",
        "probability",
        "probabilities",
        "scores",
        "patient",
        "plane",
    }
    assert record["cost"] == {"wall_s": 3.0, "images_per_s": 9.0, "peak_memory_bytes": 5}
    assert record["environment"] == {"cores": 2}
    assert record["data"]["torn"] == {"patients": 0, "groups": 0, "identical_pairs": 0, "near_pairs": 0}
    assert record["data"]["items"]["glioma"] == {"pictures": 32, "static": 0}
    assert len(record["leaderboard"]) == 2 * (7 + 2 * 5 + 4)
    assert record["leaderboard"]["test.recall_glioma"] == record["test"]["classes"]["glioma"]["recall"]
    json.dumps(record, allow_nan=False)


def test_outcomes_and_metrics_are_of_the_same_scores(report: Report) -> None:
    for part in ("validation", "test"):
        outcomes = report.record["slices"][part]
        right = np.mean([outcome["prediction"] == outcome["label"] for outcome in outcomes])
        assert report.record[part]["metrics"]["accuracy"]["value"] == pytest.approx(right)
        assert len(outcomes) == report.record[part]["slices"] == 8


def test_the_scenario_can_be_trained_again_from_the_report(report: Report) -> None:
    repeat = report.record["repeat"]

    assert parse_scenarios(repeat["scenario_yaml"], "again.yaml", None).scenarios == (SCENARIO,)
    assert repeat["command"].startswith("python -m training run --scenario tiny.yaml --data DATA")


def test_mistakes_come_with_what_was_seen_and_where_it_was_looked_at(report: Report, material: Material) -> None:
    found = [mistake for part in report.record["mistakes"].values() for mistake in part]

    assert found
    for part in report.record["mistakes"].values():
        assert [m["rank"] for m in part] == list(range(len(part)))
        assert sorted((m["probability"] for m in part), reverse=True) == [m["probability"] for m in part]
    for mistake in found:
        assert mistake["prediction"] != mistake["label"]
        picture = cv2.imdecode(np.frombuffer(report.pictures[mistake["picture"]], np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.shape == (48, 48)
        assert heatmaps.decode(report.pictures[mistake["heatmap"]]).shape == (6, 6)


def test_the_test_part_is_scored_once(report: Report, material: Material, out: Path) -> None:
    again = run_report(SCENARIO, material, result_of(SCENARIO), out)
    lines = (out / "tiny.test-log.jsonl").read_text().splitlines()

    assert again.record == json.loads(json.dumps(report.record))
    assert again.pictures == report.pictures
    assert [json.loads(line)["weights_sha256"] for line in lines] == [report.record["weights_sha256"]]


@pytest.mark.usefixtures("report")
def test_other_weights_are_another_report(material: Material, out: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.report.json").write_bytes((out / "tiny.report.json").read_bytes())
    other = run_report(SCENARIO, material, result_of(SCENARIO, seed=2), tmp_path)

    assert other.record["weights_sha256"] != json.loads((out / "tiny.report.json").read_text())["weights_sha256"]
    assert len((tmp_path / "tiny.test-log.jsonl").read_text().splitlines()) == 1


def test_the_test_part_can_be_left_alone(material: Material, tmp_path: Path) -> None:
    record = run_report(SCENARIO, material, result_of(SCENARIO), tmp_path, test=False).record

    assert record["test"] is None
    assert record["slices"]["test"] == record["mistakes"]["test"] == []
    assert record["calibration"]["test"] is None
    assert not any(name.startswith("test.") for name in record["leaderboard"])
    assert not (tmp_path / "tiny.test-log.jsonl").exists()


def test_a_split_of_images_is_marked_with_what_it_tears(material: Material, tmp_path: Path) -> None:
    scenario = replace(SCENARIO, split_rule="image")
    leaking = gather(scenario, material.dataset.root, tmp_path / "split.csv")
    record = run_report(scenario, leaking, result_of(scenario), None, test=False).record

    assert record["data"]["split_rule"] == "image"
    assert record["data"]["torn"]["patients"] > 0


def test_runs_with_one_backbone_share_its_forward_pass(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    result = result_of(SCENARIO)
    samples = material.of("validation")
    first = Scorer(SCENARIO, result.weights).scores(material.dataset, samples)
    other_head = {path: value * (2 if path.startswith("head_scores") else 1) for path, value in result.weights.items()}
    monkeypatch.setattr(scoring, "read_each", None)  # no picture may be read again

    assert np.allclose(Scorer(SCENARIO, other_head).scores(material.dataset, samples), 2 * first, atol=1e-5)
    other_backbone = {path: value * 1.5 if path.startswith("conv") else value for path, value in result.weights.items()}
    with pytest.raises(TypeError, match="not callable"):
        Scorer(SCENARIO, other_backbone).scores(material.dataset, samples)


def test_a_run_becomes_an_artefact_that_says_the_same(material: Material, tmp_path: Path) -> None:
    scenario = replace(
        SCENARIO,
        phases=(replace(SCENARIO.phases[-1], size=40),),
        preprocessing=Preprocessing(size=40),
        head=HeadSpec(units=4, activation="sigmoid"),
    )
    result = result_of(scenario)
    record = run_report(scenario, material, result, None).record
    images = check_images(scenario, material.dataset, record)
    path = tmp_path / "run.neurosight"
    digest = ship_run(path, scenario, result.weights, record, images)
    found = artefact.load(path, digest)

    assert found.manifest.network.head.activation == "sigmoid"
    assert found.manifest.metrics["test"]["metrics"] == record["test"]["metrics"]
    assert "rows" not in found.manifest.metrics["test"]["by_patient"]
    assert "glioma-" not in json.dumps(found.manifest.metrics)  # no patient
    assert "Research use only" in found.model_card
    with open_predictor(path, digest, threads=1) as predictor:
        outcomes = record["slices"]["test"]
        pictures = [read_grey(material.dataset.root / o["file"]).astype(np.float32) / 255 for o in outcomes]
        for outcome, prediction in zip(outcomes, predictor.predict(pictures), strict=True):
            assert list(prediction.probabilities.values()) == pytest.approx(outcome["probabilities"], abs=2e-3)


def test_the_card_warns_of_a_leaking_split_and_names_what_was_frozen(material: Material, tmp_path: Path) -> None:
    scenario = replace(SCENARIO, split_rule="image", learns="head", mixup_rate=0, phases=SCENARIO.phases[1:])
    leaking = gather(scenario, material.dataset.root, tmp_path / "split.csv")
    record = run_report(scenario, leaking, result_of(scenario), None, test=False).record
    card = write_card(scenario, record, {})

    assert "The numbers below flatter" in card
    assert "only the head was trained" in card
    assert "The test part was not scored" in card
    assert "The test part was scored after" not in card
    assert "heatmaps point" not in card  # that was not measured


def test_a_run_without_a_checkpoint_has_no_report(material: Material) -> None:
    with pytest.raises(RunError, match="tiny has no checkpoint yet"):
        run_report(SCENARIO, material, replace(result_of(SCENARIO), weights={}), None)


def test_pictures_that_vanish_are_named(material: Material) -> None:
    lost = Sample("images/lost.png", "glioma", "p")
    with pytest.raises(OSError, match=r"lost\.png"):
        Scorer(SCENARIO, result_of(SCENARIO).weights).scores(material.dataset, [lost])
