"""Results: what a row carries, what a spreadsheet must not run, who sees whose name, and pictures."""

import csv
import io
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import select, update

from db.queries.results import NOTICE, safe_cell
from db.studies import Instance, Series, Study, StudyIdentity
from tests.web_world import World


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def identified(world: World) -> dict[str, Any]:
    """Ann's finished job whose study has an identity that wants to be a formula."""
    job = world.finished(world.people["ann"])
    with world.database.write() as db:
        study = db.scalars(select(Study)).one()
        db.execute(update(Study).values(study_instance_uid="1.2.3"))
        db.execute(update(Series).values(description="=cmd|'/c calc'!A1"))
        db.merge(
            StudyIdentity(
                study_id=study.id,
                patient_name="ZZLEAKZZ^<img src=x>",
                patient_id="+49",
                birth_date="19700101",
                sex="F",
                accession_number="ACC-1",
            )
        )
    return job


def test_every_row_carries_its_study_and_the_notice(world: World, identified: dict[str, Any]) -> None:
    answer = world.ask(world.people["ann"], "GET", identified["studies"][0]["links"]["results_csv"])
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["Content-Disposition"]
    rows = rows_of(answer.text)
    assert len(rows) == 3
    for row in rows:
        assert (row["study_instance_uid"], row["accession_number"], row["notice"]) == ("1.2.3", "ACC-1", NOTICE)
        assert row["series_description"] == "'=cmd|'/c calc'!A1"
        assert row["patient_id"] == "'+49"
        probabilities = {name.removeprefix("probability_"): float(row[name]) for name in row if "probability_" in name}
        assert probabilities[row["prediction"]] == max(probabilities.values()) == float(row["probability"])
    by_job = rows_of(world.ask(world.people["ann"], "GET", identified["links"]["results_csv"]).text)
    assert by_job == rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("  =1", "'  =1"),
        ("plain", "plain"),
        (-1.5, -1.5),
        (None, ""),
    ],
)
def test_cells_are_harmless(value: object, expected: object) -> None:
    assert safe_cell(value) == expected


def test_identity_is_for_those_who_may_see_it(world: World, identified: dict[str, Any]) -> None:
    study = identified["studies"][0]["links"]
    for name in ("ann", "clara", "ada"):
        assert world.json(world.people[name], study["self"])["identity"]["accession_number"] == "ACC-1"
    # Bob sends one picture of the same study: he sees his slice, and not whose study it is.
    bob = world.people["bob"]
    with world.database.read() as db:
        instance = db.scalars(select(Instance).order_by(Instance.path)).first()
        assert instance is not None
    from web.services import services

    data = services(world.app).blobs.read(instance.content_sha256)
    again = world.finished(bob, {"mine/one.png": data})
    with world.database.write() as db:  # as a DICOM file with the same Study Instance UID would have done
        from db.jobs import JobStudy, ReceivedFile

        db.merge(JobStudy(job_id=__import__("uuid").UUID(again["id"]), study_id=instance.study_id))
        db.execute(update(ReceivedFile).values(study_id=instance.study_id).where(ReceivedFile.path == "mine/one.png"))
    answer = world.ask(bob, "GET", study["self"])
    assert answer.status_code == 200
    assert (answer.json or {})["identity"] is None
    assert "ZZLEAKZZ" not in answer.text
    results = world.ask(bob, "GET", study["results"])
    assert [row["id"] for row in (results.json or {})["slices"]] == [str(instance.id)]
    assert (results.json or {})["accession_number"] == ""
    assert "ACC-1" not in world.ask(bob, "GET", study["results_csv"]).text
    assert "ACC-1" not in world.ask(bob, "GET", again["links"]["receipt_csv"]).text


def test_no_identity_in_logs(world: World, identified: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    ann = world.people["ann"]
    world.json(ann, identified["studies"][0]["links"]["results"])
    world.ask(ann, "GET", "/api/v1/jobs?text=ZZLEAKZZ")
    world.ask(ann, "POST", "/api/v1/uploads", json={"title": "ZZLEAKZZ"})
    world.send(ann, {"ZZLEAKZZ/a.png": b"x"})
    world.ask(ann, "GET", "/studies/ZZLEAKZZ")
    assert "request" in caplog.text
    whole = "\n".join(str(vars(record)) for record in caplog.records)
    assert "ZZLEAKZZ" not in whole


def test_the_receipt_accounts_for_every_file(world: World) -> None:
    ann = world.people["ann"]
    from tests.work_rig import picture

    files = {"a.png": picture(1), "b.png": picture(1), "c.txt": b"text", "d.png": b"", "Thumbs.db": b"x"}
    job = world.finished(ann, files)
    receipt = world.json(ann, job["links"]["receipt"])
    assert receipt["total"] == len(files) == sum(receipt["outcomes"].values())
    assert {line["path"]: line["outcome"] for line in receipt["files"]} == {
        "a.png": "accepted",
        "b.png": "duplicate",
        "c.txt": "not_an_image",
        "d.png": "empty",
        "Thumbs.db": "ignored",
    }
    for line in receipt["files"]:
        assert line["reason"]["sentence"].endswith("."), line
        assert "%(" not in line["reason"]["sentence"]
    rows = rows_of(world.ask(ann, "GET", job["links"]["receipt_csv"]).text)
    assert [row["path"] for row in rows] == [line["path"] for line in receipt["files"]]
    assert all(row["sentence"] for row in rows)


def decoded(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_pictures(world: World) -> None:
    ann = world.people["ann"]
    job = world.finished(ann)
    slices = world.json(ann, job["studies"][0]["links"]["results"])["slices"]
    one = slices[0]
    image = world.ask(ann, "GET", one["links"]["image"])
    assert image.content_type == "image/png"
    grey = decoded(image.data)
    assert grey.shape == (one["rows"], one["columns"])
    links = one["prediction"]["links"]
    layer = decoded(world.ask(ann, "GET", links["heatmap"]).data)
    assert layer.shape == (one["rows"], one["columns"], 4)
    assert layer[..., 3].max() > 100
    nothing = decoded(world.ask(ann, "GET", f"{links['overlay']}?opacity=0").data)
    assert np.array_equal(nothing, np.repeat(grey[..., None], 3, axis=2))
    full = decoded(world.ask(ann, "GET", f"{links['overlay']}?opacity=1&colour_map=viridis").data)
    assert not np.array_equal(full, nothing)
    assert world.ask(ann, "GET", f"{links['overlay']}?colour_map=jet").status_code == 422
    again = world.ask(ann, "GET", one["links"]["image"], headers={"If-None-Match": image.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "no-cache" in image.headers["Cache-Control"]


def test_a_blob_that_is_gone_is_an_alarm_not_a_picture(world: World) -> None:
    ann = world.people["ann"]
    job = world.finished(ann)
    one = world.json(ann, job["studies"][0]["links"]["results"])["slices"][0]
    for path in (world.settings.var_dir / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    answer = world.ask(ann, "GET", one["links"]["image"])
    assert (answer.status_code, (answer.json or {})["code"]) == (500, "blob_missing")


def test_the_receipt_of_a_prediction_and_its_repetition(world: World) -> None:
    ann = world.people["ann"]
    job = world.finished(ann)
    prediction = world.json(ann, job["studies"][0]["links"]["results"])["slices"][0]["prediction"]
    receipt = world.json(ann, prediction["links"]["receipt"])
    assert receipt["model"]["digest"] == job["checkpoint_digest"]
    assert len(receipt["input"]["sha256"]) == 64
    assert receipt["preprocessing"]
    assert receipt["notice"] == NOTICE
    first = world.ask(ann, "POST", prediction["links"]["reproduce"]).json or {}
    second = world.ask(ann, "POST", prediction["links"]["reproduce"]).json or {}
    assert (first["state"], first["id"]) == ("pending", second["id"])
    world.work()
    assert world.json(ann, first["links"]["self"])["state"] == "equal"
    assert world.json(ann, job["links"]["self"])["state"] == "succeeded"


def test_the_serving_model_is_named(world: World) -> None:
    found = world.json(world.people["ann"], "/api/v1/checkpoints")["checkpoints"]
    assert [(item["serving"], len(item["digest"])) for item in found] == [(True, 64)]
