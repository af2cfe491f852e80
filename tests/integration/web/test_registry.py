"""The registry over HTTP: promotion, rollback, the marks of a recall everywhere, running again, all of it audited."""

import csv
import hashlib
import io
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from db.base import utc_now
from db.checkpoints import Checkpoint
from db.predictions import Prediction
from db.queries import promotions
from db.registry import Comparison
from db.states import RequestState
from db.users import AuditEvent
from inference import artefact
from tests.web_world import PASSWORD, World
from web.services import services
from worker.housekeeping import Housekeeper

API = "/api/v1/checkpoints"


@pytest.fixture
def other(world: World) -> Checkpoint:
    """A second model with the same network, registered."""
    folder = world.settings.models_dir
    tiny = artefact.load(folder / "tiny.neurosight")
    digest = artefact.write(
        folder / "other.neurosight",
        replace(tiny.manifest, temperature=3.0, members={}),
        tiny.weights(),
        tiny.openvino_xml,
        tiny.openvino_bin,
        tiny.model_card,
    )
    with Housekeeper(world.settings) as housekeeper:
        housekeeper.register_models()
    with world.database.read() as db:
        return db.scalars(select(Checkpoint).where(Checkpoint.digest == digest)).one()


def post(world: World, address: str, status: int, **body: Any) -> dict[str, Any]:
    answer = world.ask(world.people["ada"], "POST", address, json=body)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json or {}
    return document


def detail(world: World, action: str) -> dict[str, Any]:
    with world.database.read() as db:
        row = db.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id.desc())).first()
    assert row is not None
    return row.detail


def test_from_promotion_over_rollback_to_the_last_slice_run_again(world: World, other: Checkpoint) -> None:
    ann, clara = world.people["ann"], world.people["clara"]
    done = post(world, f"{API}/{other.id}/promote", 200, reason="  better on   small tumours ")
    assert (done["standing"], done["periods"][0]["reason"]) == ("serving", "better on small tumours")
    assert detail(world, "checkpoint.promote")["digest"] == other.digest
    job = world.finished(ann)
    study = job["studies"][0]["links"]
    before = world.json(ann, study["results"])
    assert before["model"] == {"name": "other", "digest": other.digest, "network": "tiny", "withdrawn": None}
    back = post(world, f"{API}/rollback", 200, reason="misses gliomas")
    assert (back["name"], back["standing"], back["periods"][0]["kind"]) == ("tiny", "serving", "rollback")
    assert world.audited("checkpoint.rollback") == 1
    assert world.audited("checkpoint.withdraw", object_id=other.id) == 1

    # Marked wherever one of its results stands, for the one who sent them too.
    results = world.json(ann, study["results"])
    assert results["model"]["withdrawn"]["reason"] == "misses gliomas"
    assert {item["prediction"]["withdrawn"]["reason"] for item in results["slices"]} == {"misses gliomas"}
    rows = list(csv.DictReader(io.StringIO(world.ask(ann, "GET", study["results_csv"]).text)))
    assert {row["withdrawn"] for row in rows} == {"misses gliomas"}
    prediction = results["slices"][0]["prediction"]
    assert world.json(ann, prediction["links"]["receipt"])["model"]["withdrawn"]["reason"] == "misses gliomas"
    study_id = job["studies"][0]["id"]
    page = browse(world, "ann")
    for address in (
        f"/studies/{study_id}",
        f"/studies/{study_id}/slices/{results['slices'][0]['id']}",
        f"/predictions/{prediction['id']}",
        "/studies",
        f"/jobs/{job['id']}",
    ):
        text = page(address)
        assert "The model behind this result was withdrawn" in text, address
        assert "misses gliomas" in text or address in ("/studies", f"/jobs/{job['id']}")

    # Listed, as JSON and CSV.
    listed = world.json(clara, f"{API}/{other.id}/results")
    assert (listed["total_slices"], listed["repeated_slices"]) == (3, 0)
    assert listed["studies"][0]["jobs"] == [{"id": job["id"], "title": job["title"], "sent_by": "ann"}]
    rows = list(csv.DictReader(io.StringIO(world.ask(clara, "GET", f"{API}/{other.id}/results.csv").text)))
    assert {(row["study_id"], row["sent_by"], row["repeated_by_serving"]) for row in rows} == {(study_id, "ann", "no")}
    assert world.audited("checkpoint.export", object_id=other.id) == 1

    # Run again in one click; the old results stay readable.
    started = post(world, f"{API}/{other.id}/rerun", 202, priority="urgent")["jobs"]
    assert [(item["purpose"], item["slices"]["total"]) for item in started] == [("reclassification", 3)]
    assert post(world, f"{API}/{other.id}/rerun", 409)["code"] == "nothing_to_rerun"
    world.work()
    after = world.json(ann, study["results"])
    assert (after["model"]["name"], after["model"]["withdrawn"]) == ("tiny", None)
    old = world.json(ann, f"{study['results']}?checkpoint={other.digest}")
    assert old["slices"] == results["slices"]
    both = world.json(ann, study["self"])["models"]
    assert [(item["name"], item["slices"], item["withdrawn"] is None) for item in both] == [
        ("tiny", 3, True),
        ("other", 3, False),
    ]
    rerun = started[0]["id"]
    assert "so its receipt is empty" in browse(world, "ada")(f"/jobs/{rerun}")
    assert world.ask(ann, "GET", f"/api/v1/jobs/{rerun}").status_code == 404
    csv_of_rerun = world.ask(clara, "GET", f"/api/v1/jobs/{rerun}/results.csv").text
    assert {row["checkpoint"] for row in csv.DictReader(io.StringIO(csv_of_rerun))} == {back["digest"]}

    # Lifted, the mark is gone, also from the old results.
    post(world, f"{API}/{other.id}/lift", 200)
    assert world.json(ann, f"{study['results']}?checkpoint={other.digest}")["model"]["withdrawn"] is None


def browse(world: World, username: str) -> Any:
    """Opens pages as somebody who is logged in by session."""
    client = world.client()
    token = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/login").text)
    assert token is not None
    client.post("/login", data={"csrf_token": token[1], "username": username, "password": PASSWORD})

    def open_page(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.status_code)
        return answer.text

    return open_page


def test_a_file_that_is_gone_or_altered_is_not_promoted_and_what_serves_goes_on(
    world: World, other: Checkpoint
) -> None:
    blobs = services(world.app).blobs
    content = blobs.read(other.digest)
    with blobs.local_path(other.digest) as path:
        path.write_bytes(content[:-1] + b"x")
        assert post(world, f"{API}/{other.id}/promote", 409, reason="r")["code"] == "artefact_altered"
        path.unlink()
    problem = post(world, f"{API}/{other.id}/promote", 409, reason="r")
    assert problem["code"] == "artefact_missing"
    assert other.digest in problem["detail"]
    assert "Import the same file again" in problem["detail"]
    with world.database.read() as db:
        assert len(promotions.periods(db)) == 1
    job = world.finished(world.people["ann"])
    assert job["state"] == "succeeded"
    blobs.put(io.BytesIO(content))
    post(world, f"{API}/{other.id}/promote", 200, reason="restored")


def test_refusals_answer_with_what_to_do(world: World, other: Checkpoint) -> None:
    history = world.json(world.people["clara"], f"{API}/history")["periods"]
    serving = history[0]["checkpoint_id"]
    cases = [
        (f"{API}/{other.id}/promote", {"reason": " "}, 422, "reason_missing"),
        (f"{API}/{serving}/promote", {"reason": "r"}, 409, "serving_already"),
        (f"{API}/{other.id}/promote", {"reason": "r", "seen": str(other.id)}, 409, "changed_meanwhile"),
        (f"{API}/rollback", {"reason": "r"}, 409, "nothing_before"),
        (f"{API}/{serving}/withdraw", {"reason": "r"}, 409, "serves"),
        (f"{API}/{other.id}/lift", {}, 409, "not_withdrawn"),
        ("/api/v1/reclassifications", {}, 422, "what_missing"),
        (
            "/api/v1/reclassifications",
            {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
            422,
            "period_empty",
        ),
    ]
    for address, body, status, code in cases:
        assert post(world, address, status, **body)["code"] == code
    moment = history[0]["since"].replace("+00:00", "Z")
    served = world.json(world.people["clara"], f"{API}/history?at={moment}")["periods"]
    assert [item["checkpoint_id"] for item in served] == [serving]
    assert world.json(world.people["clara"], f"{API}/history?at=2001-01-01T00:00:00Z")["periods"] == []


def test_a_shadow_run_leaves_no_trace_for_those_who_are_not_admins(world: World, other: Checkpoint) -> None:
    ann, clara, ada = world.people["ann"], world.people["clara"], world.people["ada"]
    job = world.finished(ann)
    study = job["studies"][0]["links"]
    before = world.json(ann, study["results"])
    assert world.ask(ada, "POST", f"{API}/{other.id}/shadow", json={"studies": 0}).status_code == 422
    started = post(world, f"{API}/{other.id}/shadow", 202, studies=5)
    assert (started["state"], started["total"], started["done"]) == ("classifying", 3, 0)
    assert post(world, f"{API}/{other.id}/shadow", 409, studies=5)["code"] == "shadow_running"
    world.work()
    found = world.json(ada, f"{API}/{other.id}/shadow")
    assert (found["state"], found["done"], found["failed"], found["agreed"]) == ("succeeded", 3, 0, 3)
    assert sum(item["slices"] for item in found["agreement"]) == 3
    assert [(item["reference"], item["studies"]) for item in found["findings"]] == [(before["summary"]["finding"], 1)]
    assert found["candidate_ms"] > 0
    assert "100.0" in browse(world, "ada")(f"/checkpoints/{other.id}/shadow")
    assert world.json(ann, study["results"]) == before
    assert world.json(clara, f"{study['results']}?checkpoint={other.digest}") == before
    assert len(world.json(clara, study["self"])["models"]) == 1
    assert {item["id"] for item in world.json(clara, "/api/v1/jobs")["jobs"]} == {job["id"]}
    assert {item["id"] for item in world.json(ada, "/api/v1/jobs")["jobs"]} == {job["id"], found["job_id"]}
    assert world.ask(clara, "GET", f"/api/v1/jobs/{found['job_id']}").status_code == 404
    assert world.json(clara, f"{API}/{other.id}/results")["total_slices"] == 0
    with world.database.read() as db:
        hidden = db.scalars(select(Prediction.id).where(Prediction.checkpoint_id == other.id)).first()
    assert world.ask(clara, "GET", f"/api/v1/predictions/{hidden}/receipt").status_code == 404
    assert world.ask(ada, "GET", f"/api/v1/predictions/{hidden}/receipt").status_code == 200


def test_a_model_goes_out_as_one_file_and_comes_in_again(world: World, other: Checkpoint) -> None:
    ada = world.people["ada"]
    answer = world.ask(ada, "GET", f"{API}/{other.id}/artefact")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.data).hexdigest() == other.digest
    assert answer.headers["ETag"] == f'"{other.digest}"'
    assert answer.headers["Content-Disposition"] == f'attachment; filename="other-{other.digest[:12]}.neurosight"'
    assert world.audited("checkpoint.download", object_id=other.id) == 1
    assert f"{other.digest}  other-{other.digest[:12]}.neurosight" in browse(world, "ada")(f"/checkpoints/{other.id}")

    def take_in(data: bytes, query: str, status: int = 202) -> dict[str, Any]:
        answer = world.ask(ada, "POST", f"{API}/imports?{query}", data=data, content_type="application/octet-stream")
        assert answer.status_code == status, answer.text
        document: dict[str, Any] = answer.json or {}
        return document

    services(world.app).blobs.delete(other.digest)
    good = take_in(answer.data, "file_name=mine.neurosight")
    bad = take_in(answer.data[:-9], "file_name=torn.neurosight")
    assert (good["state"], bad["state"]) == ("pending", "pending")
    assert "being checked" in browse(world, "ada")("/checkpoints/import")
    world.work()
    assert world.json(ada, good["links"]["self"])["checkpoint_id"] == str(other.id)
    refused = world.json(ada, bad["links"]["self"])
    assert refused["failure"]["code"] == "artefact_unusable"
    assert "Copy it again" in refused["failure"]["sentence"]
    assert "torn.neurosight" in browse(world, "ada")("/checkpoints/import")
    post(world, f"{API}/{other.id}/promote", 200, reason="its file is back")
    problem = take_in(b"x", "kind=weights&network=densenet121&class_names=glioma", 422)
    assert problem["fields"] == "class_names, activation, units"
    assert take_in(b"", "file_name=x", 422)["code"] == "one_file"


def test_the_promote_page_shows_how_the_two_compare(world: World, other: Checkpoint) -> None:
    side = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "confusion": {"glioma": {"glioma": 9, "": 1}}}
    result = {
        "run": "thesis-adam",
        "dataset": "public-axial",
        "slices": 10,
        "patients": 4,
        "labels": ["glioma"],
        "candidate": {**side, "ms_per_slice": 3.25},
        "reference": {**side, "ms_per_slice": 4.5},
        "mcnemar": {"only_a": 7, "only_b": 1, "p_value": 0.0703125},
        "training": {"candidate": "held_back", "reference": "unknown"},
        "outcomes": [],
    }
    page = browse(world, "ada")
    address = f"/checkpoints/{other.id}/promote"
    with world.database.write() as db:  # as a model of ours has them
        measured = {"test": {"metrics": {"accuracy": side["accuracy"]}, "slices": 10, "patients": 4}}
        db.get_one(Checkpoint, other.id).manifest = {**other.manifest, "metrics": measured}
    assert "90.0" in page(f"/checkpoints/{other.id}")
    assert "Neither model was trained here" in page(address)
    with world.database.write() as db:
        serving = promotions.newest_promotion(db)
        assert serving is not None
        row = Comparison(
            candidate_id=other.id, reference_id=serving.checkpoint_id, state=RequestState.DONE, result=result
        )
        row.finished_at = row.created_at = utc_now()
        db.add(row)
    text = page(address)
    for said in ("thesis-adam", "10 slices", "4 patients", "p = 0.07", "may be chance", "which would flatter it"):
        assert said in text, said
    found = world.json(world.people["clara"], f"{API}/{other.id}/comparison")
    assert (found["state"], found["result"]["mcnemar"]["only_a"]) == ("done", 7)
    with world.database.write() as db:
        newest = db.get_one(Comparison, row.id)
        newest.state, newest.failure_code = RequestState.FAILED, "model_missing"
    assert "The comparison failed." in page(address)
