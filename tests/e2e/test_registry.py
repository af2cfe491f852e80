"""An admin's bad day in the browser: promotes with a reason, rolls back, sees the marks, runs everything again."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from db.checkpoints import Checkpoint
from db.doorbell import Doorbell
from db.jobs import JobStudy
from db.states import JobState, Role
from inference import artefact
from tests.e2e.conftest import Visitor
from tests.e2e.site import Site
from tests.e2e.world import World
from tests.work_rig import make_user, pictures, submit, wait_ended, wait_for

pytestmark = pytest.mark.browser


def second_model(site: Site) -> Checkpoint:
    """Puts another artefact into the models folder; housekeeping registers it."""
    folder = site.settings.models_dir
    tiny = artefact.load(folder / "tiny.neurosight")
    digest = artefact.write(
        folder / "other.neurosight",
        replace(tiny.manifest, temperature=3.0, members={}),
        tiny.weights(),
        tiny.openvino_xml,
        tiny.openvino_bin,
        tiny.model_card,
    )

    def registered() -> Checkpoint | None:
        with site.database.read() as session:
            return session.scalars(select(Checkpoint).where(Checkpoint.digest == digest)).one_or_none()

    return wait_for(registered, 30)


def test_promoted_rolled_back_marked_and_run_again(visit: Callable[..., Visitor], site: Site, world: World) -> None:
    other = second_model(site)
    visitor = visit(Role.ADMIN)
    page = visitor.go("/checkpoints")
    row = page.locator("#checkpoints tr", has_text="other")
    expect(row).to_contain_text("candidate")
    row.get_by_role("button", name="Promote …").click()
    page.get_by_label("Reason").fill("better on small tumours")
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.locator(".notice.good")).to_contain_text("other serves from now on")
    expect(page.locator("#checkpoints tr", has_text="other")).to_contain_text("serving")

    doorbell = Doorbell(site.settings)
    job = submit(site.database, site.settings, pictures(3, 500), user=make_user(site.database), doorbell=doorbell)
    doorbell.close()
    assert wait_ended(site.database, [job], 60) == [JobState.SUCCEEDED]
    with site.database.read() as session:
        study = session.scalars(select(JobStudy.study_id).where(JobStudy.job_id == job)).one()

    # One click, and the results of the model before are listed.
    visitor.go("/checkpoints")
    page.get_by_label("Reason").fill("misses what tiny finds")
    page.get_by_role("button", name=re.compile("Roll back to tiny")).click()
    expect(page).to_have_url(re.compile(f"/checkpoints/{other.id}/results"))
    expect(page.locator("#affected")).to_contain_text("3 slices in 1 study")
    visitor.go(f"/studies/{study}")
    expect(page.locator(".withdrawn").first).to_contain_text("misses what tiny finds")
    # A clinician sees the mark too, and cannot act.
    clinician = visit(Role.CLINICIAN)
    clinician.go(f"/checkpoints/{other.id}/results")
    expect(clinician.page.locator(".withdrawn")).to_be_visible()
    expect(clinician.page.get_by_role("button", name=re.compile("Run all again"))).to_have_count(0)

    visitor.go(f"/checkpoints/{other.id}/results")
    page.get_by_label("Priority").select_option("urgent")
    page.get_by_role("button", name=re.compile("Run all again with tiny")).click()
    expect(page).to_have_url(re.compile("/jobs/"))
    expect(page.locator("main")).to_contain_text("classified again")
    expect(page.locator("#progress")).to_have_attribute("data-state", "succeeded", timeout=60_000)
    visitor.go(f"/studies/{study}")
    expect(page.locator(".withdrawn")).to_have_count(0)
    # Both stay readable: the old results can be chosen, and say what they are.
    page.get_by_label("Results of").select_option(other.digest)
    page.locator("#choose-checkpoint button").click()
    expect(page.locator(".withdrawn").first).to_be_visible()
    expect(page.locator("#counts")).to_contain_text("3 of 3 slices analysed")

    # Which model served when, and a second admin's stale page is told.
    visitor.go("/checkpoints?at=2001-01-01T00:00")
    expect(page.locator("#served-then")).to_contain_text("no model served yet")

    visitor.go(f"/checkpoints/{other.id}/shadow")
    page.get_by_label("Newest studies").fill("5")
    page.get_by_role("button", name="Start a shadow run").click()
    expect(page.locator("#shadow")).to_have_attribute("data-state", "succeeded", timeout=60_000)
    expect(page.locator("#agreed")).to_be_visible()
