"""Submitting: what a 202 promises, and what every refusal leaves behind (nothing)."""

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from db.blobs import BlobStore, StoreFull
from db.jobs import Job, WorkItem
from db.states import ItemState
from db.uploads import Upload, UploadFile
from tests.servers import BrokerServer
from tests.tiny_artefact import tiny_digest
from tests.web_world import World
from tests.work_rig import picture, pictures
from web.services import services


def counts(world: World) -> tuple[int, int, int]:
    """(uploads, files, jobs)."""
    with world.database.read() as db:
        found = [db.scalar(select(func.count()).select_from(model)) or 0 for model in (Upload, UploadFile, Job)]
    return found[0], found[1], found[2]


def spool(world: World) -> list[str]:
    """What lies in the spool."""
    return [path.name for path in (world.settings.var_dir / "blobs" / "incoming").iterdir()]


def blobs(world: World) -> list[Path]:
    """Stored files but the model's."""
    found = [path for path in (world.settings.var_dir / "blobs").rglob("*") if path.is_file()]
    return [path for path in found if path.name != tiny_digest()]


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_a_form_with_files_becomes_a_job_whose_bytes_are_stored(world: World) -> None:
    ann = world.people["ann"]
    files = pictures(3)
    job = world.send(ann, files, title="Study of ann", priority="urgent")
    assert job["state"] == "received"
    assert (job["title"], job["priority"], job["files"]["sent"]) == ("Study of ann", "urgent", 3)
    store = services(world.app).blobs
    with world.database.read() as db:
        rows = db.execute(select(UploadFile.path, UploadFile.sha256, UploadFile.size_bytes)).all()
        item = db.scalars(select(WorkItem)).one()
    assert {(path, store.read(sha256), size) for path, sha256, size in rows} == {
        (name, data, len(data)) for name, data in files.items()
    }
    assert (item.task, item.queue, item.state, item.priority_rank) == ("neurosight.intake", "intake", "pending", 0)
    assert world.audited("job.submit", "ok", job["id"]) == 1
    assert spool(world) == []


def test_the_answer_names_the_job_and_it_ends_with_results(world: World) -> None:
    ann = world.people["ann"]
    answer = world.ask(ann, "POST", "/api/v1/studies", data={"files": [(io.BytesIO(picture(1)), "a/one.png")]})
    assert answer.status_code == 202
    address = answer.headers["Location"]
    assert world.json(ann, address)["id"] == (answer.json or {})["id"]
    world.work()
    job = world.json(ann, address)
    assert (job["state"], job["ended"], job["fraction"]) == ("succeeded", True, 1.0)
    assert job["slices"] == {"total": 1, "pending": 0, "done": 1, "failed": 0, "cancelled": 0, "left_out": 0}


def test_a_zip_body_is_one_file(world: World) -> None:
    ann = world.people["ann"]
    body = zipped(pictures(2))
    address = "/api/v1/studies?title=Zipped&priority=off_peak"
    answer = world.ask(ann, "POST", address, data=body, content_type="application/zip")
    assert answer.status_code == 202, answer.text
    world.work()
    job = world.json(ann, answer.headers["Location"])
    assert (job["title"], job["priority"], job["state"], job["slices"]["done"]) == (
        "Zipped",
        "off_peak",
        "succeeded",
        2,
    )


def test_paths_name_files_and_are_cleaned(world: World) -> None:
    form = {
        "paths": ["../../etc/passwd", "C:\\scans\\a\x00\u202e.dcm"],
        "files": [(io.BytesIO(b"one"), "x"), (io.BytesIO(b"two"), "y")],
    }
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
    assert answer.status_code == 202
    with world.database.read() as db:
        assert set(db.scalars(select(UploadFile.path))) == {"etc/passwd", "scans/a.dcm"}


def test_the_same_name_twice_keeps_both_files(world: World) -> None:
    form = {"files": [(io.BytesIO(b"one"), "a.png"), (io.BytesIO(b"two"), "a.png")]}
    assert world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form).status_code == 202
    with world.database.read() as db:
        assert set(db.scalars(select(UploadFile.path))) == {"a.png", "a.png (2)"}


EMPTY_FORM = b"--b--\r\n"
ONE_EMPTY_INPUT = b'--b\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/zip", 400, "empty_submission"),
        (EMPTY_FORM, "multipart/form-data; boundary=b", 400, "empty_submission"),
        (ONE_EMPTY_INPUT, "multipart/form-data; boundary=b", 400, "empty_submission"),
        (b"--b\r\nContent-Disposition: form-data; name", "multipart/form-data; boundary=b", 400, "malformed_form"),
        (b"--b\r\nX: y\r\n\r\nz\r\n--b--\r\n", "multipart/form-data; boundary=b", 400, "malformed_form"),
        (b"abc", "multipart/form-data", 415, "not_multipart"),
        (b"abc", "text/plain", 415, "not_multipart"),
        (b"", "", 415, "not_multipart"),
    ],
)
def test_what_is_no_submission_is_refused_and_leaves_nothing(
    world: World, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=body, content_type=content_type)
    assert (answer.status_code, (answer.json or {})["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert counts(world) == (0, 0, 0)
    assert spool(world) == []
    assert blobs(world) == []


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_names_the_limit_and_leaves_nothing(world: World, declared: bool) -> None:
    limit = 1024 * 1024
    services(world.app).settings = world.settings.model_copy(update={"max_request_bytes": limit})
    body = zipped({"a": os.urandom(limit + 1)})
    more: dict[str, Any] = {"data": body}
    if not declared:  # a chunked body tells no length
        more = {"input_stream": io.BytesIO(body), "environ_overrides": {"wsgi.input_terminated": True}}
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", content_type="application/zip", **more)
    assert answer.status_code == 413
    assert (answer.json or {})["limit_bytes"] == limit
    assert str(limit) in (answer.json or {})["detail"]
    assert counts(world) == (0, 0, 0)
    assert spool(world) == []
    assert blobs(world) == []


def test_a_single_file_over_its_limit_is_refused(world: World) -> None:
    services(world.app).settings = world.settings.model_copy(update={"max_file_bytes": 1024})
    form = {"files": [(io.BytesIO(b"x"), "small"), (io.BytesIO(b"y" * 1025), "large")]}
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
    assert (answer.status_code, (answer.json or {})["code"]) == (413, "file_too_large")
    assert counts(world) == (0, 0, 0)
    assert blobs(world) == []


def test_too_many_files_are_refused(world: World) -> None:
    services(world.app).settings = world.settings.model_copy(update={"max_upload_files": 2})
    form = {"files": [(io.BytesIO(b"x"), str(number)) for number in range(3)]}
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
    assert (answer.status_code, (answer.json or {})["code"]) == (413, "too_many_files")
    assert blobs(world) == []


def test_more_than_a_thousand_files_in_one_form(world: World) -> None:
    form = {"files": [(io.BytesIO(b"%d" % number), f"f/{number}") for number in range(1500)]}
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
    assert answer.status_code == 202
    assert (answer.json or {})["files"]["sent"] == 1500


def test_a_full_disk_is_said_and_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    usual = BlobStore.require_room

    def full(self: BlobStore, more_bytes: int) -> None:
        nonlocal written
        written += more_bytes
        if written > 300_000:
            raise StoreFull("full")
        usual(self, more_bytes)

    monkeypatch.setattr(BlobStore, "require_room", full)
    form = {"files": [(io.BytesIO(os.urandom(100_000)), str(number)) for number in range(3)]}
    answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
    assert (answer.status_code, (answer.json or {})["code"]) == (507, "disk_full")
    assert "Nothing was stored" in (answer.json or {})["detail"]
    assert counts(world) == (0, 0, 0)
    assert spool(world) == []
    assert blobs(world) == []


def test_a_broker_that_is_down_does_not_stop_a_submission(broker: BrokerServer, world: World) -> None:
    broker.stop()
    job = world.send(world.people["ann"])
    assert job["state"] == "received"
    assert job["waits_for"]["code"] == "waiting_for_worker"
    with world.database.read() as db:
        assert db.scalars(select(WorkItem.enqueued_at)).one() is None
    broker.start()


def test_a_broker_that_is_up_hears_of_it(broker: BrokerServer, world: World) -> None:
    world.send(world.people["ann"])
    with world.database.read() as db:
        assert db.scalars(select(WorkItem.enqueued_at)).one() is not None
    assert services(world.app).doorbell.waiting(("intake",)) == {"intake": 1}


def test_a_database_that_is_busy_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    if not world.database.is_sqlite:
        pytest.skip("PostgreSQL has no single writer")
    parts = services(world.app)
    address = world.ask(world.people["ann"], "POST", "/api/v1/uploads", json={}).headers["Location"]
    from sqlalchemy import event

    @event.listens_for(parts.database.engine, "connect")
    def impatient(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA busy_timeout=100")

    parts.database.engine.dispose()
    with world.database.write() as blocker:
        blocker.execute(text("SELECT 1"))
        answer = world.ask(world.people["ann"], "PUT", f"{address}/files?path=a", data=b"x")
    assert (answer.status_code, (answer.json or {})["code"]) == (503, "database_busy")
    assert answer.headers["Retry-After"] == "5"
    assert spool(world) == []


# --- Uploads in several requests ---


def start(world: World, **wish: str) -> str:
    answer = world.ask(world.people["ann"], "POST", "/api/v1/uploads", json=wish)
    assert answer.status_code == 201
    return answer.headers["Location"]


def put(world: World, address: str, path: str, data: bytes, digest: str | None = None) -> Any:
    headers = {"X-Content-SHA256": digest} if digest else {}
    return world.ask(
        world.people["ann"], "PUT", f"{address}/files", query_string={"path": path}, data=data, headers=headers
    )


def test_an_upload_tells_what_has_arrived_and_becomes_one_job(world: World) -> None:
    ann = world.people["ann"]
    address = start(world, title="Later", priority="urgent")
    data = picture(5)
    digest = hashlib.sha256(data).hexdigest()
    assert put(world, address, "s/1.png", data, digest).json == {
        "path": "s/1.png",
        "sha256": digest,
        "size_bytes": len(data),
    }
    assert put(world, address, "s/1.png", data, digest.upper()).status_code == 200
    document = world.json(ann, address)
    assert [(file["path"], file["sha256"]) for file in document["files"]] == [("s/1.png", digest)]
    first = world.ask(ann, "POST", f"{address}/complete")
    again = world.ask(ann, "POST", f"{address}/complete")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["Location"] == again.headers["Location"]
    assert counts(world) == (1, 1, 1)
    assert world.json(ann, address)["job_id"] == (first.json or {})["id"]
    assert put(world, address, "s/2.png", data).status_code == 409
    assert world.ask(ann, "DELETE", address).status_code == 409
    world.work()
    assert world.json(ann, first.headers["Location"])["state"] == "succeeded"


def test_the_same_path_again_replaces_the_file(world: World) -> None:
    address = start(world)
    put(world, address, "a", b"one")
    put(world, address, "a", b"two!")
    files = world.json(world.people["ann"], address)["files"]
    assert [(file["path"], file["size_bytes"]) for file in files] == [("a", 4)]


def test_damage_on_the_way_is_noticed_and_not_kept(world: World) -> None:
    address = start(world)
    answer = put(world, address, "a", b"data", "0" * 64)
    assert (answer.status_code, (answer.json or {})["code"]) == (422, "sha256_mismatch")
    assert world.json(world.people["ann"], address)["files"] == []
    assert blobs(world) == []


def test_an_empty_upload_is_refused_and_stays_open(world: World) -> None:
    ann = world.people["ann"]
    address = start(world)
    answer = world.ask(ann, "POST", f"{address}/complete")
    assert (answer.status_code, (answer.json or {})["code"]) == (400, "empty_submission")
    assert put(world, address, "a", b"x").status_code == 200
    assert world.ask(ann, "POST", f"{address}/complete").status_code == 202


def test_an_upload_may_be_given_up(world: World) -> None:
    ann = world.people["ann"]
    address = start(world)
    put(world, address, "a", b"x")
    assert world.ask(ann, "DELETE", address).status_code == 204
    assert world.json(ann, address)["state"] == "abandoned"
    assert put(world, address, "b", b"y").status_code == 409


def test_limits_hold_over_all_requests_of_an_upload(world: World) -> None:
    services(world.app).settings = world.settings.model_copy(update={"max_upload_files": 2, "max_upload_bytes": 10})
    address = start(world)
    assert put(world, address, "a", b"12345").status_code == 200
    answer = put(world, address, "b", b"123456")
    assert (answer.status_code, (answer.json or {})["code"]) == (413, "too_large")
    assert put(world, address, "b", b"12345").status_code == 200
    answer = put(world, address, "c", b"")
    assert (answer.status_code, (answer.json or {})["code"]) == (413, "too_many_files")


def test_several_files_of_an_upload_in_one_request(world: World) -> None:
    ann = world.people["ann"]
    address = start(world)
    form = {"files": [(io.BytesIO(b"1"), "a"), (io.BytesIO(b"2"), "b")]}
    answer = world.ask(ann, "POST", f"{address}/files", data=form)
    assert answer.status_code == 200, answer.text
    assert [file["path"] for file in (answer.json or {})["files"]] == ["a", "b"]


# --- What can be done to a job ---


def test_cancel_ends_a_job_at_once_and_retry_takes_it_up(world: World) -> None:
    ann = world.people["ann"]
    job = world.send(ann)
    cancelled = world.ask(ann, "POST", job["links"]["cancel"])
    assert (cancelled.status_code, (cancelled.json or {})["state"]) == (200, "cancelled")
    with world.database.read() as db:
        assert db.scalars(select(WorkItem.state)).all() == [ItemState.CANCELLED]
    assert world.ask(ann, "POST", job["links"]["cancel"]).status_code == 409
    world.work()
    assert world.json(ann, job["links"]["self"])["slices"]["total"] == 0
    again = world.ask(ann, "POST", (cancelled.json or {})["links"]["retry"])
    assert (again.status_code, (again.json or {})["state"]) == (202, "received")
    world.work()
    ended = world.json(ann, job["links"]["self"])
    assert (ended["state"], ended["slices"]["done"]) == ("succeeded", 3)
    assert world.ask(ann, "POST", f"{job['links']['self']}/retry").status_code == 409


def test_the_same_content_is_recognised(world: World) -> None:
    ann, bob = world.people["ann"], world.people["bob"]
    files = pictures(2)
    first = world.finished(ann, files)
    again = world.finished(ann, files)
    assert again["duplicate_of"] == first["id"]
    assert world.finished(bob, files)["duplicate_of"] is None  # what others sent is not his to know


def test_jobs_are_listed_filtered_and_paged(world: World) -> None:
    ann, bob, clara = (world.people[name] for name in ("ann", "bob", "clara"))
    done = world.finished(ann, title="Alpha 100%")
    waiting = [world.send(ann, title=f"Beta {number}") for number in range(2)]
    world.send(bob, title="Gamma")

    def titles(who: Any, query: str) -> tuple[list[str], int]:
        page = world.json(who, f"/api/v1/jobs?{query}")
        return [job["title"] for job in page["jobs"]], page["total"]

    assert titles(ann, "") == (["Beta 1", "Beta 0", "Alpha 100%"], 3)
    assert titles(ann, "page_size=2&page=2") == (["Alpha 100%"], 3)
    assert titles(ann, "state=succeeded&state=failed") == ([done["title"]], 1)
    assert titles(ann, "text=bEtA") == (["Beta 1", "Beta 0"], 2)
    assert titles(ann, "text=0%25") == (["Alpha 100%"], 1)
    assert titles(clara, "") == (["Gamma", "Beta 1", "Beta 0", "Alpha 100%"], 4)
    assert titles(clara, "mine=true") == ([], 0)
    assert world.ask(ann, "GET", "/api/v1/jobs?state=odd").status_code == 422
    assert len(waiting) == 2


def test_progress_is_streamed_until_the_end(world: World) -> None:
    ann = world.people["ann"]
    job = world.finished(ann)
    answer = world.ask(ann, "GET", job["links"]["events"])
    assert answer.content_type == "text/event-stream; charset=utf-8"
    events = [line for line in answer.text.splitlines() if line.startswith("event:")]
    assert events == ["event: progress", "event: end"]
    assert '"state": "succeeded"' in answer.text
    answer.close()
    for _ in range(world.settings.web_threads):  # each gave its place back
        again = world.ask(ann, "GET", job["links"]["events"])
        assert again.status_code == 200
        again.close()


def test_too_many_streams_are_refused(world: World) -> None:
    ann = world.people["ann"]
    job = world.send(ann)
    most = world.settings.web_threads // 4
    held = [world.client().get(job["links"]["events"], headers=ann.headers, buffered=False) for _ in range(most)]
    assert [answer.status_code for answer in held] == [200] * most
    refused = world.ask(ann, "GET", job["links"]["events"])
    assert (refused.status_code, (refused.json or {})["code"]) == (429, "too_many_streams")
    held.pop().close()
    late = world.client().get(job["links"]["events"], headers=ann.headers, buffered=False)
    assert late.status_code == 200
    for answer in (late, *held):
        answer.close()


def test_a_disk_that_is_really_full(world: World, tmp_path: Path) -> None:
    """The same with a real file system of its own, where we may mount one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs to mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    import subprocess

    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        services(world.app).blobs = BlobStore(f"file://{place}/blobs")
        form = {"files": [(io.BytesIO(os.urandom(900_000)), str(number)) for number in range(4)]}
        answer = world.ask(world.people["ann"], "POST", "/api/v1/studies", data=form)
        assert (answer.status_code, (answer.json or {})["code"]) == (507, "disk_full")
        assert [path for path in (place / "blobs").rglob("*") if path.is_file()] == []
        assert counts(world) == (0, 0, 0)
    finally:
        subprocess.run(["umount", str(place)], check=True)
