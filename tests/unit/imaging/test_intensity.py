"""Windows, tables and stretching against numbers worked out by hand from the standard's formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from imaging import intensity


def test_linear_window_by_hand() -> None:
    # PS3.3 C.11.2.1.2, centre 2048, width 4096: black at 0, white at 4095, ((x - 2047.5) / 4095 + 0.5) between.
    shown = intensity.window(np.array([0, 1, 2047.5, 4095, 5000]), 2048, 4096)
    assert shown is not None
    np.testing.assert_allclose(shown, np.array([0, 1 / 4095, 0.5, 1, 1]), atol=1e-7)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(600, 1200), (40.5, 3), (-100, 250), (10, 1)])
def test_windows_agree_with_pydicom(function: intensity.WindowFunction, centre: float, width: float) -> None:
    values = np.arange(-1000, 1500, dtype=np.int16).reshape(50, 50)
    ds = Dataset()
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 16, 1
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    low, high = -(2**15), 2**15 - 1
    with np.errstate(over="ignore"):  # pydicom lets the exponential run over, with the right result
        expected = (apply_windowing(values, ds) - low) / (high - low)
    shown = intensity.window(values, centre, width, function)
    assert shown is not None
    np.testing.assert_allclose(shown, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("centre", "width", "function"),
    [
        (10, 0, "LINEAR"),
        (10, -5, "LINEAR"),
        (10, 0.5, "LINEAR"),
        (math.nan, 10, "LINEAR"),
        (10, math.inf, "LINEAR"),
        (10, 0, "SIGMOID"),
        (10, 0, "LINEAR_EXACT"),
        (100_000, 5, "LINEAR"),
        (1e300, 10, "LINEAR"),
        (10, 1e300, "LINEAR_EXACT"),
        (10, 1e-300, "SIGMOID"),
    ],
)
def test_unusable_windows_are_not_used(centre: float, width: float, function: intensity.WindowFunction) -> None:
    assert intensity.window(np.arange(100), centre, width, function) is None


def test_stretch_spans_zero_to_one_and_ignores_what_does_not_count() -> None:
    values = np.array([[-5, 0], [10, 20]], np.int16)
    np.testing.assert_allclose(intensity.stretch(values), np.array([[0, 0.2], [0.6, 1]]), atol=1e-6)
    np.testing.assert_allclose(intensity.stretch(values, values >= 0), np.array([[0, 0], [0.5, 1]]), atol=1e-6)


def test_stretch_keeps_apart_large_neighbours() -> None:
    values = np.array([2**31 - 3, 2**31 - 2, 2**31 - 1], np.int32)
    np.testing.assert_allclose(intensity.stretch(values), np.array([0, 0.5, 1]), atol=1e-6)


@pytest.mark.parametrize("values", [np.full((2, 2), 7), np.full((2, 2), np.nan), np.zeros((2, 2), np.uint16)])
def test_a_flat_picture_is_black(values: NDArray[Any]) -> None:
    np.testing.assert_array_equal(intensity.stretch(values), np.zeros((2, 2)))


def test_values_that_are_no_numbers_are_black() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, -np.inf, 2.0])
    np.testing.assert_allclose(intensity.stretch(values), np.array([0, 0, 1, 0, 0, 0.5]))


def test_tables_hold_their_ends() -> None:
    table = np.array([5, 6, 7], np.uint16)
    np.testing.assert_array_equal(intensity.look_up(np.array([-9, 10, 11, 12, 99]), table, 10), [5, 5, 6, 7, 7])


def test_grey_of_grey_is_the_same_grey() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_allclose(intensity.grey_of(grey), np.arange(256), atol=1e-3)
