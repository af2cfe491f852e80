"""The leaderboard orders by validation first; pairs of runs are counted slice by slice."""

import uuid
from typing import Any

import pytest

from db.queries import leaderboard
from db.queries.paired_runs import exact_p, paired
from db.states import RunState
from db.sweeps import TrainingRun
from training import comparison


def run(sequence: int, state: RunState = RunState.FINISHED, lr: float = 0.01, **metrics: float) -> TrainingRun:
    return TrainingRun(
        id=uuid.UUID(int=sequence),
        sequence=sequence,
        name=f"run-{sequence}",
        state=state,
        scenario={"name": f"run-{sequence}", "network": "vgg19", "optimizer": "adam", "learning_rate": lr, "head": {}},
        metrics={name.replace("__", "."): {"value": v, "low": v - 0.1, "high": v + 0.1} for name, v in metrics.items()},
    )


def test_validation_leads_although_the_test_part_says_otherwise() -> None:
    lucky = run(0, validation__macro_f1=0.90, test__macro_f1=0.99)
    better = run(1, validation__macro_f1=0.95, test__macro_f1=0.93)
    runs = [lucky, better]
    metric = leaderboard.first_choice(runs)
    assert metric == "validation.macro_f1"
    assert [entry.run.name for entry in leaderboard.ranked(runs, metric)] == ["run-1", "run-0"]


def test_runs_without_the_number_come_last_in_their_own_order() -> None:
    runs = [run(0, RunState.FAILED), run(1, RunState.RUNNING), run(2, validation__accuracy=0.8)]
    entries = leaderboard.ranked(runs, "validation.accuracy")
    assert [(entry.place, entry.run.sequence) for entry in entries] == [(1, 2), (None, 0), (None, 1)]


def test_equal_numbers_share_a_place() -> None:
    runs = [run(0, validation__accuracy=0.9), run(1, validation__accuracy=0.9), run(2, validation__accuracy=0.8)]
    assert [entry.place for entry in leaderboard.ranked(runs, "validation.accuracy")] == [1, 1, 3]


def test_a_smaller_calibration_error_is_the_better_one() -> None:
    runs = [run(0, validation__ece_after=0.05), run(1, validation__ece_after=0.02)]
    assert [entry.run.sequence for entry in leaderboard.ranked(runs, "validation.ece_after")] == [1, 0]


def test_filters_and_fields_that_differ() -> None:
    runs = [run(0, lr=0.01), run(1, RunState.FAILED, lr=0.001)]
    runs[0].scenario = {**runs[0].scenario, "head": {"units": 64}}
    runs[1].scenario = {**runs[1].scenario, "head": {"units": 128}}
    entries = leaderboard.ranked(runs, "validation.accuracy", state="failed")
    assert [entry.run.sequence for entry in entries] == [1]
    assert entries[0].changed == {"head.units": 128}  # the learning rate has a column of its own
    assert leaderboard.ranked(runs, "validation.accuracy", network="xception") == []


def test_metrics_are_named_validation_first() -> None:
    runs = [run(0, test__accuracy=0.9, validation__recall_glioma=0.8, validation__accuracy=0.9)]
    assert leaderboard.metric_names(runs) == ["validation.accuracy", "test.accuracy", "validation.recall_glioma"]


def outcome(file: str, prediction: str, label: str = "glioma") -> dict[str, Any]:
    return {"file": file, "label": label, "prediction": prediction}


def test_pairs_are_counted_over_the_slices_that_both_scored() -> None:
    first = [outcome("a", "glioma"), outcome("b", "glioma"), outcome("c", "x"), outcome("d", "x"), outcome("e", "x")]
    second = [outcome("a", "glioma"), outcome("b", "x"), outcome("c", "glioma"), outcome("d", "x")]
    second.append(outcome("f", "glioma"))
    found = paired(first, second)
    assert found is not None
    assert (found.slices, found.both_right, found.only_first, found.only_second, found.both_wrong) == (4, 1, 1, 1, 1)
    assert found.p == 1.0
    assert paired(first, [outcome("z", "x")]) is None


def test_a_slice_with_two_labels_is_left_out_and_counted() -> None:
    found = paired([outcome("a", "x"), outcome("b", "x")], [outcome("a", "x", "x"), outcome("b", "x")])
    assert found is not None
    assert (found.slices, found.other_label) == (1, 1)


def test_the_exact_p_by_hand_and_as_training_computes_it() -> None:
    assert exact_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert exact_p(0, 0) == 1.0
    for one in range(0, 40, 3):
        for other in range(0, 40, 7):
            assert exact_p(one, other) == pytest.approx(comparison.exact_p(one, other))
    assert exact_p(900, 1300) < 1e-16
