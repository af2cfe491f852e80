"""A model that does not answer for some slices: on the page, in summary, API, CSV and DICOM; never a negative."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.settings import Settings, load_settings
from db.states import Role
from tests.guarded_artefact import write_guarded
from tests.web_world import World
from tests.work_rig import picture
from web import create_app
from worker.housekeeping import Housekeeper


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    models = tmp_path / "models"
    digest = write_guarded(models / "guarded.neurosight")
    (models / "DEFAULT").write_text(f"{digest}  guarded.neurosight\n")
    settings: Settings = load_settings(
        var_dir=tmp_path / "var", database_url=sqlite_url, min_free_disk_bytes=0, models_dir=models
    )
    with Housekeeper(settings) as housekeeper:
        housekeeper.register_models()
    made = World(create_app(settings), settings)
    for username, role in (("ann", Role.SUBMITTER), ("clara", Role.CLINICIAN)):
        made.add(username, role)
    yield made
    made.close()


def inverted(seed: int) -> bytes:
    grey = cv2.imdecode(np.frombuffer(picture(seed), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    return cv2.imencode(".png", 255 - grey)[1].tobytes()


def test_what_is_not_answered_is_shown_as_such_everywhere(world: World) -> None:
    ann, clara = world.people["ann"], world.people["clara"]
    study = world.finished(ann, {"a.png": picture(1), "b.png": inverted(2), "c.png": picture(3)})["studies"][0]

    found = world.json(ann, study["links"]["results"])
    rows = {row["path"]: row for row in found["slices"]}
    refused, answered = rows["b.png"]["prediction"], rows["a.png"]["prediction"]
    assert (refused["abstention"], answered["abstention"]) == ("bright_border", "")
    assert refused["guard"]["border"] > 1 > answered["guard"]["border"]
    summary = world.json(ann, study["links"]["self"])["summary"]
    assert (summary["analysed"], summary["abstained"], summary["failed"]) == (2, 1, 0)
    assert sum(item["slices"] for item in summary["support"]) == 2, "its class counts for nothing"
    assert summary["finding"] != "no_tumour"
    assert world.ask(ann, "GET", refused["links"]["heatmap"]).status_code == 404
    assert world.ask(ann, "GET", answered["links"]["heatmap"]).status_code == 200
    receipt = world.json(ann, refused["links"]["receipt"])
    assert (receipt["abstention"], receipt["heatmap"]) == ("bright_border", None)

    lines = list(csv.DictReader(io.StringIO(world.ask(ann, "GET", study["links"]["results"] + ".csv").text)))
    assert {line["path"]: line["abstained"] for line in lines} == {"a.png": "", "b.png": "bright_border", "c.png": ""}

    page = world.ask(clara, "GET", f"/studies/{study['id']}?slice={rows['b.png']['id']}").text
    assert "No answer: needs a human look" in page
    assert "The edge of the picture is bright" in page
    assert "1 without an answer" in page
    assert page.count("data-layer=") == 2
    assert page.count('data-key="a"') == 0, "nobody can agree with an answer that was not given"
    assert "Checks before the answer" in page
    assert "No answer: needs a human look" in world.ask(clara, "GET", f"/predictions/{refused['id']}").text
    exported = world.ask(clara, "GET", f"/api/v1/studies/{study['id']}/dicom.zip")
    assert exported.status_code == 200


def test_a_study_without_any_answer_needs_a_human_look(world: World) -> None:
    ann = world.people["ann"]
    study = world.finished(ann, {"a.png": inverted(1), "b.png": inverted(2)})["studies"][0]
    summary = world.json(ann, study["links"]["self"])["summary"]
    assert (summary["finding"], summary["analysed"], summary["abstained"]) == ("uncertain", 0, 2)
    page = world.ask(ann, "GET", f"/studies/{study['id']}").text
    assert "Uncertain: needs a human look" in page
    assert "0 of 2 slices analysed" in page
