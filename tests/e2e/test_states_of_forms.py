"""Forms in the states that a plain visit does not show: errors, secrets shown once, a list that is being sent.

Each is judged by axe-core in light and dark, at phone and desktop width, and must not scroll sideways.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from db.states import Role
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.test_every_page import faults
from tests.e2e.test_uploading import PUTS, choose_folder, hold
from tests.work_rig import pictures

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


def judge(page: Page) -> None:
    """Neither an accessibility fault nor sideways scrolling."""
    assert faults(page) == []
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window


@pytest.mark.parametrize(("scheme", "phone"), [("light", False), ("dark", True)], ids=["light-desktop", "dark-phone"])
def test_a_list_that_is_being_sent(visit: Visit, tmp_path: Path, scheme: str, phone: bool) -> None:
    for path, content in pictures(8, first_seed=700, folder="a rather long name of a ward").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    folder = tmp_path / "a rather long name of a ward"
    (folder / "empty.dcm").write_bytes(b"")
    visitor = visit(Role.SUBMITTER, scheme=scheme, phone=phone)
    page = visitor.go("/submit")
    page.evaluate(
        """() => {
          const size = Object.getOwnPropertyDescriptor(Blob.prototype, "size");
          Object.defineProperty(File.prototype, "size", {
            get() { return this.name === "slice 3.png" ? 600 * 1024 ** 2 : size.get.call(this); }
          });
        }"""
    )
    hold(page, after=2)
    choose_folder(page, folder)
    expect(page.locator("#problems li")).to_have_count(1)
    judge(page)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#rows .sent")).to_have_count(2)
    judge(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    judge(page)
    page.unroute(PUTS)
    page.reload()
    expect(page.locator("#resume")).to_be_visible()
    judge(page)
    page.get_by_role("button", name="Discard it").click()
    expect(page.locator("#resume")).to_be_hidden()


@pytest.mark.parametrize(("scheme", "phone"), [("light", False), ("dark", True)], ids=["light-desktop", "dark-phone"])
def test_secrets_shown_once_and_refusals(visit: Visit, site: Site, scheme: str, phone: bool) -> None:
    visitor = visit(Role.ADMIN, scheme=scheme, phone=phone)
    visitor.watch.expected_statuses = {401, 422}
    page = visitor.go("/account")
    page.get_by_label("What is it for?").fill("workstation")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("#token")).to_contain_text("nst_")
    judge(page)
    visitor.go("/admin/users")
    page.get_by_label("User name").fill(f"rina-{scheme}")
    page.get_by_role("button", name="Make the user").click()
    expect(page.locator("#one-time")).to_have_text(page.locator("#one-time").inner_text())
    judge(page)
    page.get_by_label("User name").fill("not a name")
    page.get_by_role("button", name="Make the user").click()
    expect(page.locator(".notice.error")).to_contain_text("expected 1 to 64")
    judge(page)
    visitor.go("/password")
    page.get_by_label("Old password").fill("wrong password here")
    page.get_by_label("New password", exact=True).fill("another long password")
    page.get_by_label("New password again").fill("another long password")
    page.get_by_role("button", name="Change the password").click()
    expect(page.locator(".notice.error")).to_contain_text("the old password is wrong")
    judge(page)
    stranger = visit(scheme=scheme, phone=phone)
    stranger.watch.expected_statuses = {401}
    stranger.log_in("nobody", "wrong password here")
    expect(stranger.page.locator(".notice.error")).to_be_visible()
    judge(stranger.page)


def test_a_token_is_copied_with_one_click(visit: Visit, site: Site) -> None:
    visitor = visit(Role.SUBMITTER)
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page = visitor.go("/account")
    page.get_by_label("What is it for?").fill("workstation")
    page.get_by_role("button", name="Make a token").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#token").inner_text()
