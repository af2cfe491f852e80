"""Under-sampling and static copies: the numbers of the thesis, the same for the same seed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("imblearn")

from tests.unit.training.tiny_run import SCENARIO
from training.balance import count_items, training_items
from training.datasets import Sample
from training.scenario import Scenario


def thesis(static: int) -> Scenario:
    return replace(SCENARIO, sampling="under_sample", samples_per_epoch={}, static_per_class=static)


def train(gliomas: int = 672, others: int = 1628) -> list[Sample]:
    """The training part of the thesis: 672 of one class and 1,628 of the other."""
    return [Sample(f"{i}", "glioma" if i < gliomas else "no_tumor", f"p{i}") for i in range(gliomas + others)]


def test_the_numbers_of_the_thesis() -> None:
    samples, scenario = train(), thesis(1500)
    items = training_items(scenario, samples)

    assert count_items(scenario, samples, items) == {
        "glioma": {"pictures": 672, "static": 828},
        "no_tumor": {"pictures": 672, "static": 828},
    }
    pictures = items.rows[items.static_seeds < 0]
    assert len(set(pictures.tolist())) == 1344


def test_copies_are_of_kept_pictures_in_turns_and_all_different() -> None:
    items = training_items(thesis(1500), train())
    copies = items.static_seeds >= 0
    times = Counter(items.rows[copies].tolist())

    assert set(times) <= set(items.rows[~copies].tolist())
    assert set(times.values()) == {1, 2}
    assert len({*zip(items.rows[copies].tolist(), items.static_seeds[copies].tolist(), strict=True)}) == copies.sum()


def test_the_seed_decides() -> None:
    samples = train(20, 50)
    first, again, other = (training_items(replace(thesis(30), seed=seed), samples) for seed in (1, 1, 2))

    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.static_seeds, again.static_seeds)
    assert not np.array_equal(first.rows, other.rows)


def test_enough_pictures_need_no_copies() -> None:
    items = training_items(thesis(10), train(20, 50))

    assert items.rows.size == 40
    assert (items.static_seeds == -1).all()


def test_other_samplings_take_every_slice_once() -> None:
    assert training_items(SCENARIO, train(3, 4)).rows.tolist() == list(range(7))
