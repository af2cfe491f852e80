"""Planes that the model was not trained on, series by rule and by hand: states that add up, and nothing done twice."""

import io
import zipfile
from typing import Any, Final

import numpy as np
import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from db.checkpoints import Checkpoint
from db.jobs import WorkItem
from db.predictions import Prediction
from tests.unit.imaging.dicom_files import mr, to_bytes
from tests.web_world import Person, World
from tests.work_rig import picture

AXIAL: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL: Final = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL: Final = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE: Final = (0.7071, 0.7071, 0.0, 0.5, -0.5, -0.7071)


def series(
    study: int,
    number: int,
    slices: int,
    orientation: tuple[float, ...] | None,
    description: str = "",
    folder: str = "",
    **attributes: Any,
) -> dict[str, bytes]:
    """A series of small DICOM files, 5 mm apart."""
    rng = np.random.default_rng(1000 * study + number)
    rows, columns = np.mgrid[0:64, 0:64] / 31.5 - 1
    files = {}
    for place in range(slices):
        head = 900.0 * (rows**2 + columns**2 < 0.7) + rng.normal(60, 8, (64, 64)).clip(0)
        lies: dict[str, Any] = {}
        if orientation:
            lies = {"ImageOrientationPatient": list(orientation), "ImagePositionPatient": [5 * place] * 3}
        files[f"{folder or f'se{number}'}/{place}.dcm"] = to_bytes(
            mr(
                head.astype(np.uint16),
                StudyInstanceUID=f"2.25.7{study}",
                SeriesInstanceUID=f"2.25.7{study}.{number}",
                SOPInstanceUID=f"2.25.7{study}.{number}.{place + 1}",
                SeriesNumber=number,
                InstanceNumber=place + 1,
                SeriesDescription=description,
                **lies,
                **attributes,
            )
        )
    return files


def only_axial(world: World) -> None:
    """The serving model is one of axial slices."""
    with world.database.write() as db:
        checkpoint = db.scalars(select(Checkpoint)).one()
        checkpoint.manifest = {**checkpoint.manifest, "planes": ["axial"]}


def predictions(world: World) -> int:
    with world.database.read() as db:
        return db.scalar(select(func.count()).select_from(Prediction)) or 0


def study_of(world: World, who: Person, job: dict[str, Any]) -> dict[str, Any]:
    return world.json(who, job["studies"][0]["links"]["self"])


def test_other_planes_are_shown_marked_and_classified_when_somebody_asks(world: World) -> None:
    only_axial(world)
    ann, bob, clara = world.people["ann"], world.people["bob"], world.people["clara"]
    files = {
        **series(1, 1, 1, AXIAL, "3-plane loc", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        **series(1, 2, 4, AXIAL, "t1 axial"),
        **series(1, 3, 3, SAGITTAL, "t1 sag"),
        **series(1, 4, 2, OBLIQUE, "t2 oblique"),
        **series(1, 5, 1, None, "no geometry"),
    }
    job = world.finished(ann, files)
    assert (job["state"], job["fraction"]) == ("succeeded", 1.0)
    assert job["slices"] == {"total": 11, "pending": 0, "done": 5, "failed": 0, "cancelled": 0, "left_out": 6}

    study = study_of(world, ann, job)
    summary = study["summary"]
    assert (summary["analysed"], summary["failed"], summary["waiting"], summary["not_asked"]) == (5, 0, 0, 0)
    assert summary["left_out"] == {"plane_not_trained": 5, "scout": 1}
    assert summary["finding"] != "no_tumour"
    assert {item["number"]: item["untrained"] for item in study["series"]} == {
        1: {"localizer": 1},
        2: {},
        3: {"sagittal": 3},
        4: {"oblique": 2},
        5: {},
    }
    results = world.json(ann, study["links"]["results"])["slices"]
    of_plane = {item["plane"]: item for item in results}
    assert of_plane["sagittal"]["state"] == "left_out"
    assert of_plane["sagittal"]["failure"]["sentence"].startswith("Plane sagittal: not classified by this model")
    assert of_plane["localizer"]["failure"]["code"] == "scout"
    assert of_plane[None]["state"] == "done"  # a file that says nothing of its plane

    page = f"/studies/{study['id']}"
    client = world.client()
    world_login(client, world, ann)
    text = client.get(page).text
    for words in ("Classify these too", "sagittal: not classified", "plane unknown", "not trained on"):
        assert words in text, words
    job_page = client.get(f"/jobs/{job['id']}").text
    for words in ("5 of 11 slices analysed", "1 scout picture not classified", "5 not classified: the model was not"):
        assert words in job_page, words

    assert world.ask(bob, "POST", f"/api/v1{page}/classify", json={}).status_code == 404
    before = predictions(world)
    asked = world.ask(ann, "POST", f"/api/v1{page}/classify", json={})
    assert (asked.status_code, said(asked)["slices"]) == (202, 6)
    assert world.json(ann, f"/api/v1/jobs/{said(asked)['job_id']}")["purpose"] == "selection"
    assert study_of(world, ann, job)["summary"]["waiting"] == 6
    world.work()
    assert predictions(world) == before + 6
    summary = study_of(world, ann, job)["summary"]
    assert (summary["analysed"], summary["left_out"], summary["waiting"]) == (11, {}, 0)
    again = world.ask(ann, "POST", f"/api/v1{page}/classify", json={})
    assert (again.status_code, said(again)["job_id"]) == (202, None)
    assert world.audited("study.classify_left_out", object_id=study["id"]) == 1

    # What was asked for is marked, on the page and in the rows.
    results = world.json(ann, study["links"]["results"])["slices"]
    marked = {item["plane"]: item["untrained_plane"] for item in results}
    assert marked == {"axial": "", None: "", "sagittal": "sagittal", "oblique": "oblique", "localizer": "localizer"}
    sagittal = next(item["id"] for item in results if item["plane"] == "sagittal")
    assert "Sagittal: the model was not trained on such slices" in client.get(f"{page}/slices/{sagittal}").text
    assert "untrained_plane" in world.ask(clara, "GET", study["links"]["results_csv"]).text.splitlines()[0]

    exported = world.ask(clara, "GET", f"/api/v1{page}/dicom.zip")
    with zipfile.ZipFile(io.BytesIO(exported.data)) as archive:
        report = archive.read("report.dcm").decode("utf-8", "replace")
    assert report.count("(sagittal: model not trained on this plane)") == 3

    # The same files again: everything is known.
    assert world.finished(ann, files)["slices"]["done"] == 11
    assert predictions(world) == before + 6


def test_rules_choose_series_and_people_change_the_choice(world: World) -> None:
    world.settings = world.settings.model_copy(update={"series_rules": "t1_contrast,axial,largest; t1,axial"})
    ann, clara = world.people["ann"], world.people["clara"]
    job = world.finished(
        ann,
        {
            **series(2, 1, 5, AXIAL, "t1 axial"),
            **series(2, 2, 2, AXIAL, "t1 ax +c"),
            **series(2, 3, 3, AXIAL, "t1 ax post gd"),
            **series(2, 4, 4, SAGITTAL, "t1 sag +c"),
        },
    )
    assert (job["state"], job["slices"]["done"], job["slices"]["left_out"]) == ("succeeded", 3, 11)
    study = study_of(world, clara, job)
    assert {item["number"]: item["chosen"] for item in study["series"]} == {1: False, 2: False, 3: True, 4: False}
    assert {item["chosen_by"] for item in study["series"]} == {"t1_contrast,axial,largest"}
    assert study["summary"]["left_out"] == {"series_not_chosen": 11}
    assert study["summary"]["finding"] != "no_tumour"

    ids = {item["number"]: item["id"] for item in study["series"]}
    address = f"/api/v1/studies/{study['id']}/series"
    assert world.ask(ann, "POST", address, json={"chosen": []}).status_code == 403
    wrong = world.ask(clara, "POST", address, json={"chosen": [study["id"]]})
    assert (wrong.status_code, said(wrong)["code"]) == (422, "series_unknown")
    changed = world.ask(clara, "POST", address, json={"chosen": [ids[1], ids[3], ids[4]]})
    assert said(changed) == {"job_id": said(changed)["job_id"], "slices": 9, "chosen": 2, "left": 0}
    world.work()
    assert predictions(world) == 12
    # Left again while it waits: what waits is left out, what is there stays.
    changed = world.ask(clara, "POST", address, json={"chosen": [ids[2], ids[3]]})
    assert (said(changed)["slices"], said(changed)["chosen"], said(changed)["left"]) == (2, 1, 2)
    world.ask(clara, "POST", address, json={"chosen": [ids[3]]})
    waiting = world.json(clara, f"/api/v1/jobs/{said(changed)['job_id']}")
    assert (waiting["state"], waiting["slices"]["left_out"]) == ("succeeded", 2)
    world.work()
    assert predictions(world) == 12
    with world.database.read() as db:
        assert not db.scalar(select(func.count()).select_from(WorkItem).where(WorkItem.state == "pending"))
    after = study_of(world, clara, job)
    assert {item["number"]: (item["chosen"], item["chosen_by"], item["analysed"]) for item in after["series"]} == {
        1: (False, "user", 5),
        2: (False, "user", 0),
        3: (True, "t1_contrast,axial,largest", 3),
        4: (False, "user", 4),
    }
    assert world.audited("study.choose_series", object_id=study["id"]) == 3
    # More of the study arrives: what people decided stands.
    world.finished(ann, series(2, 2, 9, AXIAL, "t1 ax +c", folder="more"))
    assert not next(item for item in study_of(world, clara, job)["series"] if item["number"] == 2)["chosen"]


def test_when_no_rule_holds_nothing_is_lost_and_the_page_says_so(world: World) -> None:
    world.settings = world.settings.model_copy(update={"series_rules": "flair,axial"})
    ann = world.people["ann"]
    job = world.finished(ann, {f"folder/{number}.png": picture(number) for number in range(2)})
    assert (job["state"], job["slices"]["left_out"]) == ("succeeded", 2)
    assert study_of(world, ann, job)["summary"]["finding"] == "none"
    client = world.client()
    world_login(client, world, ann)
    assert "No slice of this job was to be classified" in client.get(f"/jobs/{job['id']}").text
    assert "no rule holds" in client.get(f"/studies/{job['studies'][0]['id']}").text


def test_studies_series_and_patients_in_one_zip_are_told_apart_by_uids(world: World) -> None:
    clara = world.people["clara"]
    mixed = {
        **series(5, 1, 3, AXIAL, "t1", folder="export/a", PatientID="P5", PatientName="Five^Fay"),
        **series(5, 2, 2, CORONAL, "t1 cor", folder="export/b", PatientID="P5", PatientName="Five^Fay"),
        **series(6, 1, 2, AXIAL, "t1", folder="export/b/deep", PatientID="P6", PatientName="Six^Sam"),
    }
    # One folder holds files of two patients, and one series lies in two folders.
    mixed["export/b/x.dcm"] = mixed.pop("export/a/2.dcm")
    mixed["export/a/y.dcm"] = mixed.pop("export/b/deep/1.dcm")
    mixed["export/a/picture.png"] = picture(9)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in mixed.items():
            archive.writestr(name, data)
    job = world.finished(clara, {"export.zip": buffer.getvalue()})
    assert (job["state"], job["slices"]["done"]) == ("succeeded", 8)
    studies = [world.json(clara, item["links"]["self"]) for item in job["studies"]]
    found = {
        (study["study_instance_uid"], (study["identity"] or {}).get("patient_id", "")): sorted(
            (item["series_instance_uid"], item["slices"]) for item in study["series"]
        )
        for study in studies
    }
    assert found == {
        ("2.25.75", "P5"): [("2.25.75.1", 3), ("2.25.75.2", 2)],
        ("2.25.76", "P6"): [("2.25.76.1", 2)],
        ("", ""): [("", 1)],
    }


def said(answer: TestResponse) -> dict[str, Any]:
    """The document of an answer."""
    document: dict[str, Any] = answer.json or {}
    return document


def world_login(client: Any, world: World, who: Person) -> None:
    """A browser in somebody's name."""
    client.environ_base["HTTP_AUTHORIZATION"] = who.headers["Authorization"]


@pytest.fixture(autouse=True)
def _small_chunks(world: World) -> None:
    world.settings = world.settings.model_copy(update={"chunk_slices": 8})
