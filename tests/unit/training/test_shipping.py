"""The whole command: from a folder to an artefact that the engine loads, its card and its numbers."""

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
