"""McNemar's exact test, worked out by hand."""

import pytest

from training.comparison import exact_p, mcnemar
from training.errors import TrainingError


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 2 / 32),  # 2 * (1/2)^5
        (1, 5, 2 * (1 + 6) / 64),  # 2 * (C(6,0) + C(6,1)) / 2^6
        (3, 3, 1.0),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_p_values(b: int, c: int, p: float) -> None:
    assert exact_p(b, c) == pytest.approx(p)
    assert exact_p(c, b) == pytest.approx(p)


def test_large_counts_do_not_overflow() -> None:
    assert 0 < exact_p(4000, 4200) < 0.05


def test_counts_and_accuracies() -> None:
    found = mcnemar([True, True, False, False, True], [True, False, True, False, True])

    assert found.to_json() == {
        "slices": 5,
        "both_right": 2,
        "only_a": 1,
        "only_b": 1,
        "both_wrong": 1,
        "accuracy_a": 0.6,
        "accuracy_b": 0.6,
        "p_value": 1.0,
    }


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TrainingError, match="the same slices of both: received 1 and 2"):
        mcnemar([True], [True, False])
