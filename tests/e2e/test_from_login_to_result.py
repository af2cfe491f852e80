"""The way of a first-time user: one-time password, own password, a sample case, watching it finish, the receipt."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from db.states import Role
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.world import World

pytestmark = pytest.mark.browser


def test_the_one_time_password_opens_one_page_only(visit: Callable[..., Visitor], site: Site) -> None:
    visitor = visit()
    page = visitor.log_in(site.admin, site.one_time_password)
    expect(page).to_have_url(re.compile("/password"))
    visitor.go("/studies")
    expect(page).to_have_url(re.compile("/password"))
    page.locator("#old").fill(site.one_time_password)
    page.locator("#new").fill("quiet rivers carry stones")
    page.locator("#again").fill("quiet rivers carry stones")
    page.locator("main form button[type=submit]").click()
    expect(page).not_to_have_url(re.compile("/password"))
    visitor.go("/admin/users")
    expect(page.get_by_role("heading", name="Users")).to_be_visible()
    # The one-time password is worth nothing any more.
    late = visit()
    late.watch.expected_statuses = {401}
    late.log_in(site.admin, site.one_time_password)
    expect(late.page.get_by_role("alert")).to_be_visible()


def test_a_wrong_password_says_so_and_keeps_the_name(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.watch.expected_statuses = {401}
    page = visitor.log_in("nobody", "not the password at all")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    expect(page.locator("#username")).to_have_value("nobody")


def test_a_sample_case_is_sent_watched_and_read(visit: Callable[..., Visitor]) -> None:
    visitor = visit(Role.SUBMITTER)
    page = visitor.go("/submit")
    page.get_by_role("button", name="Submit: Example four").click()
    expect(page).to_have_url(re.compile("/jobs/"))
    # No reload from here on: the page follows the job by itself.
    expect(page.locator("#progress")).to_have_attribute("data-state", "succeeded", timeout=60_000)
    expect(page.locator("#progress")).to_contain_text("6 of 6 slices analysed")
    expect(page.get_by_text(re.compile(r"^6 files received"))).to_be_visible()
    page.locator(".study-card a").first.click()
    expect(page.locator("#counts")).to_contain_text("6 of 6 slices analysed")
    assert page.locator(".thumb").count() == 6
    assert page.locator(".thumb meter").count() == 6


def test_slices_appear_on_the_open_study_page_as_they_finish(visit: Callable[..., Visitor], site: Site) -> None:
    page = visit(Role.SUBMITTER).go("/submit")
    with site.nothing_is_analysed():
        page.get_by_role("button", name="Submit: Example three").click()
        page.locator(".study-card a").first.click(timeout=60_000)
        expect(page.locator("#live")).not_to_have_attribute("data-waiting", "0")
        expect(page.locator("#finding")).not_to_contain_text("No tumour")
        assert page.locator(".thumb meter").count() == 0
        page.evaluate("window.sameDocument = true")
    expect(page.locator("#live")).to_have_attribute("data-waiting", "0", timeout=60_000)
    assert page.locator(".thumb meter").count() == page.locator(".thumb").count()
    assert page.evaluate("window.sameDocument"), "the page was loaded anew"
    # The chosen slice got its bars and its heatmap too.
    expect(page.locator("#slice-facts .bars")).to_be_visible()


def test_a_cancelled_job_keeps_what_was_done_and_can_be_taken_up_again(
    visit: Callable[..., Visitor], site: Site
) -> None:
    page = visit(Role.SUBMITTER).go("/submit")
    page.on("dialog", lambda dialog: dialog.accept())
    with site.nothing_is_analysed():
        page.get_by_role("button", name="Submit: Example two").click()
        page.locator(".study-card").first.wait_for(timeout=60_000)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#progress")).to_have_attribute("data-state", "cancelled")
    page.get_by_role("button", name="Try again what failed or was cancelled").click()
    expect(page.locator("#progress")).to_have_attribute("data-state", "succeeded", timeout=60_000)


def test_the_receipt_adds_up_and_gives_a_sentence_for_each_file(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN).go(f"/jobs/{world.mixed_job}")
    line = page.get_by_text(re.compile("files received")).inner_text()
    total, parts = re.match(r"(\d+) files received = (.*)", line.replace("\n", " ")).groups()  # type: ignore[union-attr]
    assert int(total) == sum(int(number) for number in re.findall(r"(\d+) [a-z]", parts))
    outcomes = page.locator("td .badge[class*=outcome-]").all_inner_texts()
    assert len(outcomes) == int(total)
    assert {"accepted", "duplicate", "ignored"} <= set(outcomes)
    for row in page.locator("tr:has(.badge[class*=outcome-])").all():
        if row.locator(".outcome-accepted").count() == 0:
            assert row.locator("td").last.inner_text().strip().endswith(".")


def test_what_is_not_his_looks_as_if_it_did_not_exist(visit: Callable[..., Visitor], world: World) -> None:
    visitor = visit(Role.SUBMITTER)
    visitor.watch.expected_statuses = {404}
    for address in (f"/studies/{world.study}", f"/jobs/{world.job}", f"/predictions/{world.prediction}", "/nowhere"):
        page = visitor.go(address)
        expect(page.get_by_role("heading", name="Not found")).to_be_visible()


def test_the_language_and_the_theme_are_switched_and_kept(visit: Callable[..., Visitor]) -> None:
    visitor = visit(Role.SUBMITTER)
    page = visitor.go("/help")
    page.get_by_role("button", name="Bahasa Indonesia").click()
    expect(page.locator("html")).to_have_attribute("lang", "id")
    expect(page.get_by_role("heading", level=1)).to_have_text("Bantuan")
    visitor.go("/jobs")
    expect(page.locator("html")).to_have_attribute("lang", "id")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
