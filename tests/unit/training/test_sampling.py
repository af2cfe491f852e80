"""An epoch has its quotas, patients weigh as asked, batches repeat, and optimisers follow their schedule."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.unit.training.tiny_run import SCENARIO
from training.balance import Items, training_items
from training.datasets import Sample
from training.errors import DatasetError
from training.optimizers import learning_rate
from training.runs import Part
from training.sampling import (
    PictureFeed,
    ahead,
    draw_epoch,
    epoch_order,
    item_picture,
    item_view,
    targets_of,
)
from training.scenario import Phase, Scenario


def samples() -> list[Sample]:
    """40 slices of a in one patient of 30 and ten of one; 8 slices of b."""
    long = [Sample(f"l{i}", "a", "long") for i in range(30)]
    short = [Sample(f"s{i}", "a", f"short{i}") for i in range(10)]
    return long + short + [Sample(f"b{i}", "b", f"b{i}") for i in range(8)]


def test_quotas_are_kept_without_needless_repetition() -> None:
    found = samples()
    order = draw_epoch(found, {"a": 20, "b": 20}, 0.5, np.random.default_rng(1))
    drawn = Counter(order.tolist())

    assert Counter(found[i].label for i in order) == {"a": 20, "b": 20}
    assert max(drawn[i] for i in range(40)) == 1
    assert {drawn[i] for i in range(40, 48)} == {2, 3}


@pytest.mark.parametrize(("power", "low", "high"), [(0.0, 0.6, 0.9), (1.0, 0.0, 0.25)])
def test_long_series_weigh_as_asked(power: float, low: float, high: float) -> None:
    found = samples()
    rng = np.random.default_rng(2)
    orders = np.concatenate([draw_epoch(found, {"a": 5}, power, rng) for _ in range(200)])

    assert low < np.mean([found[i].patient == "long" for i in orders]) < high


def test_targets_add_up_to_one() -> None:
    targets = targets_of(np.array([2, 0]), 4, 0.1)

    assert np.allclose(targets.sum(axis=1), 1)
    assert targets[0].tolist() == pytest.approx([0.025, 0.025, 0.925, 0.025])


def feed(scenario: Scenario) -> PictureFeed:
    found = [Sample(f"{i}", ("glioma", "no_tumor")[i % 2], f"p{i}") for i in range(20)]
    images = np.random.default_rng(1).integers(0, 255, (20, 40, 40), np.uint8)
    return PictureFeed(scenario, Part(images, found), Part(images[:3], found[:3]))


def test_batches_repeat_and_differ_by_epoch() -> None:
    first, again, next_epoch = (list(feed(SCENARIO).batches(epoch, lambda: True)) for epoch in (0, 0, 1))

    assert len(first) == feed(SCENARIO).steps == 2
    assert first[0][0].shape == (8, 32, 32, 1)
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0][0], next_epoch[0][0])


def test_without_quotas_an_epoch_has_each_item_once() -> None:
    scenario = replace(SCENARIO, sampling="all", samples_per_epoch={}, batch=4)
    found = [Sample(f"{i}", "glioma", "p") for i in range(20)]
    orders = [epoch_order(scenario, found, training_items(scenario, found), epoch) for epoch in (0, 1)]

    assert [sorted(order.tolist()) for order in orders] == [list(range(20))] * 2
    assert orders[0].tolist() != orders[1].tolist()
    assert feed(scenario).steps == 5


def test_fewer_items_than_a_batch_say_so() -> None:
    with pytest.raises(DatasetError, match="has 20 items, fewer than one batch of 32"):
        feed(replace(SCENARIO, sampling="all", samples_per_epoch={}, batch=32))


def test_a_static_copy_is_the_same_in_every_view_but_not_the_picture() -> None:
    images = np.random.default_rng(1).integers(0, 255, (1, 40, 40), np.uint8)
    items = Items(np.array([0, 0, 0]), np.array([-1, 5, 6]))
    picture, copy, other = (item_picture(images, items, i, SCENARIO.augmentation) for i in range(3))

    assert np.array_equal(picture, images[0])
    assert np.array_equal(copy, item_picture(images, items, 1, SCENARIO.augmentation))
    assert not np.array_equal(copy, picture)
    assert not np.array_equal(copy, other)


def test_views_differ_by_number_and_repeat() -> None:
    images = np.random.default_rng(1).integers(0, 255, (1, 64, 64), np.uint8)
    items = Items(np.array([0]), np.array([-1]))
    first, again, second = (item_view(images, items, 0, view, SCENARIO) for view in (0, 0, 1))

    assert first.shape == (48, 48, 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_making_ahead_keeps_the_order() -> None:
    assert list(ahead(lambda number: number * 2, 9)) == list(range(0, 18, 2))


def test_the_rate_rises_and_falls() -> None:
    scenario = replace(SCENARIO, phases=(Phase(32, 4), Phase(48, 6)), warm_up_epochs=1, learning_rate=1.0)
    rates = [learning_rate(step / 2, scenario, 2) for step in range(20)]  # two steps an epoch

    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert all(a > b for a, b in pairwise(rates[2:]))
    # Half of the cosine after warm-up is passed at epoch 5.5.
    assert rates[11] == pytest.approx(0.01 + 0.99 / 2)
    assert learning_rate(10.0, scenario, 2) == pytest.approx(0.01)


def test_a_constant_rate_stays() -> None:
    scenario = replace(SCENARIO, schedule="constant", warm_up_epochs=1, learning_rate=1.0)

    assert [learning_rate(step / 2, scenario, 2) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_a_phase_may_say_how_far_the_cosine_goes() -> None:
    scenario = replace(
        SCENARIO, phases=(Phase(32, 4, cosine_until=0.5), Phase(48, 2)), warm_up_epochs=0, learning_rate=1.0
    )

    assert learning_rate(2.0, scenario, 2) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi / 4)))
    assert learning_rate(4.0, scenario, 2) == pytest.approx(0.01 + 0.99 / 2)
    assert learning_rate(6.0, scenario, 2) == pytest.approx(0.01)
