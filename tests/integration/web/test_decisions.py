"""A clinician confirms or corrects a slice: by page and API, in the exports, and never over somebody's head."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from db.states import Role
from tests.web_world import Person, World
from tests.work_rig import models_folder, promote_tiny
from web import create_app

API = "/api/v1"


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    changed = settings.model_copy(update={"models_dir": models_folder(tmp_path / "models")})
    promote_tiny(changed)
    made = World(create_app(changed), changed)
    for username, role in (("ann", Role.SUBMITTER), ("clara", Role.CLINICIAN), ("carl", Role.CLINICIAN)):
        made.add(username, role)
    yield made
    made.close()


def decide(world: World, who: Person, slice_id: str, status: int = 201, **wanted: object) -> dict[str, object]:
    answer = world.ask(who, "POST", f"{API}/slices/{slice_id}/decisions", json=wanted)
    assert answer.status_code == status, answer.text
    return answer.json or {}


def test_decisions_by_api_are_in_the_exports_and_in_the_audit(world: World) -> None:
    ann, clara, carl = (world.people[name] for name in ("ann", "clara", "carl"))
    job = world.finished(ann)
    study = job["studies"][0]
    one, two, _three = (row["id"] for row in world.json(ann, study["links"]["results"])["slices"])
    first = decide(world, clara, one, kind="class", label="meningioma", note="seen twice")
    decide(world, clara, two, kind="not_assessable")
    newest = first["decisions"][0]["id"]  # type: ignore[index]
    told = decide(world, carl, one, 409, kind="class", label="glioma")
    assert told["code"] == "decided_meanwhile"
    assert "clara has decided" in str(told["detail"])
    decide(world, carl, one, kind="class", label="glioma", seen=newest)
    decide(world, carl, one, kind="undo", seen=None)
    decide(world, carl, one, 422, kind="class", label="")
    decide(world, carl, one, 422, kind="class", label="<b>")
    assert world.ask(ann, "POST", f"{API}/slices/{one}/decisions", json={"kind": "not_assessable"}).status_code == 403
    rows = {row["id"]: row for row in world.json(ann, study["links"]["results"])["slices"]}
    assert (rows[one]["decision"]["label"], rows[one]["decision"]["decided_by"]) == ("meningioma", "carl")
    assert (rows[two]["decision"]["kind"], rows[two]["decision"]["label"]) == ("not_assessable", "")
    text = world.ask(ann, "GET", study["links"]["results"] + ".csv").text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["confirmed_label"] for line in lines] == ["meningioma", "not_assessable", ""]
    assert lines[0]["confirmed_by"] == "carl"
    history = world.json(ann, f"{API}/slices/{one}/decisions")["decisions"]
    assert [item["label"] for item in history] == ["meningioma", "glioma", "meningioma"]
    assert history[-1]["note"] == "seen twice"
    assert (world.audited("slice.decide"), world.audited("slice.undo", object_id=one)) == (3, 1)


def test_the_page_decides_without_scripts_and_says_who_was_faster(world: World) -> None:
    ann, clara, carl = (world.people[name] for name in ("ann", "clara", "carl"))
    study = world.finished(ann)["studies"][0]["id"]
    page = world.ask(clara, "GET", f"/studies/{study}").text
    address = re.search(r'action="(/studies/[^"]+/decision)"', page).group(1)  # type: ignore[union-attr]
    assert "Nobody has confirmed" in page
    form = {"decision": "class:pituitary", "seen": "", "note": "="}
    assert world.ask(clara, "POST", address, data=form).status_code == 303
    fragment = {"HX-Request": "true"}
    late = world.ask(carl, "POST", address, data={"decision": "not_assessable", "seen": ""}, headers=fragment)
    assert late.status_code == 409
    assert "clara has decided" in late.text
    assert 'data-mark="pituitary tumour"' in late.text
    seen = re.search(r'name="seen" value="([^"]+)"', late.text).group(1)  # type: ignore[union-attr]
    again = world.ask(carl, "POST", address, data={"decision": "not_assessable", "seen": seen}, headers=fragment)
    assert again.status_code == 200
    assert 'data-mark="not assessable"' in again.text
    assert "✓ not assessable" in world.ask(ann, "GET", f"/studies/{study}").text
    assert 'id="decide"' not in world.ask(ann, "GET", f"/studies/{study}").text
    assert world.ask(ann, "POST", address, data=form).status_code == 403
    assert world.ask(clara, "POST", address, data={"decision": "class:unheard"}).status_code == 422
