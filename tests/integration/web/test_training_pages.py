"""Sweeps and runs over HTTP: begin, refuse, steer, watch, compare, export; and what is written to the audit trail."""

import csv
import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select, update

from config import scenario_texts
from config.settings import Settings
from db.jobs import WorkItem
from db.queries import heartbeats
from db.states import ItemState, Role, RunState, SweepState
from db.sweeps import RunEpoch, Sweep, TrainingRun
from tests.training_world import TrainingWorld, plant
from tests.web_world import World
from web import create_app

HTML = {"Accept": "text/html"}
API = "/api/v1"


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    """Clara (clinician) and ada (admin). What the database decides is tested on both databases beside the queries."""
    settings = Settings(var_dir=tmp_path, database_url=sqlite_url, min_free_disk_bytes=0)
    made = World(create_app(settings), settings)
    made.add("clara", Role.CLINICIAN)
    made.add("ada", Role.ADMIN)
    yield made
    made.close()


@pytest.fixture
def trained(world: World) -> TrainingWorld:
    return plant(world.database, world.people["ada"].id, scenarios="light.yaml")


def page(world: World, address: str, who: str = "clara", **headers: str) -> str:
    answer = world.ask(world.people[who], "GET", address, headers={**HTML, **headers})
    assert answer.status_code == 200, answer.text
    return answer.text


def state_of(world: World, sweep_id: uuid.UUID) -> str:
    with world.database.read() as db:
        return str(db.get_one(Sweep, sweep_id).state)


def test_a_sweep_is_begun_and_waits_for_a_worker(world: World, trained: TrainingWorld) -> None:
    ada = world.people["ada"]
    wanted = {"name": "Mine", "dataset_id": str(trained.dataset), "scenario_file": "thesis.yaml"}
    answer = world.ask(ada, "POST", f"{API}/sweeps", json=wanted)
    assert answer.status_code == 202, answer.text
    document = answer.json or {}
    assert (document["state"], document["begun_by"], document["scenario_file"]) == ("planning", "ada", "thesis.yaml")
    assert document["scenario_text"] == scenario_texts.read("thesis.yaml")
    with world.database.read() as db:
        item = db.scalars(select(WorkItem).where(WorkItem.sweep_id == uuid.UUID(document["id"]))).one()
        assert item.state == ItemState.PENDING
    assert world.audited("sweep.create", "ok", document["id"]) == 1
    assert "It waits for a worker of the registry" in page(world, f"/sweeps/{document['id']}")
    with world.database.write() as db:
        heartbeats.beat(db, name="r", queues=["registry"], engine="", checkpoint_id=None, facts={})
    assert "A worker reads the scenarios" in page(world, f"/sweeps/{document['id']}")


def test_a_sweep_that_waits_for_tensorflow_says_how_to_get_it(world: World, trained: TrainingWorld) -> None:
    assert "No training worker is running" in page(world, "/sweeps/new", "ada")
    with world.database.write() as db:
        heartbeats.beat(
            db, name="t", queues=["training"], engine="", checkpoint_id=None, facts={"missing": "tensorflow"}
        )
    assert "make environment-train installs it" in page(world, "/sweeps/new", "ada")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"dataset_id": str(uuid.uuid4())}, "no_dataset"),
        ({"scenario_file": "nothing.yaml"}, "no_scenario_file"),
        ({"scenario_file": "../settings.py"}, "no_scenario_file"),
        ({"scenario_file": "", "scenario_text": "  "}, "no_scenarios"),
        ({"name": "   "}, "no_name"),
    ],
)
def test_what_cannot_be_begun_is_refused_at_once(
    world: World, trained: TrainingWorld, change: dict[str, str], code: str
) -> None:
    wanted = {"name": "Mine", "dataset_id": str(trained.dataset), "scenario_file": "thesis.yaml", **change}
    answer = world.ask(world.people["ada"], "POST", f"{API}/sweeps", json=wanted)
    assert (answer.status_code, (answer.json or {})["code"]) == (422, code)
    assert world.audited("sweep.create") == 0


def test_the_form_keeps_what_was_typed(world: World, trained: TrainingWorld) -> None:
    ada = world.people["ada"]
    fields = {"name": "", "dataset": str(trained.dataset), "file": "thesis.yaml", "text": "name: half-written"}
    answer = world.ask(ada, "POST", "/sweeps", data=fields, headers=HTML)
    assert answer.status_code == 422
    assert "Give the sweep a name" in answer.text
    assert ">name: half-written</textarea>" in answer.text
    answer = world.ask(ada, "POST", "/sweeps", data={**fields, "name": "Mine"}, headers=HTML)
    assert answer.status_code == 303
    with world.database.read() as db:
        made = db.get_one(Sweep, uuid.UUID(answer.headers["Location"].rpartition("/")[2]))
        # An edited text is nobody's file any more.
        assert (made.scenario_file, made.scenario_text) == ("", "name: half-written")


def test_the_form_says_what_it_would_cost(world: World, trained: TrainingWorld) -> None:
    text = page(world, "/sweeps/new?file=thesis.yaml", who="ada")
    assert "This makes 27 runs of up to 50 epochs each." in text
    assert "No training worker is running" in text
    answer = world.ask(world.people["ada"], "POST", "/sweeps/extent", data={"text": "name: ["}, headers=HTML)
    assert "cannot be told yet" in answer.text


def test_a_refused_sweep_lists_its_mistakes_and_takes_the_corrected_text(world: World, trained: TrainingWorld) -> None:
    text = page(world, f"/sweeps/{trained.refused}", who="ada")
    assert "did you mean adam" in text
    assert "Send the corrected text" in text
    assert "extends: thesis.yaml" in text  # the text is there to be corrected
    seen = page(world, f"/sweeps/{trained.refused}")
    assert "did you mean adam" in seen
    assert "Send the corrected text" not in seen  # clinicians look only
    document = world.json(world.people["clara"], f"{API}/sweeps/{trained.refused}")
    assert [problem["line"] for problem in document["problems"]] == [42, 58]


def test_pause_resume_cancel_and_retry_are_audited_and_refused_when_nothing_changes(
    world: World, trained: TrainingWorld
) -> None:
    ada = world.people["ada"]

    def act(kind: str, number: object, action: str) -> int:
        return world.ask(ada, "POST", f"{API}/{kind}/{number}/{action}").status_code

    assert act("sweeps", trained.running, "pause") == 200
    assert state_of(world, trained.running) == SweepState.PAUSED
    assert act("sweeps", trained.running, "pause") == 409
    assert act("sweeps", trained.running, "resume") == 200
    assert act("sweeps", trained.running, "cancel") == 200
    assert act("sweeps", trained.finished, "cancel") == 409
    assert act("runs", trained.failed_run, "retry") == 202
    assert act("runs", trained.failed_run, "retry") == 409
    assert act("runs", trained.runs[0], "retry") == 409  # finished runs stay as they are
    assert state_of(world, trained.finished) == SweepState.RUNNING
    counts = {name: world.audited(f"sweep.{name}", "ok", trained.running) for name in ("pause", "resume", "cancel")}
    assert counts == {"pause": 1, "resume": 1, "cancel": 1}
    assert world.audited("run.retry", "ok", trained.failed_run) == 1


def test_the_forms_steer_as_well(world: World, trained: TrainingWorld) -> None:
    ada = world.people["ada"]
    for address, after in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = world.ask(ada, "POST", f"/sweeps/{trained.running}/{address}", headers=HTML)
        assert answer.status_code == 303
        assert state_of(world, trained.running) == after
    assert world.ask(ada, "POST", f"/runs/{trained.failed_run}/retry", headers=HTML).status_code == 303
    with world.database.read() as db:
        assert db.get_one(TrainingRun, trained.failed_run).state == RunState.PENDING


def test_the_leaderboard_is_by_validation_and_warns_of_choosing_by_test(world: World, trained: TrainingWorld) -> None:
    address = f"/sweeps/{trained.finished}"
    text = page(world, address)
    assert 'value="validation.macro_f1" selected' in text
    assert "This order is by the test part" not in text
    assert "whoever chooses by it has nothing left to check with" in text
    by_test = page(world, f"{address}?sort=test.accuracy")
    assert "This order is by the test part" in by_test
    assert page(world, f"{address}?sort=no.such.metric").count('value="validation.macro_f1" selected') == 1
    failed = page(world, f"{address}?state=failed")
    assert failed.count('name="run"') == 0
    assert "Try again" not in failed  # an administrator's
    assert "Try again" in page(world, f"{address}?state=failed", who="ada")
    assert "No run matches" in page(world, f"{address}?network=nothing")
    runs = world.json(world.people["clara"], f"{API}/sweeps/{trained.finished}/runs")
    values = [row["metrics"]["validation.macro_f1"]["value"] for row in runs["runs"] if row["metrics"]]
    assert values == sorted(values, reverse=True)


def test_progress_is_a_fragment_that_calls_for_the_leaderboard_when_a_run_ends(
    world: World, trained: TrainingWorld
) -> None:
    clara, htmx = world.people["clara"], {"HX-Request": "true", **HTML}
    address = f"/sweeps/{trained.running}"
    quiet = world.ask(clara, "GET", f"{address}?state=running&ended=0", headers=htmx)
    assert "<html" not in quiet.text
    assert "epoch 14 of up to 50" in quiet.text
    assert "HX-Trigger" not in quiet.headers
    with world.database.write() as db:
        db.execute(update(TrainingRun).where(TrainingRun.id == trained.live_run).values(state=RunState.FINISHED))
    ended = world.ask(clara, "GET", f"{address}?state=running&ended=0", headers=htmx)
    assert ended.headers["HX-Trigger"] == "runs-changed"
    board = world.ask(clara, "GET", f"{address}?part=board", headers=htmx)
    assert board.text.lstrip().startswith('<section id="board"')
    with world.database.write() as db:
        db.execute(update(Sweep).where(Sweep.id == trained.running).values(state=SweepState.FINISHED))
    last = world.ask(clara, "GET", f"{address}?state=running&ended=1", headers=htmx)
    assert last.headers["HX-Refresh"] == "true"


def test_a_run_shows_its_curves_as_they_grow_and_its_report_at_the_end(world: World, trained: TrainingWorld) -> None:
    clara, htmx = world.people["clara"], {"HX-Request": "true", **HTML}
    live = f"/runs/{trained.live_run}"
    before = world.ask(clara, "GET", live, headers=htmx).text
    with world.database.write() as db:
        db.add(RunEpoch(run_id=trained.live_run, epoch=14, facts={"loss": 0.1234, "validation_loss": 0.2}))
    after = world.ask(clara, "GET", live, headers=htmx).text
    assert "0.1234" in after
    assert "0.1234" not in before
    text = page(world, f"/runs/{trained.runs[0]}")
    for words in (
        "On the validation part",
        "On the test part",
        "Confusion matrix",
        "Precision-recall curves",
        "Reliability",
        "By plane",
        "By patient",
        "Mistakes with the highest probability",
        "What the check for copies found",
        "python -m training run",
        "Peak memory",
    ):
        assert words in text, words
    assert world.audited("run.view", "ok", trained.runs[0]) == 1  # it shows slices and patients' names
    page(world, f"/runs/{trained.runs[0]}")
    assert world.audited("run.view", "ok", trained.runs[0]) == 1  # the same look
    assert "Try again" in page(world, f"/runs/{trained.failed_run}", who="ada")


def test_pictures_of_mistakes_belong_to_their_run(world: World, trained: TrainingWorld) -> None:
    clara = world.people["clara"]
    for name in ("picture", "layer"):
        answer = world.ask(clara, "GET", f"/runs/{trained.runs[0]}/mistakes/{trained.mistake}/{name}.png")
        assert answer.data.startswith(b"\x89PNG")
        assert "private" in answer.headers["Cache-Control"]
        wrong = world.ask(clara, "GET", f"/runs/{trained.runs[1]}/mistakes/{trained.mistake}/{name}.png")
        assert wrong.status_code == 404


def test_runs_side_by_side(world: World, trained: TrainingWorld) -> None:
    one, two = trained.runs[:2]
    text = page(world, f"/runs/compare?run={one}&run={two}")
    assert "McNemar" in text
    assert "Fields that differ" in text
    assert text.count('<table class="confusion">') == 4  # two runs, two parts
    clara = world.people["clara"]

    def status(*runs: object) -> int:
        return world.ask(clara, "GET", "/runs/compare", query_string=[("run", run) for run in runs]).status_code

    assert status(one) == 422
    assert status(one, one) == 422
    assert status(*(uuid.uuid4() for _ in range(5))) == 422
    assert status(one, "nonsense") == 404
    assert status(one, trained.failed_run) == 409


def test_a_split_by_images_is_marked_wherever_its_numbers_stand(world: World, trained: TrainingWorld) -> None:
    with world.database.write() as db:
        run = db.get_one(TrainingRun, trained.runs[0])
        run.scenario = {**run.scenario, "split_rule": "image"}
    assert "Split by images, not by patients." in page(world, f"/runs/{trained.runs[0]}")
    assert "split images and not patients" in page(world, f"/sweeps/{trained.finished}")


def test_exports(world: World, trained: TrainingWorld) -> None:
    clara, sweep = world.people["clara"], f"{API}/sweeps/{trained.finished}"
    rows = list(csv.DictReader(io.StringIO(world.ask(clara, "GET", f"{sweep}/leaderboard.csv").text)))
    assert len(rows) == 18
    assert rows[0]["place"] == "1"
    assert float(rows[0]["validation.macro_f1.low"]) <= float(rows[0]["validation.macro_f1"])
    assert rows[-1]["failure"] == "diverged"
    whole = world.json(clara, f"{sweep}/export.json")
    assert len(whole["all_runs"]) == 18
    assert whole["all_runs"][0]["epochs"][0]["epoch"] == 0
    run = world.json(clara, f"{API}/runs/{trained.runs[0]}/export.json")
    assert run["report"]["slices"]["test"][0]["file"] == "images/test/0.jpg"
    assert world.audited("run.export", "ok", trained.runs[0]) == 1


def test_the_mlflow_zip_is_a_file_store(world: World, trained: TrainingWorld) -> None:
    answer = world.ask(world.people["clara"], "GET", f"{API}/sweeps/{trained.finished}/mlflow.zip")
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    answer.close()  # it is a file
    names = archive.namelist()
    [experiment] = [name for name in names if name.count("/") == 2 and name.endswith("meta.yaml")]
    folder = experiment.rpartition("/")[0]
    assert yaml.safe_load(archive.read(experiment))["name"] == "Thesis, axial"
    run = f"{folder}/{trained.runs[0].hex}"
    meta: dict[str, Any] = yaml.safe_load(archive.read(f"{run}/meta.yaml"))
    assert (meta["run_id"], meta["status"], meta["artifact_uri"]) == (trained.runs[0].hex, 3, f"./{run}/artifacts")
    lines = archive.read(f"{run}/metrics/validation_loss").decode().splitlines()
    assert [int(line.split(" ")[2]) for line in lines] == list(range(len(lines)))
    assert archive.read(f"{run}/params/optimizer") == b"adam"
    assert archive.read(f"{run}/tags/mlflow.runName").decode().startswith("light-")
    assert json.loads(archive.read(f"{run}/artifacts/report.json"))["test"]["slices"] == 200
    assert any(name.startswith(f"{run}/artifacts/mistakes/") for name in names)
    assert len([name for name in names if name.endswith("/meta.yaml")]) == 1 + 18


def test_the_list_and_its_empty_state(world: World) -> None:
    empty = page(world, "/sweeps", who="ada")
    assert "No sweep was begun yet." in empty
    assert "First register a data set" in empty
    trained = plant(world.database, world.people["ada"].id, scenarios="light.yaml")
    listed = page(world, "/sweeps")
    assert str(trained.finished) in listed
    assert "2 mistakes in its scenarios" in listed
    assert 'href="/sweeps/new"' not in listed  # an administrator's
    rows = world.json(world.people["clara"], f"{API}/sweeps?page_size=1")
    assert (rows["total"], len(rows["sweeps"])) == (4, 1)
