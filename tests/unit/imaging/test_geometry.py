"""Planes, positions and anatomical order from direction cosines worked out by hand."""

from __future__ import annotations

import math

import pytest

from imaging.frames import FrameGeometry
from imaging.geometry import anatomical_key, locate, natural_key

AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def tilted(degrees: float) -> list[float]:
    """An axial slice turned about the left-right axis."""
    angle = math.radians(degrees)
    return [1, 0, 0, 0, math.cos(angle), math.sin(angle)]


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (AXIAL, "axial"),
        ([-1, 0, 0, 0, 1, 0], "axial"),
        (CORONAL, "coronal"),
        (SAGITTAL, "sagittal"),
        ([0, -1, 0, 0, 0, -1], "sagittal"),
        (tilted(25), "axial"),
        (tilted(29.9), "axial"),
        (tilted(30.1), "oblique"),
        (tilted(45), "oblique"),
        (tilted(65), "coronal"),
    ],
)
def test_the_plane_is_the_axis_nearest_to_the_normal(orientation: list[float], plane: str) -> None:
    assert locate(orientation, [0, 0, 0], [1, 1]).plane == plane


@pytest.mark.parametrize(
    ("orientation", "corner", "position_mm"),
    [
        (AXIAL, [-100, -100, 12.5], 12.5),
        ([-1, 0, 0, 0, 1, 0], [100, -100, 12.5], 12.5),
        (CORONAL, [-100, 30, 80], 30),
        (SAGITTAL, [-7, -100, 80], -7),
        (tilted(30), [0, 0, 10], 10 * math.cos(math.radians(30))),
    ],
)
def test_position_grows_to_head_back_and_left_whichever_way_round_it_is_written(
    orientation: list[float], corner: list[float], position_mm: float
) -> None:
    assert locate(orientation, corner, [1, 1]).position_mm == pytest.approx(position_mm)


@pytest.mark.parametrize(
    "orientation",
    [
        None,
        "axial",
        [1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0.5, 0.5, 0],
        [2, 0, 0, 0, 1, 0],
        [math.nan, 0, 0, 0, 1, 0],
        [math.inf, 0, 0, 0, 1, 0],
        ["a", "b", "c", "d", "e", "f"],
        [1e308, 1e308, 0, 0, 1, 0],
    ],
)
def test_absurd_orientation_is_unknown_not_an_error(orientation: object) -> None:
    assert locate(orientation, [0, 0, 0], [1, 1]) == FrameGeometry(spacing_mm=(1.0, 1.0))


@pytest.mark.parametrize("position", [None, [0, 0], [0, 0, math.nan], [0, 0, 1e9], "0\\0\\0"])
def test_absurd_position_leaves_the_plane(position: object) -> None:
    assert locate(AXIAL, position, None) == FrameGeometry(plane="axial")


@pytest.mark.parametrize("spacing", [None, [0, 1], [-1, 1], [1, math.inf], [5000, 1], [1]])
def test_absurd_spacing_is_unknown(spacing: object) -> None:
    assert locate(AXIAL, [0, 0, 0], spacing).spacing_mm is None


def test_slices_are_ordered_by_position_then_number_then_name() -> None:
    placed = [anatomical_key(FrameGeometry(position_mm=p), None, 0, "x") for p in (-3.0, 0.0, 2.5)]
    numbered = [anatomical_key(FrameGeometry(), n, 0, "x") for n in (1, 2, 10)]
    named = [anatomical_key(FrameGeometry(), None, 0, name) for name in ("slice 2.png", "slice 10.png")]
    pages = [anatomical_key(FrameGeometry(), None, page, "z.tif") for page in (0, 1)]
    expected = placed + numbered + named + pages
    shuffled = expected[1::2] + expected[::2]
    assert sorted(shuffled) == expected


def test_natural_order_counts_digits_and_survives_every_name() -> None:
    names = ["1", "2", "10", "IM1", "IM2", "IM10", "IM10b", "²", "٣", "9" * 500]
    assert sorted(names, key=natural_key)[:6] == ["1", "2", "10", "9" * 500, "IM1", "IM2"]
    assert natural_key("A") != natural_key("a")
