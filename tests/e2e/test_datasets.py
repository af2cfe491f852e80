"""A folder becomes a data set and its copies are looked at; a clinician decides about slices by keyboard."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from db.states import Role
from tests.dataset_rig import class_folders, work
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.world import World

pytestmark = pytest.mark.browser


def test_a_folder_is_registered_and_its_copies_stand_side_by_side(visit: Callable[..., Visitor], site: Site) -> None:
    folder = class_folders(site.settings.datasets_dir / "fresh", {"glioma": 12, "meningioma": 10}, first_seed=500)
    (folder / "meningioma" / "0.png").write_bytes((folder / "glioma" / "0.png").read_bytes())
    visitor = visit(Role.ADMIN)
    page = visitor.go("/datasets")
    page.get_by_role("button", name="Register a data set").click()
    form = page.locator("form", has=page.locator("#folder"))
    form.get_by_label("Name of the data set").fill("Fresh pictures")
    form.get_by_label("Folder").select_option("fresh")
    form.get_by_role("button", name="Register the folder").click()
    expect(page.locator("#state")).to_contain_text("waits for a worker")
    work(site.settings)
    expect(page.locator("#copies")).to_be_visible()  # the page turned by itself
    doubtful = page.locator("#copies-cross_label")
    expect(doubtful).to_contain_text("1")
    pictures = doubtful.locator(".pair img")
    expect(pictures).to_have_count(2)
    for number in range(2):
        expect(pictures.nth(number)).to_have_js_property("naturalWidth", 48)
    expect(page.locator("#problems")).to_contain_text("two different labels")
    page.locator(".by-class[open]").scroll_into_view_if_needed()
    expect(page.locator(".by-class[open] .sample")).to_have_count(12)
    for picture in page.locator("img:visible").all():  # none is on its way still when the data set goes
        picture.scroll_into_view_if_needed()
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the data set").click()
    expect(page.get_by_text("The data set was deleted.")).to_be_visible()


def decided(page: Page) -> str:
    return page.locator("#decision .decided-by").inner_text()


def test_slices_are_confirmed_by_keyboard_and_nobody_is_overwritten(
    visit: Callable[..., Visitor], world: World
) -> None:
    clinician, admin = visit(Role.CLINICIAN), visit(Role.ADMIN)
    page, other = clinician.go(f"/studies/{world.study}"), admin.go(f"/studies/{world.study}")
    slice_id = page.locator("#slice-facts").get_attribute("data-slice")
    guess = page.locator(".verdict strong").inner_text()
    mark = page.locator(f'.thumb[data-slice="{slice_id}"] .decided')
    expect(mark).to_be_hidden()
    page.keyboard.press("a")
    expect(page.locator("#decision .decided-by")).to_contain_text(f"✓ {guess} Test clinician")
    expect(mark).to_have_text(f"✓ {guess}")
    page.locator("#decision-note").fill("axa")  # letters in a field decide nothing
    page.locator("#decision-note").press("Enter")
    page.locator("#stage").focus()
    page.keyboard.press("x")
    expect(page.locator("#decision .decided-by")).to_contain_text("not assessable")
    expect(page.locator("#decision .decided-by")).to_contain_text("axa")
    admin.watch.expected_statuses.add(409)
    other.keyboard.press("a")
    expect(other.locator("#decision [role=alert]")).to_contain_text("Test clinician has decided")
    expect(other.locator("#decision .decided-by")).to_contain_text("not assessable")
    page.keyboard.press("u")
    expect(page.locator("#decision .decided-by")).to_contain_text(f"✓ {guess}")
    page.reload()
    assert f"✓ {guess}" in decided(page)
    expect(page.locator("#decision summary")).to_contain_text("3 decisions")
    page.keyboard.press("j")
    expect(page.locator("#decision .decided-by")).to_contain_text("Nobody has")
