"""Runs that share work have the numbers that they have alone, go on after a stop, and fail alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from inference.networks import build
from tests.unit.training.dataset_files import write_dataset
from tests.unit.training.recorders import Silent
from tests.unit.training.tiny_run import SCENARIO
from training import groups
from training.balance import training_items
from training.cache import ArrayCache
from training.datasets import prepare_all
from training.errors import RunError
from training.failures import RunFailure
from training.features import FeatureFeed, Sources
from training.groups import sharing_key, train_group
from training.learner import Learner
from training.lockstep import open_lane, train
from training.pipeline import Material, gather
from training.runs import Part, RunResult
from training.sampling import (
    Batch,
    Feed,
    Float32,
    GoOn,
    epoch_order,
    item_labels,
    item_view,
    picture_batches,
    targets_of,
)
from training.scenario import Phase, Scenario
from training.state import part_path
from training.ways import (
    Frozen,
    frozen_backbone,
    frozen_prefix,
    head_learner,
    seeded_network,
    suffix_learner,
    whole_learner,
)

pytestmark = pytest.mark.tensorflow

BASE = replace(SCENARIO, phases=(Phase(48, 3),), mixup_rate=0.0, views=2, schedule="constant", learns="head")
HEADS = (
    replace(BASE, name="adam", optimizer="adam", ema_decay=0.0),
    replace(BASE, name="sgd", optimizer="sgd", learning_rate=0.1),
    replace(BASE, name="rmsprop", optimizer="rmsprop", head=replace(BASE.head, units=4), warm_up_epochs=0.0),
)
SUFFIXES = tuple(replace(scenario, learns="conv2") for scenario in HEADS[:2])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("data")
    return gather(BASE, write_dataset(root / "set"), root / "split.csv")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def together(material: Material, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """The heads trained in lockstep, without any interruption."""
    return results(HEADS, material, tmp_path_factory.mktemp("together"), cache_dir)


def results(scenarios: Sequence[Scenario], material: Material, folder: Path, cache_dir: Path) -> dict[str, RunResult]:
    recorders = [Silent() for _ in scenarios]
    ends = train_group(scenarios, material, folder, recorders, None, cache_dir)
    return {end.name: end for end in ends if isinstance(end, RunResult)}


def assert_same(one: RunResult, other: RunResult, tolerance: float = 0.0) -> None:
    assert set(one.weights) == set(other.weights)
    for path, value in one.weights.items():
        assert np.abs(other.weights[path] - value).max() <= tolerance, path
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine["validation_loss"] == pytest.approx(theirs["validation_loss"], abs=tolerance, rel=0)
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=tolerance, rel=0)


class PlainFeed:
    """Batches made and scored the ordinary way: pictures for the whole network, nothing kept."""

    def __init__(self, scenario: Scenario, material: Material) -> None:
        self._scenario, self._sources = scenario, sources_of(scenario, material)
        self._items = training_items(scenario, self._sources.train_samples)
        self.steps = sum(scenario.samples_per_epoch.values()) // scenario.batch

    def batches(self, epoch: int, go_on: GoOn) -> Iterator[Batch]:
        scenario, train_part = self._scenario, self._sources.train()
        order = epoch_order(scenario, train_part.samples, self._items, epoch)
        labels = item_labels(scenario, train_part.samples, self._items)
        for number in range(self.steps):
            chosen = order[number * scenario.batch : (number + 1) * scenario.batch]
            view = epoch % scenario.views
            views = np.stack([item_view(train_part.images, self._items, int(i), view, scenario) for i in chosen])
            yield views, targets_of(labels[chosen], len(scenario.class_names), scenario.label_smoothing)

    def validation(self, go_on: GoOn) -> Iterator[Float32]:
        return picture_batches(self._sources.validation().images)


def sources_of(scenario: Scenario, material: Material) -> Sources:
    train_samples, validation_samples = material.of("train"), material.of("validation")
    larger = replace(scenario.preprocessing, size=scenario.cache_size)
    return Sources(
        train=lambda: Part(prepare_all(material.dataset, train_samples, larger), train_samples),
        validation=lambda: Part(
            prepare_all(material.dataset, validation_samples, scenario.preprocessing), validation_samples
        ),
        train_samples=train_samples,
        validation_samples=validation_samples,
        fingerprint=material.fingerprint,
    )


def trained(
    scenario: Scenario, learner: Learner, feed: Feed, frozen: Frozen, material: Material, to: Path
) -> RunResult:
    lane = open_lane(scenario, learner, material.fingerprint, "", frozen.weights, to / "state.npz", Silent())
    labels = np.array([scenario.class_names.index(s.label) for s in material.of("validation")], np.int64)
    train([lane], feed, labels, 1, lambda end: None)
    assert isinstance(lane.ended, RunResult)
    return lane.ended


def test_runs_in_lockstep_equal_each_run_alone(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    for scenario in HEADS:
        alone = results([scenario], material, tmp_path, cache_dir)[scenario.name]

        assert_same(together[scenario.name], alone)
        assert together[scenario.name].facts["runs_in_lockstep"] == 3


def test_a_cached_backbone_equals_the_whole_network(material: Material, cache_dir: Path, tmp_path: Path) -> None:
    # Both draw their dropout from other generators, so there is none.
    scenario = replace(HEADS[0], head=replace(BASE.head, dropout=0.0))
    ours = results([scenario], material, tmp_path / "ours", cache_dir)[scenario.name]

    frozen = frozen_backbone(scenario, [])
    network = build(scenario.network, None, scenario.class_names, scenario.head)
    head = head_learner(scenario, [], 2, 16).average()
    network.set_weights({**frozen.weights, **head})
    network.backbone.trainable = False
    learner = Learner(scenario, network.model, network.variables(), 2)
    plain = trained(scenario, learner, PlainFeed(scenario, material), frozen, material, tmp_path)

    assert_same(ours, plain, 1e-5)
    assert np.abs(ours.weights["head_hidden/kernel"] - head["head_hidden/kernel"]).max() > 1e-3


def test_a_cached_prefix_equals_the_whole_network(material: Material, cache_dir: Path, tmp_path: Path) -> None:
    scenario = SUFFIXES[0]
    frozen = frozen_prefix(scenario, [], dtype="float32")
    feed = FeatureFeed(scenario, frozen.part, sources_of(scenario, material), ArrayCache(cache_dir))
    ours = trained(scenario, suffix_learner(scenario, [], feed.steps), feed, frozen, material, tmp_path)

    network = seeded_network(scenario, [])
    start = network.weights()
    for layer in ("conv0", "bn0", "conv1", "bn1"):
        network.backbone.get_layer(layer).trainable = False
    learner = Learner(scenario, network.model, network.variables(), feed.steps)
    plain = trained(scenario, learner, PlainFeed(scenario, material), frozen, material, tmp_path / "plain")

    assert_same(ours, plain, 1e-5)
    assert np.array_equal(ours.weights["bn1/moving_mean"], start["bn1/moving_mean"])
    assert np.abs(ours.weights["bn2/moving_mean"] - start["bn2/moving_mean"]).max() > 1e-3


def test_partly_frozen_runs_of_a_group_equal_each_run_alone(
    material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    both = results(SUFFIXES, material, tmp_path / "both", cache_dir)

    assert_same(both["sgd"], results(SUFFIXES[1:], material, tmp_path / "alone", cache_dir)["sgd"])


@pytest.mark.parametrize("learns", ["all", "head", "conv1"])
def test_the_same_seed_gives_the_same_numbers(learns: str, material: Material, tmp_path: Path) -> None:
    scenario = replace(BASE, learns=learns, views=1, phases=(Phase(48, 2),))
    one, other = (results([scenario], material, tmp_path / name, tmp_path / name)["tiny"] for name in ("one", "other"))

    assert_same(one, other)


def test_interrupted_runs_go_on_as_if_nothing_had_happened(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    # Three of two steps: the first run stops in its second epoch, the second in its third, one goes to the end.
    recorders = [Silent(stop_after=3), Silent(stop_after=5), Silent()]
    first = train_group(HEADS, material, tmp_path, recorders, None, cache_dir)
    again = [Silent() for _ in HEADS]
    second = train_group(HEADS, material, tmp_path, again, None, cache_dir)

    assert [isinstance(end, RunResult) and end.stopped for end in first] == [True, True, False]
    assert [recorder.epochs for recorder in again] == [[1, 2], [2], []]
    for end in second:
        assert isinstance(end, RunResult)
        assert_same(together[end.name], end)


def test_a_run_that_diverges_fails_alone(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    wild = replace(HEADS[1], name="wild", learning_rate=9.9, clip_norm=0.0, warm_up_epochs=0.0, phases=BASE.phases)
    recorders = [Silent(), Silent()]
    learner = head_learner

    def poisoned(scenario: Scenario, *rest: Any) -> Learner:
        made = learner(scenario, *rest)
        if scenario.name == "wild":
            made.model.get_layer("head_scores").kernel.assign_add(np.full((8, 2), np.inf, np.float32))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "head_learner", poisoned)
        failed, whole = train_group([wild, HEADS[0]], material, tmp_path, recorders, None, cache_dir)

    assert isinstance(failed, RunFailure)
    assert (failed.name, failed.code, recorders[0].failure) == ("wild", "diverged", "diverged")
    assert "Lower learning_rate" in failed.detail
    assert isinstance(whole, RunResult)
    assert_same(together["adam"], whole)


def test_a_full_disk_fails_one_run_and_leaves_its_last_state_whole(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    class FillsTheDisk(Silent):
        """After the first epoch the file that is to become the next state lies on a full device."""

        def epoch_finished(self, epoch: int, facts: Mapping[str, float]) -> None:
            super().epoch_finished(epoch, facts)
            part_path(tmp_path / "adam.state.npz").symlink_to("/dev/full")

    recorders = [FillsTheDisk(), Silent()]
    full, whole = train_group(HEADS[:2], material, tmp_path, recorders, None, cache_dir)
    resumed = results(HEADS[:2], material, tmp_path, cache_dir)

    assert isinstance(full, RunFailure)
    assert (full.code, recorders[0].failure, recorders[0].epochs) == ("disk_full", "disk_full", [0])
    assert isinstance(whole, RunResult)
    assert_same(together["adam"], resumed["adam"])


def test_memory_that_does_not_suffice_fails_one_run(material: Material, cache_dir: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    def exhausted(*arguments: Any) -> Learner:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "suffix_learner", exhausted)
        ends = train_group(SUFFIXES, material, tmp_path, [Silent(), Silent()], None, cache_dir)

    assert [isinstance(end, RunFailure) and end.code for end in ends] == ["out_of_memory", "out_of_memory"]


def test_missing_weights_fail_every_run_that_needs_them(material: Material, cache_dir: Path, tmp_path: Path) -> None:
    scenarios = [replace(scenario, network="xception", weights="imagenet") for scenario in HEADS[:2]]
    recorders = [Silent(), Silent()]
    ends = train_group(scenarios, material, tmp_path, recorders, tmp_path, cache_dir)

    assert [isinstance(end, RunFailure) and end.code for end in ends] == ["weights_missing", "weights_missing"]
    assert [recorder.failure for recorder in recorders] == ["weights_missing", "weights_missing"]


def test_features_are_made_once(
    together: dict[str, RunResult],
    material: Material,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups, "prepare_all", lambda *arguments: pytest.fail("the pictures were read again"))

    assert_same(together["adam"], results(HEADS[:1], material, tmp_path, cache_dir)["adam"])


def test_a_damaged_state_is_set_aside_and_the_run_starts_anew(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    results(HEADS[:1], material, tmp_path, cache_dir)
    state = tmp_path / "adam.state.npz"
    state.write_bytes(state.read_bytes()[:-2000])

    assert_same(together["adam"], results(HEADS[:1], material, tmp_path, cache_dir)["adam"])
    assert (tmp_path / "adam.state.damaged").is_file()


def test_the_state_of_other_frozen_weights_is_refused(
    together: dict[str, RunResult], material: Material, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(HEADS[:1], material, tmp_path, cache_dir)
    made = frozen_backbone

    def another(*arguments: Any) -> Frozen:
        frozen = made(*arguments)
        return replace(frozen, part=replace(frozen.part, digest="0" * 64))

    monkeypatch.setattr(groups, "frozen_backbone", another)
    (end,) = train_group(HEADS[:1], material, tmp_path, [Silent()], None, cache_dir)

    assert isinstance(end, RunFailure)
    assert (end.code, "other frozen weights" in end.detail) == ("refused", True)


def test_ends_are_handed_on_as_they_come(material: Material, cache_dir: Path, tmp_path: Path) -> None:
    short = replace(HEADS[0], name="short", learning_rate=1e-9, patience_epochs=1)
    order: list[str] = []
    train_group(
        [HEADS[1], short],
        material,
        tmp_path,
        [Silent(), Silent()],
        None,
        cache_dir,
        ended=lambda end: order.append(end.name),
    )

    assert order == ["short", "sgd"]


def test_what_shares_work() -> None:
    assert len({sharing_key(scenario) for scenario in HEADS}) == 1
    assert sharing_key(HEADS[0]) != sharing_key(replace(HEADS[0], seed=1))
    assert sharing_key(HEADS[0]) != sharing_key(replace(HEADS[0], learns="conv2"))
    assert len({sharing_key(replace(s, learns="all", views=1)) for s in HEADS}) == 3
    with pytest.raises(RunError, match="one sharing key"):
        train_group([HEADS[0], SUFFIXES[0]], None, Path(), [], None, Path())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learns": "conv9"}, "has no layer 'conv9'"),
        ({"batch": 500}, "fewer than one batch of 500"),
    ],
)
def test_what_cannot_be_frozen_says_so(
    change: dict[str, Any], message: str, material: Material, cache_dir: Path, tmp_path: Path
) -> None:
    (end,) = train_group([replace(BASE, **change)], material, tmp_path, [Silent()], None, cache_dir)

    assert isinstance(end, RunFailure)
    assert (end.code, message in end.detail) == ("refused", True), end.detail


def test_mixed_precision_keeps_float32_weights() -> None:
    learner = whole_learner(SCENARIO, [], steps=2, mixed_precision=True)
    rng = np.random.default_rng(1)
    images = rng.random((8, 48, 48, 1), np.float32)
    losses = [learner.step(images, targets_of(np.arange(8) % 2, 2, 0.0), 0, number) for number in range(2)]

    assert learner.model.get_layer("conv0").compute_dtype == "float16"
    assert np.isfinite(losses).all()
    assert {value.dtype for value in learner.average().values()} == {np.dtype(np.float32)}
    assert learner.scores([images]).dtype == np.float32
