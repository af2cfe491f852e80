"""Data sets over HTTP: registered from a folder, an upload and reviewed slices; looked at, read again, deleted."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from db.queries import datasets
from db.states import Role
from tests.dataset_rig import class_folders, with_manifest
from tests.web_world import Person, World
from tests.work_rig import models_folder, pictures, promote_tiny
from web import create_app

API = "/api/v1"
GOOD = {"glioma": 12, "meningioma": 10}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    changed = settings.model_copy(
        update={"models_dir": models_folder(tmp_path / "models"), "datasets_dir": tmp_path / "sets"}
    )
    changed.datasets_dir.mkdir()
    promote_tiny(changed)
    made = World(create_app(changed), changed)
    for username, role in (("clara", Role.CLINICIAN), ("ada", Role.ADMIN)):
        made.add(username, role)
    yield made
    made.close()


def zipped(folder: Path, wrapping: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, wrapping + path.relative_to(folder).as_posix())
        archive.writestr("__MACOSX/._x", b"junk")
    return out.getvalue()


def register(world: World, who: Person, status: int = 202, **wanted: object) -> dict[str, Any]:
    answer = world.ask(who, "POST", f"{API}/datasets", json=wanted)
    assert answer.status_code == status, answer.text
    return answer.json or {}


def found(world: World, who: Person, made: dict[str, Any]) -> dict[str, Any]:
    world.work()
    return world.json(who, made["links"]["self"])


def test_a_folder_from_wish_to_deletion(world: World) -> None:
    clara, ada = world.people["clara"], world.people["ada"]
    root = with_manifest(world.settings.datasets_dir / "made", GOOD)
    (root / "glioma" / "1.png").write_bytes((root / "meningioma" / "1.png").read_bytes())
    assert "made (manifest.csv)" in world.ask(ada, "GET", "/datasets/new").text
    answer = world.ask(ada, "POST", "/datasets", data={"name": "Made", "folder": "made"})
    assert answer.status_code == 303
    page = answer.location
    assert "waits for a worker" in world.ask(clara, "GET", page).text
    world.work()
    fragment = world.ask(clara, "GET", page, headers={"HX-Request": "true"})
    assert fragment.headers["HX-Refresh"] == "true"
    text = world.ask(clara, "GET", page).text
    assert "Pairs of copies with different labels: <strong>1</strong>" in text.replace("\n", "")
    assert "Delete the data set" not in text
    picture = re.search(r'src="(/datasets/[^"]+/picture.png\?side=256)"', text)
    assert picture
    answer = world.ask(clara, "GET", picture.group(1))
    assert answer.data.startswith(b"\x89PNG")
    strip = world.ask(clara, "GET", f"{page}/samples?label=glioma").text
    assert strip.count("<figure") == 12
    document = world.json(clara, f"{API}/datasets")["datasets"][0]
    lines = list(csv.DictReader(io.StringIO(world.ask(clara, "GET", document["links"]["samples_csv"]).text)))
    assert len(lines) == 22
    assert (lines[0]["file"], lines[0]["patient"], lines[0]["box_w"]) == ("glioma/0.png", "glioma-0", "0.2")
    assert world.ask(clara, "POST", f"{page}/delete").status_code == 403
    assert world.ask(ada, "POST", f"{page}/delete").status_code == 303
    assert world.json(clara, f"{API}/datasets")["datasets"] == []
    assert [world.audited(f"dataset.{what}") for what in ("register", "export", "delete")] == [1, 1, 1]


def test_what_is_wrong_is_said_in_sentences_in_both_languages_and_can_be_mended(world: World) -> None:
    ada = world.people["ada"]
    root = class_folders(world.settings.datasets_dir / "bad", {"gliomma": 12, "meningioma": 10})
    (root / "meningioma" / "text.jpg").write_text("hello")
    register(world, ada, 422, name="x", folder="nowhere")
    register(world, ada, 422, name="x", folder="../../etc")
    register(world, ada, 422, name="x")
    made = register(world, ada, name="Bad", folder="bad")
    register(world, ada, 409, name="Bad", folder="bad")
    document = found(world, ada, made)
    assert document["state"] == "refused"
    sentences = [problem["sentence"] for problem in document["problems"]]
    assert sentences[0].startswith("The label gliomma (12 slices) looks like glioma misspelt.")
    assert sentences[1].startswith("meningioma/text.jpg: This is a text file")
    page = f"/datasets/{made['id']}"
    assert "Mengapa ditolak" in world.ask(ada, "GET", page, headers={"Accept-Language": "id"}).text
    assert "salah eja" in world.ask(ada, "GET", page, headers={"Accept-Language": "id"}).text
    (root / "meningioma" / "text.jpg").unlink()
    assert world.ask(ada, "POST", f"{page}/again", data={"labels_as_they_are": "on"}).status_code == 303
    assert found(world, ada, made)["state"] == "ready"
    assert world.ask(ada, "POST", f"{API}/datasets/{made['id']}/again", json={}).status_code == 409


def test_a_zip_archive_by_form_and_by_a_resumable_upload(world: World, tmp_path: Path) -> None:
    ada = world.people["ada"]
    content = zipped(class_folders(tmp_path / "plain", GOOD), wrapping="export/")
    form = {"name": "Sent", "files": [(io.BytesIO(content), "sent.zip")]}
    answer = world.ask(ada, "POST", "/datasets/upload", data=form)
    assert answer.status_code == 303, answer.text
    with world.database.write() as db:
        assert datasets.forget_files(db, older_than_s=-1.0) == [], "a worker has yet to read it"
    upload = world.ask(ada, "POST", f"{API}/uploads", json={}).json or {}
    listed = zipped(with_manifest(tmp_path / "listed", GOOD))
    put = world.ask(ada, "PUT", upload["links"]["files"] + "?path=listed.zip", data=listed)
    assert put.status_code == 200, put.text
    made = register(world, ada, name="Uploaded", upload_id=upload["id"])
    register(world, ada, 409, name="Again", upload_id=upload["id"])
    document = found(world, ada, made)
    assert (document["state"], document["kind"]) == ("ready", "manifest"), document
    sent = world.json(ada, f"{API}{answer.location}")
    assert (sent["state"], sent["counts"]["classes"]["glioma"]["slices"]) == ("ready", 12), sent
    bad = io.BytesIO()
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../../outside.png", b"x")
    form = {"name": "Bad", "files": [(io.BytesIO(bad.getvalue()), "bad.zip")]}
    refused = world.ask(ada, "POST", "/datasets/upload", data=form)
    world.work()
    document = world.json(ada, f"{API}{refused.location}")
    assert document["state"] == "refused"
    (problem,) = document["problems"]
    assert "outside.png" in problem["sentence"]
    empty = world.ask(ada, "POST", "/datasets/upload", data={"name": "None"}, content_type="multipart/form-data")
    assert empty.status_code == 400
    assert "Received no file" in empty.text
    with world.database.write() as db:
        assert len(datasets.forget_files(db, older_than_s=-1.0)) == 3, "archives stay although they were read"


def test_reviewed_slices_become_a_data_set_without_identity(world: World) -> None:
    clara, ada = world.people["clara"], world.people["ada"]
    for number in range(2):
        job = world.finished(clara, pictures(11, first_seed=50 * number, folder=f"study {number}"))
        for row in world.json(clara, job["studies"][0]["links"]["results"])["slices"]:
            wanted = {"kind": "class", "label": ("glioma", "meningioma")[number]}
            assert world.ask(clara, "POST", f"{API}/slices/{row['id']}/decisions", json=wanted).status_code == 201
    assert "22 reviewed slices, 2 patients" in " ".join(world.ask(ada, "GET", "/datasets/new").text.split())
    only = world.ask(ada, "GET", "/datasets/reviewed?classes=glioma").text
    assert "11 reviewed slices, 1 patient:" in " ".join(only.split())
    answer = world.ask(ada, "POST", "/datasets", data={"name": "Reviewed", "origin": "reviewed"})
    assert answer.status_code == 303
    world.work()
    document = world.json(clara, f"{API}{answer.location}")
    assert (document["state"], document["kind"]) == ("ready", "studies"), document
    assert document["counts"]["classes"]["glioma"] == {"slices": 11, "patients": 1}
    lines = list(csv.DictReader(io.StringIO(world.ask(clara, "GET", document["links"]["samples_csv"]).text)))
    assert {line["source"] for line in lines} == {"reviewed"}
    assert len({line["patient"] for line in lines}) == 2
    assert all(re.fullmatch(r"p-[0-9a-f]{16}", line["patient"]) for line in lines)
    world.ask(clara, "GET", answer.location)
    assert world.audited("dataset.view") == 1
