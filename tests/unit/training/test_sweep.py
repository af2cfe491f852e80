"""The sweep command: every run its report, one leaderboard, going on where it stopped; one failing run fails alone."""

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from tests.unit.training.dataset_files import write_dataset
from training.__main__ import main

pytestmark = pytest.mark.tensorflow

FILE = """
name: pair
network: tiny
weights: none
class_names: [glioma, no_tumor]
sampling: all
learns: head
mixup_rate: 0
ema_decay: 0
head: {units: 8}
preprocessing: {size: 48}
cache_size: 64
phases: [{size: 48, epochs: 2}]
batch: 8
grid: {optimizer: [adam, sgd]}
"""


def sweep(folder: Path, *more: str) -> int:
    places = {"data": "set", "out": "out", "state-dir": "states", "cache-dir": "features"}
    arguments = [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    return main(["sweep", "--scenarios", str(folder / "pair.yaml"), *arguments, *more])


def board(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    write_dataset(root / "set")
    (root / "pair.yaml").write_text(FILE)
    assert sweep(root, "--only", "pair-sgd") == 0
    return root


def test_a_sweep_goes_on_with_what_is_not_done(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = board(folder)
    log = (folder / "out" / "pair-sgd.log.jsonl").read_text()
    assert sweep(folder) == 0

    assert [row["name"] for row in first] == ["pair-sgd"]
    rows = board(folder)
    assert {row["name"]: row["state"] for row in rows} == {"pair-adam": "finished", "pair-sgd": "finished"}
    assert float(rows[0]["validation_loss"]) <= float(rows[1]["validation_loss"])
    assert next(row for row in rows if row["name"] == "pair-sgd") == first[0]
    again = (folder / "out" / "pair-sgd.log.jsonl").read_text().removeprefix(log)
    assert "epoch_finished" not in again
    # The test part of the first run was scored once, not again with the second command.
    assert len((folder / "out" / "pair-sgd.test-log.jsonl").read_text().splitlines()) == 1


def test_every_run_has_its_report_and_facts(folder: Path) -> None:
    record = json.loads((folder / "out" / "pair-sgd.report.json").read_text())

    assert record["test"]["slices"] > 0
    assert record["cost"]["peak_memory_bytes"] > 1e7
    assert record["environment"]["packages"]["keras"]
    assert len(record["training"]["history"]) == 2


def test_a_failing_run_stands_in_the_leaderboard_and_in_the_exit_status(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set").symlink_to(folder / "set")
    (tmp_path / "pair.yaml").write_text(FILE.replace("weights: none", "weights: imagenet"))

    assert sweep(tmp_path) == 1
    assert {row["state"] for row in board(tmp_path)} == {"weights_missing"}
    assert "name their folder (--weights-dir)" in board(tmp_path)[0]["detail"]


def test_an_unknown_name_says_which_there_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "--only", "pair-adamw") == 1
    assert "no scenario 'pair-adamw'; it has pair-adam, pair-sgd" in capsys.readouterr().err
