"""What only a browser shows of the training pages: they follow the database by themselves, and answer to hands."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from db.states import Role, RunState
from db.sweeps import RunEpoch, TrainingRun
from tests.e2e.conftest import Visitor
from tests.e2e.world import World

pytestmark = pytest.mark.browser


def test_sweep_and_run_pages_follow_the_training(visit: Callable[..., Visitor], world: World) -> None:
    trained = world.trained
    sweep, run = visit(Role.CLINICIAN), visit(Role.CLINICIAN)
    sweep.go(f"/sweeps/{trained.running}")
    run.go(f"/runs/{trained.live_run}")
    expect(sweep.page.locator("#progress")).to_contain_text("0 of 9 runs ended")
    expect(sweep.page.locator("#board tbody tr").first).to_contain_text("training")
    with sweep.site.database.write() as db:
        db.add(RunEpoch(run_id=trained.live_run, epoch=14, facts={"loss": 0.4321}))
        db.execute(
            update(TrainingRun)
            .where(TrainingRun.id == trained.live_run)
            .values(
                epochs_done=15,
                metrics={"validation.macro_f1": {"value": 0.91, "low": 0.88, "high": 0.94}},
            )
        )
    expect(run.page.locator("#live")).to_contain_text("epoch 15 of up to 50")
    run.page.get_by_text("The numbers of each epoch").click()
    expect(run.page.get_by_role("cell", name="0.4321")).to_be_visible()
    with sweep.site.database.write() as db:
        db.add(RunEpoch(run_id=trained.live_run, epoch=15, facts={"loss": 0.3456}))
    expect(run.page.get_by_role("cell", name="0.3456")).to_be_visible()  # what was opened stays open
    with sweep.site.database.write() as db:
        db.execute(update(TrainingRun).where(TrainingRun.id == trained.live_run).values(state=RunState.FINISHED))
    expect(sweep.page.locator("#progress")).to_contain_text("1 of 9 runs ended")
    expect(sweep.page.locator("#board tbody tr").first).to_contain_text("91.0 %")
    expect(run.page.locator("#live progress")).to_have_count(0)  # it loaded itself again, and asks no more


def test_a_sweep_is_begun_by_hand(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.ADMIN).go("/sweeps/new?file=thesis.yaml")
    text = page.get_by_label("Scenarios (YAML)")
    expect(page.locator("#extent")).to_contain_text("27 runs")
    text.fill("extends: thesis.yaml\nname: mine\ngrid:\n  network: [xception]\n  optimizer: [adam, sgd]\n")
    expect(page.locator("#extent")).to_contain_text("6 runs of up to 50 epochs each")
    page.get_by_label("Name").fill("By hand")
    page.get_by_label("Data set").select_option(label="public-axial (1829 slices)")
    page.get_by_role("button", name="Begin the sweep").click()
    expect(page.get_by_role("heading", name="By hand")).to_be_visible()
    expect(page.locator("#progress")).to_contain_text("being planned")


def test_runs_are_chosen_and_compared_by_keyboard(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN).go(f"/sweeps/{world.trained.finished}")
    boxes = page.locator("#board input[name=run]:not(:disabled)")
    boxes.nth(4).check()
    boxes.nth(5).check()
    boxes.nth(6).check()
    boxes.nth(7).check()
    expect(page.locator("#board input[name=run]:disabled").first).to_be_visible()  # no more than four
    page.locator(".grid-plot a").first.press("Enter")
    expect(page).to_have_url(re.compile("/runs/"))
    page.go_back()
    chosen = "&".join(f"run={run}" for run in world.trained.runs)
    page.goto(f"{page.url.partition('/sweeps')[0]}/runs/compare?{chosen}")
    expect(page.get_by_role("heading", name="Runs side by side")).to_be_visible()


def test_the_heatmap_of_a_mistake_fades(visit: Callable[..., Visitor], world: World) -> None:
    page = visit(Role.CLINICIAN).go(f"/runs/{world.trained.runs[0]}")
    gallery = page.locator("[data-gallery]").first
    gallery.scroll_into_view_if_needed()
    gallery.locator("[data-opacity]").fill("0")
    expect(gallery.locator(".layer").first).to_have_css("opacity", "0")
