"""The whole command: from a folder to an artefact that the engine loads, its card and its numbers; then its guard."""

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("tensorflow")

from inference import artefact
from tests.unit.training.dataset_files import write_dataset
from tests.unit.training.tiny_run import SCENARIO
from training.__main__ import main

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after `python -m training run`."""
    root = tmp_path_factory.mktemp("shipping")
    write_dataset(root / "data")
    (root / "tiny.yaml").write_text(yaml.safe_dump(SCENARIO.to_json()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.shortcuts._TREES", 10)  # the number is looked at nowhere here
        assert main(command(root)) == 0
    return root


def command(root: Path, verb: str = "run") -> list[str]:
    paths = {"scenario": root / "tiny.yaml", "data": root / "data", "out": root / "out", "state-dir": root / "state"}
    return [verb, *(word for name, path in paths.items() for word in (f"--{name}", str(path)))]


def test_the_artefact_loads_and_says_what_it_is(folder: Path) -> None:
    found = artefact.load(folder / "out" / "tiny.neurosight")
    numbers = json.loads((folder / "out" / "tiny.evaluation.json").read_text())

    assert found.digest == numbers["digest"]
    assert found.manifest.class_names == SCENARIO.class_names
    assert found.manifest.preprocessing == SCENARIO.preprocessing
    assert found.manifest.planes == ("axial",)
    assert found.manifest.dataset_fingerprint == numbers["fingerprint"]
    assert found.manifest.temperature == numbers["calibration"]["temperature"]
    assert found.manifest.metrics["test"]["slices"] == numbers["test"]["slices"] == 6


def test_the_card_stands_in_the_artefact_and_names_what_matters(folder: Path) -> None:
    card = (folder / "out" / "tiny.card.md").read_text()

    assert artefact.load(folder / "out" / "tiny.neurosight").model_card == card
    for words in (
        "Research use only",
        "## Intended use",
        "## Results on held-back patients",
        "95 % interval",
        "## Calibration",
        "## The shortcut",
        "peak in box",
        "## Limits",
        "python -m training run --scenario",
        "learning_rate: 0.01",
    ):
        assert words in card, words


def test_every_scoring_of_the_test_part_is_logged(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "out" / "tiny.test-log.jsonl").read_text().splitlines()]

    assert len(lines) == 1
    assert set(lines[0]) == {"test_scored_at", "weights_sha256"}


def test_the_split_stands_beside_the_model(folder: Path) -> None:
    lines = (folder / "out" / "tiny.split.csv").read_text().splitlines()

    assert lines[0] == "file,patient,label,plane,split"
    assert len(lines) == 49


def test_fit_alone_does_not_touch_the_test_part(folder: Path, tmp_path: Path) -> None:
    words = command(folder, "fit")
    words[words.index("--out") + 1] = str(tmp_path)

    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.split.csv"]


def test_an_error_is_one_line_and_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path)) == 1
    assert "error: There is no scenario file" in capsys.readouterr().err


def test_a_leaking_split_file_stops_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "leaking" / "tiny.split.csv"
    path.parent.mkdir()
    lines = (folder / "out" / "tiny.split.csv").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.endswith(",train"))
    lines[place] = lines[place].removesuffix("train") + "test"
    path.write_text("\n".join(lines) + "\n")
    words = command(folder)
    words[words.index("--out") + 1] = str(path.parent)

    assert main(words) == 1
    assert "The split is not clean" in capsys.readouterr().err


def test_a_guard_and_the_truth_about_heatmaps_are_put_into_an_artefact(folder: Path, tmp_path: Path) -> None:
    source, split = folder / "out" / "tiny.neurosight", folder / "out" / "tiny.split.csv"
    guarded, told = tmp_path / "guarded.neurosight", tmp_path / "told.neurosight"
    common = ["--data", str(folder / "data"), "--split", str(split)]
    assert main(["guard", "--artefact", str(source), *common, "--out", str(guarded), "--test"]) == 0

    found = artefact.load(guarded)
    assert found.guard is not None
    record = found.guard.record
    assert record["validation"]["coverage"]["value"] >= 0.9
    assert [point["coverage"] for point in record["test"]["curve"]][:2] == [1.0, 0.99]
    assert set(record["development"]["kinds"]) >= {"noise", "text", "inverted", "sheet", "packages"}
    assert record["held_back"]["total"]["pictures"] > record["held_back"]["kinds"]["phantom"]["pictures"] > 0
    assert found.manifest.metrics["calibration"]["test"]["ece_after"]["high"] is not None
    plain = artefact.load(source)
    assert found.weights().keys() == plain.weights().keys()
    assert found.openvino_bin == plain.openvino_bin, "a guard changes no prediction"
    for title in ("When it does not answer", "Calibration", "Limits"):
        assert found.model_card.count(f"\n## {title}\n") == 1
    assert len((tmp_path / "guarded.test-log.jsonl").read_text().splitlines()) == 1

    out = tmp_path / "heatmaps"
    assert main(["faithfulness", "--artefact", str(guarded), *common, "--out", str(out), "--into", str(told)]) == 0
    measured = json.loads((out / "faithfulness.json").read_text())
    assert measured["part"] == "validation"
    assert {name.split(",")[0] for name in measured["pointing"]} == {
        *("served", "Grad-CAM", "Grad-CAM++", "HiResCAM", "Layer-CAM", "middle of the picture"),
    }
    grid = f"Grad-CAM, {found.manifest.grid[0]} x {found.manifest.grid[0]}"
    for key in ("peak_in_box", "energy_in_box"):
        own, served = (measured["pointing"][name][key] for name in (grid, "served"))
        assert own == pytest.approx(served, abs=1e-4), "closed form and gradient agree"
    assert measured["random_weights"].keys() == {"last layer", "head", "everything"}
    assert measured["repeatability"]["JPEG quality 90"]["likeness"] > measured["random_weights"]["everything"]
    assert len(measured["curves"]["random order"]["deletion"]) == 8
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in ("best", "worst"))
    again = artefact.load(told)
    assert again.guard is not None
    assert again.guard.record == found.guard.record
    assert again.manifest.metrics["faithfulness"]["slices"] == measured["slices"]
    assert again.model_card.count("\n## Where the heatmaps point\n") == 1
