"""A run learns, goes on after a stop as if nothing had happened, and chooses on the validation part alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.unit.training.dataset_files import write_dataset
from tests.unit.training.recorders import Silent
from tests.unit.training.tiny_run import SCENARIO
from training.augment import Augmentation
from training.errors import RunError
from training.groups import fit
from training.pipeline import Material, gather
from training.recorder import JsonLinesRecorder, Recorder
from training.runs import RunResult, validation_facts
from training.scenario import Phase
from training.state import load_state

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("data")
    return gather(SCENARIO, write_dataset(root / "set"), root / "tiny.split.csv")


@pytest.fixture(scope="module")
def whole_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the one whole run that several tests look at: its state and its log."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(material: Material, whole_path: Path) -> RunResult:
    recorder: Recorder = JsonLinesRecorder(whole_path / "log" / "run.jsonl", "tiny")
    return fit(SCENARIO, material, whole_path, recorder, None, whole_path / "features")


def test_an_interrupted_run_equals_an_uninterrupted_one(material: Material, whole: RunResult, tmp_path: Path) -> None:
    # Two steps an epoch: the fifth step stands in the middle of the third epoch.
    stopped = fit(SCENARIO, material, tmp_path, Silent(stop_after=5), None, tmp_path / "features")
    recorder = Silent()
    resumed = fit(SCENARIO, material, tmp_path, recorder, None, tmp_path / "features")

    assert stopped.stopped
    assert recorder.first_epoch == 2
    assert recorder.epochs == [2, 3]
    assert resumed.best_epoch == whole.best_epoch
    for path, value in whole.weights.items():
        assert np.allclose(resumed.weights[path], value, atol=1e-5), path


def test_a_finished_run_is_read_not_repeated(material: Material, whole: RunResult, whole_path: Path) -> None:
    recorder = Silent()
    again = fit(SCENARIO, material, whole_path, recorder, None, whole_path / "features")

    assert recorder.epochs == []
    assert again.best_loss == whole.best_loss
    assert all(np.array_equal(again.weights[path], value) for path, value in whole.weights.items())


def test_only_the_exported_size_competes(whole: RunResult) -> None:
    competing = [facts["validation_loss"] for facts in whole.history[1:]]

    assert whole.best_epoch >= 1
    assert whole.best_loss == min(competing)


def test_it_learns(material: Material, tmp_path: Path) -> None:
    scenario = replace(
        SCENARIO,
        phases=(Phase(48, 8),),
        samples_per_epoch={"glioma": 64, "no_tumor": 64},
        mixup_rate=0.0,
        augmentation=Augmentation(erase_rate=0, noise_rate=0, degrade_rate=0, blur_rate=0),
    )
    result = fit(scenario, material, tmp_path, Silent(), None, tmp_path / "features")

    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
    assert result.best_loss < 0.6  # chance is 0.69


def test_early_stopping(material: Material, tmp_path: Path) -> None:
    scenario = replace(SCENARIO, phases=(Phase(48, 30),), learning_rate=1e-9, patience_epochs=2, ema_decay=0.0)
    result = fit(scenario, material, tmp_path, Silent(), None, tmp_path / "features")

    assert len(result.history) < 30


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_every_optimiser_runs(material: Material, tmp_path: Path, optimizer: str) -> None:
    scenario = replace(SCENARIO, phases=(Phase(48, 1),), optimizer=optimizer)  # type: ignore[arg-type]

    assert np.isfinite(fit(scenario, material, tmp_path, Silent(), None, tmp_path / "features").history[0]["loss"])


def test_a_sigmoid_head_trains(material: Material, tmp_path: Path) -> None:
    head = replace(SCENARIO.head, activation="sigmoid")
    result = fit(replace(SCENARIO, head=head), material, tmp_path, Silent(), None, tmp_path / "features")

    assert result.weights["head_scores/kernel"].shape == (8, 1)


@pytest.mark.usefixtures("whole")
def test_the_state_of_another_run_is_refused(material: Material, whole_path: Path) -> None:
    with pytest.raises(RunError, match="is the state of another run"):
        fit(replace(SCENARIO, seed=1), material, whole_path, Silent(), None, whole_path / "features")
    with pytest.raises(RunError, match="is the state of another run"):
        load_state(whole_path / "tiny.state.npz", SCENARIO.digest(), "other data")


def test_a_diverging_loss_stops_the_run(material: Material, tmp_path: Path) -> None:
    # A decay of rate x 0.99 a step turns the weights over and multiplies them, until they overflow.
    wild = replace(
        SCENARIO,
        learning_rate=9.9,
        weight_decay=0.99,
        warm_up_epochs=0,
        phases=(Phase(48, 1),),
        samples_per_epoch={"glioma": 400, "no_tumor": 400},
    )
    with pytest.raises(RunError, match=r"The loss is .*must be finite. Lower learning_rate"):
        fit(wild, material, tmp_path, Silent(), None, tmp_path / "features")


def test_a_run_stopped_before_any_choice_has_no_weights(material: Material, tmp_path: Path) -> None:
    result = fit(SCENARIO, material, tmp_path, Silent(stop_after=2), None, tmp_path / "features")

    assert (result.stopped, result.best_epoch, result.weights) == (True, -1, {})


def test_imagenet_without_a_folder_says_so(material: Material, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name their folder"):
        fit(replace(SCENARIO, weights="imagenet"), material, tmp_path, Silent(), None, tmp_path / "features")


def test_classes_weigh_alike_in_the_validation_loss() -> None:
    scores = np.array([[10, 0], [10, 0], [10, 0], [0, 0]], np.float32)
    facts = validation_facts(scores, np.array([0, 0, 0, 1]), 2)

    assert facts["validation_loss"] == pytest.approx(np.log(2) / 2, abs=1e-3)
    assert facts["validation_accuracy"] == 0.75
    assert facts["validation_balanced_accuracy"] == 0.5


@pytest.mark.usefixtures("whole")
def test_progress_is_written_line_by_line(whole_path: Path) -> None:
    lines = (whole_path / "log" / "run.jsonl").read_text().splitlines()[:6]

    assert ['"started"' in lines[0], '"finished"' in lines[-1], len(lines)] == [True, True, 6]
