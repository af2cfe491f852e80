"""Studies by page: two people sign one, opinions come before answers on every way, assignment leaves others' alone."""

import re
import uuid

import pytest
from flask.testing import FlaskClient

from db.standings import StudyStanding
from tests.web_world import PASSWORD, Person, World

API = "/api/v1"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database: what differs between the two is tested with the queries."""
    return sqlite_url


def browser(world: World, who: Person) -> tuple[FlaskClient, str]:
    """A browser that is logged in, and its token for forms."""
    client = world.client()
    page = client.get("/login").text
    form = {"username": who.username, "password": PASSWORD, "csrf_token": token_of(page)}
    client.post("/login", data=form)
    return client, token_of(client.get("/account").text)


def token_of(page: str) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert found
    return found[1]


def version_of(world: World, study_id: str) -> str:
    with world.database.read() as db:
        return str(db.get_one(StudyStanding, uuid.UUID(study_id)).version)


def test_two_sign_one_study_and_the_second_is_told(world: World) -> None:
    clara, ada = world.people["clara"], world.people["ada"]
    study = world.finished(world.people["ann"])["studies"][0]["id"]
    (one, token), (two, second) = browser(world, clara), browser(world, ada)
    row = world.json(clara, f"{API}/studies/{study}/results")["slices"][0]
    wanted = {"kind": "class", "label": row["prediction"]["class_name"]}
    assert world.ask(clara, "POST", f"{API}/slices/{row['id']}/decisions", json=wanted).status_code == 201
    version = version_of(world, study)
    address = f"/studies/{study}/sign-off"
    listed = one.get("/worklist").text
    assert study in listed
    assert world.audited("study.list") == 0, "the pictures carry no name"
    refused = one.post(address, data={"csrf_token": token, "label": "", "version": version}, follow_redirects=True)
    assert "Choose one of the offered classes" in refused.text
    done = one.post(address, data={"csrf_token": token, "label": "glioma", "version": version}, follow_redirects=True)
    assert "The study is signed off" in done.text
    form = {"csrf_token": second, "label": "meningioma", "version": version}
    late = two.post(address, data=form, follow_redirects=True)
    assert "This study has changed since you opened it" in late.text
    counted = two.get("/admin/agreement").text
    assert "Cohen's kappa, 95 % interval" in counted
    assert "slices,tiny" in two.get("/admin/agreement.csv").text
    assert study not in one.get("/worklist").text
    assert study in one.get("/worklist?state=signed").text
    assert world.audited("study.sign_off", object_id=study) == 1
    form = {"csrf_token": second, "version": version_of(world, study)}
    assert "taken back" in two.post(f"/studies/{study}/reopen", data=form, follow_redirects=True).text
    form = {"csrf_token": token, "study": study, "to": "me"}
    assert "1 study was assigned" in one.post("/worklist/assign", data=form, follow_redirects=True).text
    form = {"csrf_token": second, "study": study, "to": "me"}
    assert "assigned to clara" in two.post("/worklist/assign", data=form, follow_redirects=True).text
    form = {"csrf_token": second, "study": study, "to": "whom", "whom": str(world.people["ann"].id)}
    assert two.post("/worklist/assign", data=form).status_code == 422
    assert world.audited("study.assign") == 1


def test_whoever_gives_his_opinion_first_is_shown_nothing_before(world: World) -> None:
    ann, clara, ada = (world.people[name] for name in ("ann", "clara", "ada"))
    job = world.finished(ann)
    study, links = job["studies"][0]["id"], job["studies"][0]["links"]
    rows = world.json(ada, links["results"])["slices"]
    prediction = rows[0]["prediction"]["id"]
    client, token = browser(world, clara)
    client.post("/account/reading", data={"csrf_token": token, "blind_first": "1"})
    ways = [
        links["self"],
        links["results"],
        links["results"] + ".csv",
        f"{API}/studies/{study}/dicom.zip",
        f"{API}/jobs/{job['id']}/results.csv",
        f"{API}/predictions/{prediction}/heatmap.png",
        f"{API}/predictions/{prediction}/overlay.png",
        f"{API}/predictions/{prediction}/receipt",
        f"/predictions/{prediction}/layer.png",
        f"/predictions/{prediction}",
        f"/studies/{study}/report.pdf",
    ]
    for way in ways:
        answer = world.ask(clara, "GET", way)
        assert answer.status_code == 403, way
        assert "own opinion" in answer.text
    for address in (f"/studies/{study}", f"/studies/{study}/slices/{rows[0]['id']}", "/studies", "/worklist"):
        page = client.get(address).text
        assert "probability of each class" not in page, address
        assert re.search(r"after your opinion", page), address
        assert prediction not in page, address
    seen = client.get(f"/jobs/{job['id']}").text
    assert "Tumour pattern" not in seen
    assert "Uncertain" not in seen
    form = {"csrf_token": token, "label": "not_assessable"}
    shown = client.post(f"/studies/{study}/opinion", data=form, follow_redirects=True).text
    assert "This is what the network says" in shown
    assert prediction in client.get(f"/studies/{study}").text or "data-layer" in shown
    again = client.post(f"/studies/{study}/opinion", data=form, follow_redirects=True).text
    assert "already" in again
    assert all(world.ask(clara, "GET", way).status_code == 200 for way in ways)
    assert world.audited("study.opinion", object_id=study) == 1
    assert world.audited("user.reading") == 1
