"""The stack viewer: window, size and place by mouse, key and finger, at the scanner's depth; another study beside."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from db.jobs import JobStudy
from db.states import Role
from db.studies import StudyIdentity
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.test_reading import current, pixels
from tests.e2e.world import World

pytestmark = pytest.mark.browser

GREY = """() => {
  const canvas = document.getElementById("original");
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let mean = 0, moment = 0;
  for (let i = 0; i < data.length; i += 4) { mean += data[i]; moment += data[i] * ((i / 4) % canvas.width); }
  return { mean: mean / (data.length / 4), moment };
}"""


def grey(page: Page) -> dict[str, float]:
    """Mean level of the slice without heatmap, and where it lies."""
    pixels(page)
    found: dict[str, float] = page.evaluate(GREY)
    return found


def window(page: Page) -> tuple[float, float]:
    """Centre and width, as the page says them."""
    centre, _, width = page.locator("#window-value").inner_text().partition(" / ")
    return float(centre), float(width)


def drag(page: Page, dx: int, dy: int, button: str = "left") -> None:
    box = page.locator("#overlay").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)  # type: ignore[arg-type] # one of the three names
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up(button=button)  # type: ignore[arg-type]


@pytest.fixture
def study(visit: Callable[..., Visitor], world: World) -> Page:
    page = visit(Role.CLINICIAN).go(f"/studies/{world.study}")
    pixels(page)
    return page


def test_window_size_and_place_by_mouse_and_all_taken_back(study: Page) -> None:
    before, seen = window(study), grey(study)
    drag(study, 80, 0)
    assert window(study)[1] > before[1] * 1.1, "to the right the window grows wider"
    assert window(study)[0] == pytest.approx(before[0], rel=0.01)
    drag(study, 0, 80)
    assert window(study)[0] < before[0], "downwards its centre falls"
    assert grey(study)["mean"] > seen["mean"], "a lower centre is a brighter picture"
    study.mouse.dblclick(*middle(study))
    assert window(study) == before
    assert grey(study) == seen
    drag(study, 0, -80, button="right")
    assert int(study.locator("#zoom-value").text_content()[:-1]) > 150  # type: ignore[index]
    enlarged = grey(study)
    drag(study, 60, 0, button="middle")
    assert grey(study) != enlarged
    study.locator("body").press("0")
    assert grey(study) == seen


def middle(page: Page) -> tuple[float, float]:
    box = page.locator("#overlay").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_wheel_goes_through_the_stack_and_the_window_stays(study: Page) -> None:
    body = study.locator("body")
    body.press("Home")
    order = study.locator(".thumb").evaluate_all("(all) => all.map((thumb) => thumb.dataset.slice)")
    body.press(">")
    study.mouse.move(*middle(study))
    study.mouse.wheel(0, 100)
    expect(study.locator(".thumb[aria-current]")).to_have_attribute("data-slice", order[1])
    pixels(study)
    narrowed = float(study.locator("#contrast").input_value())
    assert narrowed < 0, "the next slice is shown with the reader's contrast"
    study.mouse.wheel(0, -100)
    assert current(study) == order[0]
    assert study.evaluate("scrollY") == 0, "the page stays where it is"


def test_by_keyboard_alone(study: Page) -> None:
    seen = grey(study)
    body = study.locator("body")
    body.press("i")
    expect(study.locator("#invert")).to_have_attribute("aria-pressed", "true")
    assert grey(study)["mean"] > 128 > seen["mean"]
    body.press("i")
    body.press(".")
    assert grey(study)["mean"] > seen["mean"]
    body.press(",")
    body.press("+")
    expect(study.locator("#zoom-value")).to_have_text("125 %")
    study.locator(".adjust summary").press("Enter")
    study.locator("#level").press("ArrowLeft")
    assert window(study)[0] < window_after_reset(study)[0]
    study.locator("[data-tool=pan]").press("Enter")
    expect(study.locator("[data-tool=pan]")).to_have_attribute("aria-pressed", "true")


def window_after_reset(page: Page) -> tuple[float, float]:
    page.locator("#reset").click()
    return window(page)


def test_a_slice_without_values_is_shown_as_the_server_draws_it(visit: Callable[..., Visitor], world: World) -> None:
    visitor = visit(Role.CLINICIAN)
    visitor.watch.expected_statuses.add(503)
    visitor.page.route("**/values.bin", lambda route: route.fulfill(status=503, body=""))
    page = visitor.go(f"/studies/{world.study}")
    assert pixels(page)["colour"] > 0
    assert grey(page)["mean"] > 5
    expect(page.locator("#window-value")).to_have_text("–")


def test_two_fingers_enlarge(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN, phone=True).go(f"/studies/{world.study}")
    pixels(page)
    page.evaluate("""() => {
      const screen = document.querySelectorAll(".screen")[1];
      const box = screen.getBoundingClientRect();
      const y = box.top + box.height / 2;
      const finger = { bubbles: true, pointerType: "touch", clientY: y };
      const at = (pointerId, x) => ({ ...finger, pointerId, clientX: box.left + x * box.width });
      screen.dispatchEvent(new PointerEvent("pointerdown", at(11, 0.4)));
      screen.dispatchEvent(new PointerEvent("pointerdown", at(12, 0.6)));
      screen.dispatchEvent(new PointerEvent("pointermove", at(11, 0.2)));
      screen.dispatchEvent(new PointerEvent("pointermove", at(12, 0.8)));
      screen.dispatchEvent(new PointerEvent("pointerup", at(11, 0.2)));
      screen.dispatchEvent(new PointerEvent("pointerup", at(12, 0.8)));
    }""")
    assert page.locator("#zoom-value").text_content() == "300 %"


@pytest.fixture
def second_visit(site: Site, world: World) -> Iterator[None]:
    """Another study is of the same patient."""
    with site.database.write() as session:
        patient_id = session.get_one(StudyIdentity, world.study).patient_id
        of_job = select(JobStudy.study_id).where(JobStudy.job_id == world.mixed_job, JobStudy.study_id != world.study)
        other = session.scalars(of_job).first()
        assert other is not None
        assert patient_id
        found = session.get(StudyIdentity, other)
        before = found.patient_id if found else ""
        session.merge(StudyIdentity(study_id=other, patient_id=patient_id))
    yield
    with site.database.write() as session:
        session.get_one(StudyIdentity, other).patient_id = before


@pytest.mark.usefixtures("second_visit")
def test_another_study_of_the_patient_beside(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN).go(f"/studies/{world.study}")
    pixels(page)
    against = page.locator("#against")
    against.select_option(index=1)
    expect(page.locator("#beside")).to_be_visible()
    chosen = against.locator("option:checked").inner_text()
    expect(page.locator("#compared-text")).to_contain_text(f"{chosen}: ")
    page.locator("body").press("ArrowRight")
    pixels(page)
    expect(page.locator("#beside")).to_be_visible()
    against.select_option("")
    expect(page.locator("#beside")).to_be_hidden()
