"""A clinician reads a study: slices by mouse, key and finger, heatmap and opacity, the same numbers as in the CSV."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from db.states import Role
from tests.e2e.conftest import Visitor
from tests.e2e.world import World

pytestmark = pytest.mark.browser

PIXELS = """() => {
  const canvas = document.getElementById("overlay");
  const copy = document.createElement("canvas");
  Object.assign(copy, { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let colour = 0, sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    sum = (sum * 31 + data[i] * 3 + data[i + 1] * 5 + data[i + 2] * 7) % 2147483647;
    colour += Math.abs(data[i] - data[i + 1]) + Math.abs(data[i + 1] - data[i + 2]);
  }
  return { sum, colour, width: canvas.width };
}"""


def current(page: Page) -> str:
    """The slice that is shown."""
    return str(page.locator(".thumb[aria-current]").get_attribute("data-slice"))


def pixels(page: Page) -> dict[str, int]:
    """What the canvas shows, once the present slice is drawn on it."""
    page.wait_for_function(
        "(id) => document.getElementById('overlay').dataset.drawn === id", arg=current(page), timeout=15_000
    )
    page.wait_for_timeout(150)
    found: dict[str, int] = page.evaluate(PIXELS)
    return found


@pytest.fixture
def study(visit: Callable[..., Visitor], world: World) -> Page:
    """The study's page, opened by a clinician."""
    page = visit(Role.CLINICIAN).go(f"/studies/{world.study}")
    expect(page.locator("#finding")).to_be_visible()
    return page


def test_the_slider_changes_the_picture_and_the_key_takes_the_heatmap_away(study: Page) -> None:
    strong = pixels(study)
    assert strong["colour"] > 0, "the heatmap brings no colour into the picture"
    study.locator("#opacity").fill("20")
    weak = pixels(study)
    assert weak["sum"] != strong["sum"]
    assert weak["colour"] < strong["colour"]
    study.locator("body").press("h")
    assert pixels(study)["colour"] == 0, "without the heatmap the slice is grey"
    expect(study.locator("#toggle")).to_have_attribute("aria-pressed", "false")
    study.locator("body").press("h")
    assert pixels(study)["sum"] == weak["sum"]


def test_brackets_change_the_opacity_and_it_is_remembered(study: Page) -> None:
    before = int(study.locator("#opacity").input_value())
    study.locator("body").press("]")
    expect(study.locator("#opacity-value")).to_have_text(re.compile(rf"^{before + 5}\s?%$"))
    study.locator("body").press("[")
    study.locator("body").press("[")
    study.reload()
    expect(study.locator("#opacity")).to_have_value(str(before - 5))


def test_another_colour_map_gives_other_colours(study: Page) -> None:
    names = study.locator("#colours option").all_inner_texts()
    assert {"inferno", "viridis", "cividis"} <= set(names)
    assert not {"jet", "rainbow", "turbo", "hsv"} & set(names)
    inferno = pixels(study)
    study.locator("#colours").select_option("viridis")
    study.wait_for_timeout(500)
    assert pixels(study)["sum"] != inferno["sum"]


def test_the_keyboard_walks_through_the_slices_and_back(study: Page) -> None:
    body = study.locator("body")
    body.press("Home")
    order = study.locator(".thumb").evaluate_all("(all) => all.map((thumb) => thumb.dataset.slice)")
    seen = [current(study)]
    for _ in order[1:]:
        body.press("ArrowRight")
        seen.append(current(study))
    assert seen == order
    body.press("k")
    assert current(study) == order[-2]
    body.press("j")
    body.press("End")
    assert current(study) == order[-1]
    expect(study.locator("#next")).to_be_disabled()
    expect(study.locator("#slice-facts")).to_have_attribute("data-slice", order[-1])
    assert study.url.endswith(f"?slice={order[-1]}")
    study.reload()
    assert current(study) == order[-1]


def test_the_help_opens_and_closes_by_key(study: Page) -> None:
    study.locator("body").press("?")
    expect(study.locator("dialog#help")).to_be_visible()
    study.locator("body").press("Escape")
    expect(study.locator("dialog#help")).to_be_hidden()


def test_the_filter_shows_tumour_slices_alone(study: Page) -> None:
    study.locator("[data-filter=tumour]").click()
    shown = study.locator(".thumb:visible").evaluate_all("(all) => all.map((thumb) => thumb.dataset.tumour)")
    assert shown
    assert set(shown) == {"yes"}
    assert current(study) in study.locator(".thumb:visible").evaluate_all("(all) => all.map((t) => t.dataset.slice)")
    study.locator("[data-filter=all]").click()
    assert study.locator(".thumb:visible").count() == study.locator(".thumb").count()


def test_a_swipe_goes_to_the_next_slice(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN, phone=True).go(f"/studies/{world.study}")
    page.locator("body").press("Home")
    first = current(page)
    page.evaluate("""() => {
      const screen = document.querySelector(".screen");
      const at = (clientX) => ({ bubbles: true, pointerId: 1, pointerType: "touch", clientX, clientY: 300 });
      screen.dispatchEvent(new PointerEvent("pointerdown", at(300)));
      screen.dispatchEvent(new PointerEvent("pointerup", at(150)));
    }""")
    assert current(page) != first
    assert page.locator(".thumb").nth(1).get_attribute("data-slice") == current(page)


def test_the_csv_holds_what_the_page_shows(study: Page, tmp_path: Path) -> None:
    with study.expect_download() as download:
        study.locator("#csv").click()
    path = tmp_path / "results.csv"
    download.value.save_as(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    shown = study.locator(".thumb").evaluate_all(
        "(all) => all.map((thumb) => [thumb.querySelector('.what').textContent.trim(),"
        " Number(thumb.querySelector('meter').value)])"
    )
    words = {"no_tumor": "no tumour", "pituitary": "pituitary tumour"}
    in_file = [(words.get(row["prediction"], row["prediction"]), float(row["probability"])) for row in rows]
    assert sorted(label for label, _ in in_file) == sorted(label for label, _ in shown)
    assert sorted(round(value, 3) for _, value in in_file) == pytest.approx(
        sorted(round(value, 3) for _, value in shown), abs=0.0015
    )


def test_the_json_names_the_model_and_the_rule(study: Page, tmp_path: Path) -> None:
    with study.expect_download() as download:
        study.get_by_role("button", name="Results as JSON").click()
    path = tmp_path / "results.json"
    download.value.save_as(path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)
    title = study.locator(".study-facts code[title]").get_attribute("title")
    assert title is not None
    assert title in text, "the digest of the model"


def test_without_scripts_the_server_draws_the_overlay(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN, scripts=False).go(f"/studies/{world.study}")
    overlay = page.locator("#stage img[src*=overlay]")
    expect(overlay).to_be_visible()
    second = page.locator(".thumb").nth(1)
    wanted = second.get_attribute("data-slice")
    second.click()
    expect(page.locator("#slice-facts")).to_have_attribute("data-slice", str(wanted))


def test_the_caption_does_not_promise_a_tumour(study: Page) -> None:
    expect(study.get_by_text("where the network looked, not where the tumour is")).to_be_visible()


def test_a_result_is_computed_again_and_found_equal(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN).go(f"/predictions/{world.prediction}")
    page.get_by_role("button", name="Reproduce").click()
    expect(page.locator("#repeat")).to_contain_text("Equal to the last bit", timeout=30_000)
