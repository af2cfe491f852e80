"""Plots: readable without colour and script, safe with any text, round numbers on axes."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from flask import Flask
from flask_babel import Babel

from web.plots.curves import Curve, curves
from web.plots.drawing import Scale, around, element, figure
from web.plots.grid import Cell, grid
from web.plots.parallel import Axis, Path, parallel

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def context() -> Iterator[None]:
    app = Flask("plots")
    Babel(app)
    with app.test_request_context():
        yield


def parsed(markup: object) -> ElementTree.Element:
    text = str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return ElementTree.fromstring(text)  # noqa: S314 - drawn by ourselves


def test_a_scale_goes_from_end_to_end_and_holds_what_is_outside() -> None:
    scale = Scale(0.0, 10.0, 100.0, 300.0)
    assert [scale(value) for value in (0, 5, 10, -3, 99)] == [100.0, 200.0, 300.0, 100.0, 300.0]
    assert scale.ticks() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_a_logarithmic_scale_gives_equal_factors_equal_room() -> None:
    scale = Scale(1e-4, 1e-2, 0.0, 100.0, logarithmic=True)
    assert scale(1e-3) == 50.0
    assert scale.ticks() == pytest.approx([1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize("values", [[], [0.5], [float("nan")], [1.0, 1.0], [0.2, 0.9]])
def test_there_is_always_room_between_the_ends(values: list[float]) -> None:
    low, high = around(values)
    assert high > low


def test_numbers_on_axes_are_short() -> None:
    assert [figure(value) for value in (0, 0.25, 1e-4, 2_000_000)] == ["0", "0.25", "1e-4", "2e6"]


def test_text_is_escaped_and_nothing_is_styled_inline() -> None:
    evil = '"><script>alert(1)</script>'
    drawn = curves("one", evil, evil, [Curve(evil, [(0, 0), (1, 1)], dots=True)], x_label=evil, y_label=evil)
    root = parsed(drawn)  # well-formed
    assert "<script" not in drawn
    assert [item for item in root.iter() if "style" in item.attrib] == []
    assert str(element("a", href='x"y')) == '<a href="x&#34;y"/>'


def test_each_plot_says_what_it_is_and_lines_differ_by_more_than_colour() -> None:
    lines = [Curve("training", [(0, 0.9), (1, 0.5)], 0), Curve("validation", [(0, 1.0), (1, 0.6)], 1)]
    root = parsed(curves("losses", "Loss by epoch", "It falls.", lines, x_label="epoch", y_label="loss"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "losses-title"
    assert root.find(f"{SVG}title").text == "Loss by epoch"  # type: ignore[union-attr]
    assert root.find(f"{SVG}desc").text == "It falls."  # type: ignore[union-attr]
    texts = [item.text for item in root.iter(f"{SVG}text")]
    assert {"training", "validation", "epoch", "loss"} <= set(texts)
    looks = {item.attrib["class"] for item in root.iter(f"{SVG}path")}
    assert looks == {"line line-0", "line line-1"}


def test_one_point_is_seen_although_it_makes_no_line() -> None:
    root = parsed(curves("one", "t", "d", [Curve("a", [(0, 0.5)])], x_label="x", y_label="y"))
    assert len(list(root.iter(f"{SVG}circle"))) == 1


def test_the_heatmap_links_every_run_and_outlines_the_best() -> None:
    columns = [("adam", "0.01"), ("adam", "0.001"), ("sgd", "0.01")]
    cells = {
        ("vgg19", columns[0]): Cell(0.9, "90 %", "vgg19-adam-0.01: 90 %", "/runs/1", best=True),
        ("xception", columns[2]): Cell(None, "…", "xception-sgd-0.01: no number yet", "/runs/2"),
    }
    root = parsed(grid("heatmap", "t", "d", ["vgg19", "xception"], columns, cells))
    links = list(root.iter(f"{SVG}a"))
    assert [link.attrib["href"] for link in links] == ["/runs/1", "/runs/2"]
    assert all(link.attrib["aria-label"] for link in links)
    assert root.attrib["role"] == "group"  # links inside a picture would be lost to screen readers
    assert len([item for item in root.iter(f"{SVG}rect") if item.attrib["class"] == "best-cell"]) == 1
    assert [item.text for item in root.iter(f"{SVG}text")].count("adam") == 1  # neighbours share their heading


def test_parallel_coordinates_draw_the_best_last() -> None:
    axes = [Axis("network", ["a", "b"]), Axis("rate", logarithmic=True), Axis("accuracy")]
    paths = [
        Path(["a", 0.01, 0.95], "best", "/runs/1", 1.0, best=True),
        Path(["b", 0.0001, 0.80], "worst", "/runs/2", 0.0),
    ]
    root = parsed(parallel("parallel", "t", "d", axes, paths))
    assert [link.attrib["href"] for link in root.iter(f"{SVG}a")] == ["/runs/2", "/runs/1"]
    steps = [item.attrib["d"] for item in root.iter(f"{SVG}path") if item.attrib["class"] == "reach"]
    assert all(len(re.findall(r"[ML]", step)) == len(axes) for step in steps)
