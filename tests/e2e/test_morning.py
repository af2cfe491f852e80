"""A clinician's morning by keyboard alone: from the worklist through a study and its sign-off to the next."""

import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from db.doorbell import Doorbell
from db.jobs import JobStudy
from db.queries import study_decisions
from db.reviews import DecisionKind
from db.standings import ReviewState, StudyStanding
from db.states import Role
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.work_rig import make_user, pictures, submit, wait_ended

pytestmark = pytest.mark.browser


@pytest.fixture
def studies(site: Site, request: pytest.FixtureRequest) -> list[uuid.UUID]:
    """Two studies that wait to be read, of this test alone: their titles begin with the last word of its name."""
    word = request.node.name.rpartition("_")[2]
    doorbell = Doorbell(site.settings)
    user = make_user(site.database, Role.SUBMITTER)
    jobs = [
        submit(site.database, site.settings, pictures(3, seed, folder=f"{word}-{seed}"), user=user, doorbell=doorbell)
        for seed in (7000 + 200 * len(word), 7100 + 200 * len(word))
    ]
    wait_ended(site.database, jobs, 60)
    doorbell.close()
    with site.database.read() as session:
        return list(session.scalars(select(JobStudy.study_id).where(JobStudy.job_id.in_(jobs))))


def press(page: Page, *keys: str) -> None:
    page.wait_for_load_state()  # the keys mean something when the page's scripts have run
    for key in keys:
        page.keyboard.press(key)


def on_slice(page: Page, place: int) -> None:
    """Waits until the panel is that of the slice at this place."""
    wanted = page.locator(".thumb").nth(place).get_attribute("data-slice") or "?"
    expect(page.locator("#slice-facts")).to_have_attribute("data-slice", wanted)


def test_a_morning_by_keyboard(visit: Callable[..., Visitor], site: Site, studies: list[uuid.UUID]) -> None:
    clara = visit(Role.CLINICIAN)
    page = clara.go("/worklist")
    press(page, "/")
    page.keyboard.type("keyboard-")
    press(page, "Enter")
    page.wait_for_url(re.compile("text=keyboard-"))
    expect(page.locator("tr[data-study]")).to_have_count(2)
    press(page, "j", "x", "m")  # the first one is mine now
    expect(page.locator(".notice.good")).to_contain_text("1 study was assigned")
    first = uuid.UUID(page.locator("tr[data-study]").first.get_attribute("data-study") or "")
    expect(page.locator("tr[data-study]").first).to_contain_text("Test clinician")
    press(page, "j", "Enter")
    page.wait_for_url(re.compile(f"/studies/{first}"))
    expect(page.locator("#overlay")).to_be_visible()
    press(page, "Home")
    on_slice(page, 0)
    press(page, "e")
    page.keyboard.type("seen twice")
    press(page, "Escape", "a")
    expect(page.locator("#decision .decided-by")).to_contain_text("seen twice")
    press(page, "j")
    on_slice(page, 1)
    expect(page.locator("#decision .decided-by")).to_contain_text("Nobody")
    press(page, "x")
    expect(page.locator("#decision .decided-by")).to_contain_text("not assessable")
    press(page, "s")
    expect(page.locator("#study-label")).to_be_focused()
    page.keyboard.type("glioma")
    press(page, "Tab")
    page.keyboard.type("as expected")
    press(page, "Enter")
    expect(page.locator(".notice.good")).to_contain_text("signed off")
    expect(page.locator("#review .decided-by")).to_contain_text("glioma")
    report = page.request.get(site.url + (page.locator("#report").get_attribute("href") or ""))
    assert report.body().startswith(b"%PDF-")
    with site.database.read() as session:
        assert session.get_one(StudyStanding, first).review_state == ReviewState.SIGNED
        newest = study_decisions.newest(session, first)
        assert newest is not None
        assert (newest.kind, newest.label, newest.note) == (DecisionKind.SIGN_OFF, "glioma", "as expected")
    press(page, "n")
    page.wait_for_url(lambda url: "/studies/" in url and str(first) not in url)
    press(page, "w")
    page.wait_for_url(re.compile("/worklist$"))
    assert page.locator(f"tr[data-study='{first}']").count() == 0


def test_a_colleague_in_between_is_no_surprise_at_the_sign_off(
    visit: Callable[..., Visitor], site: Site, studies: list[uuid.UUID]
) -> None:
    page = visit(Role.CLINICIAN).go(f"/studies/{studies[1]}")
    colleague = visit(Role.ADMIN).go(f"/studies/{studies[1]}")
    press(colleague, "End")
    on_slice(colleague, 2)
    press(colleague, "x")
    expect(colleague.locator("#decision .decided-by")).to_contain_text("not assessable")
    press(page, "Home")
    on_slice(page, 0)
    press(page, "x")  # her own decision must not hide that the colleague decided
    expect(page.locator("#decision .decided-by")).to_contain_text("not assessable")
    for said in ("has changed since you opened it", "The study is signed off"):
        press(page, "s")
        expect(page.locator("#study-label")).to_be_focused()
        page.keyboard.type("glioma")
        expect(page.locator("#study-label")).to_have_value("glioma")
        press(page, "Tab")
        expect(page.locator("#study-note")).to_be_focused()
        press(page, "Enter")
        expect(page.locator(".notice", has_text=said)).to_be_visible()
