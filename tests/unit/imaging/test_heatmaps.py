"""Heatmaps: stored without loss, placed where they belong, drawn in maps that everybody can read."""

from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imaging import heatmaps


def pixels_of(png: bytes) -> NDArray[Any]:
    """Decode to RGB(A) or grey."""
    picture: NDArray[Any] = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED))
    if picture.ndim == 3:
        picture = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    return picture


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 7), (12, 9)])
def test_the_stored_form_is_small_and_exact_to_half_a_level(shape: tuple[int, int]) -> None:
    heat = np.random.default_rng(3).random(shape).astype(np.float32)
    png = heatmaps.encode(heat)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 80 + 2 * heat.size
    back = heatmaps.decode(png)
    assert back.dtype == np.float32
    assert back.shape == shape
    assert np.abs(back - heat).max() <= 0.5 / 255 + 1e-6
    assert heatmaps.encode(back) == png, "storing again changes nothing"


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"text",
        heatmaps.slice_png(np.zeros((3, 3)))[:40],
        heatmaps.legend_png(),
        heatmaps.encode(np.ones((1, 1)))[:-20],
    ],
)
def test_what_is_no_stored_heatmap_is_refused(bytes_: bytes) -> None:
    with pytest.raises(ValueError, match=r"(no stored heatmap|heatmap is damaged)"):
        heatmaps.decode(bytes_)


def test_placing_holds_cell_centres_and_is_zero_outside() -> None:
    heat = np.array([[0, 1], [0.5, 0.25]], np.float32)
    # Two cells over eight pixels from (2, 4): cell centres lie at pixel edges 4 and 8 (x), 6 and 10 (y).
    placed = heatmaps.place(heat, (2, 4, 10, 12), (16, 14))
    assert placed.shape == (16, 14)
    assert placed.dtype == np.float32
    outside = placed.copy()
    outside[4:12, 2:10] = 0
    assert not outside.any()
    np.testing.assert_allclose(placed[4, 2:10], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)
    np.testing.assert_allclose(placed[4:12, 9], [1, 1, 0.90625, 0.71875, 0.53125, 0.34375, 0.25, 0.25], atol=1e-6)


def test_placing_agrees_with_opencv_inside() -> None:
    heat = np.random.default_rng(5).random((7, 7)).astype(np.float32)
    placed = heatmaps.place(heat, (3, 9, 115, 121), (128, 120))
    expected = cv2.resize(heat, (112, 112), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(placed[9:121, 3:115], expected, atol=1e-5)


def test_a_box_may_reach_beyond_the_slice() -> None:
    heat = np.random.default_rng(5).random((7, 7)).astype(np.float32)
    whole = heatmaps.place(heat, (10, 10, 110, 110), (120, 120))
    part = heatmaps.place(heat, (-10, -20, 90, 80), (60, 50))
    np.testing.assert_allclose(part, whole[30:90, 20:70], atol=1e-6)


def test_a_hot_spot_stays_where_it_is() -> None:
    heat = np.zeros((7, 7), np.float32)
    heat[5, 1] = 1
    placed = heatmaps.place(heat, (20, 30, 90, 100), (128, 128))
    y, x = np.unravel_index(placed.argmax(), placed.shape)
    assert (abs(x + 0.5 - 35), abs(y + 0.5 - 85)) <= (0.51, 0.51)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9)])
def test_an_empty_box_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="x0 < x1"):
        heatmaps.place(np.ones((2, 2)), box, (4, 4))


def test_an_overlay_is_the_slice_where_cold_and_the_map_where_hot() -> None:
    grey = np.full((4, 4), 0.4)
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    drawn = pixels_of(heatmaps.overlay(grey, heat, "viridis", opacity=1))
    assert drawn[0, 0].tolist() == pixels_of(heatmaps.legend_png("viridis"))[0, -1].tolist()
    assert (drawn[1:] == 102).all()
    assert (pixels_of(heatmaps.overlay(grey, heat, opacity=0)) == 102).all()


@pytest.mark.parametrize("colour_map", sorted(heatmaps.COLOUR_MAPS))
def test_the_layer_over_the_slice_is_the_overlay(colour_map: str) -> None:
    random = np.random.default_rng(1)
    grey, heat = random.random((20, 30)), random.random((20, 30))
    layer = pixels_of(heatmaps.layer_png(heat, colour_map)).astype(float)
    alpha = layer[..., 3:] / 255 * 0.6
    composed = pixels_of(heatmaps.slice_png(grey))[..., None] * (1 - alpha) + layer[..., :3] * alpha
    drawn = pixels_of(heatmaps.overlay(grey, heat, colour_map, opacity=0.6))
    assert np.abs(composed - drawn).max() < 2


@pytest.mark.parametrize("colour_map", sorted(heatmaps.COLOUR_MAPS))
def test_every_map_grows_in_lightness_and_is_no_rainbow(colour_map: str) -> None:
    colours = pixels_of(heatmaps.legend_png(colour_map))[0]
    lab = cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness = lab[:, 0]
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[-1] - lightness[0] > 60
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() < 6 * np.median(steps), "no jump stands out"
    hues = [colorsys.rgb_to_hsv(*colour)[0] for colour in colours[64:] / 255]
    assert np.ptp(hues) < 1.01


def test_a_slice_is_drawn_level_for_level() -> None:
    grey = np.arange(256, dtype=np.float32).reshape(16, 16) / 255
    np.testing.assert_array_equal(pixels_of(heatmaps.slice_png(grey)), np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: heatmaps.encode(np.zeros((2, 2, 2))), "two-dimensional float"),
        (lambda: heatmaps.encode(np.zeros((2, 2), np.uint8)), "two-dimensional float"),
        (lambda: heatmaps.encode(np.full((2, 2), 1.5)), r"values in \[0, 1\]: got 1.5"),
        (lambda: heatmaps.encode(np.full((2, 2), np.nan)), r"values in \[0, 1\]: got nan"),
        (lambda: heatmaps.overlay(np.zeros((2, 2)), np.zeros((2, 3))), "one shape"),
        (lambda: heatmaps.overlay(np.zeros((2, 2)), np.zeros((2, 2)), opacity=1.5), "Opacity"),
        (lambda: heatmaps.overlay(np.zeros((2, 2)), np.zeros((2, 2)), "jet"), "no colour map 'jet': choose one of"),
    ],
)
def test_mistakes_are_said(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
