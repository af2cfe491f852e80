"""The submit page without scripts: one form with files, and the sample cases."""

import json
import re
from collections.abc import Callable
from html import unescape

import pytest
from sqlalchemy import func, select

from config.settings import ROOT
from db.jobs import Job
from db.session import Database
from db.states import Role
from db.uploads import UploadFile
from tests.unit.web_pages.conftest import HTML, Visitor, said
from web.pages.submit import SAMPLES

Visit = Callable[..., Visitor]
FILES = {"scan/1.png": b"one", "scan/2.png": b"two"}


def jobs(database: Database) -> list[Job]:
    """All jobs."""
    with database.read() as session:
        return list(session.scalars(select(Job)))


def test_files_become_a_job_with_title_and_priority(visit: Visit, database: Database) -> None:
    sent = visit(Role.SUBMITTER).send_files("/submit", FILES, title=" Ward 3 ", priority="urgent")
    (job,) = jobs(database)
    assert sent.status_code == 303
    assert sent.location == f"/jobs/{job.id}"
    assert (job.title, job.priority) == ("Ward 3", "urgent")
    with database.read() as session:
        paths = session.scalars(select(UploadFile.path).order_by(UploadFile.path)).all()
    assert paths == ["scan/1.png", "scan/2.png"]


def test_a_folder_gives_the_title_when_none_is_typed(visit: Visit, database: Database) -> None:
    visit(Role.SUBMITTER).send_files("/submit", FILES)
    assert [job.title for job in jobs(database)] == ["scan"]


@pytest.mark.parametrize("token", ["", "forged"])
def test_a_streamed_form_without_its_token_is_refused(visit: Visit, database: Database, token: str) -> None:
    visitor = visit(Role.SUBMITTER)
    refused = visitor.client.post(
        "/submit", data={"csrf_token": token, "files": (b"", "x")}, headers=HTML, content_type="multipart/form-data"
    )
    assert refused.status_code == 403
    assert visitor.post("/submit", token=token).status_code == 403, "neither is a form of another kind"
    assert jobs(database) == []


def test_another_sites_form_is_refused(visit: Visit, database: Database) -> None:
    visitor = visit(Role.SUBMITTER)
    refused = visitor.client.post(
        "/submit",
        data={"csrf_token": visitor.token()},
        headers={**HTML, "Origin": "https://elsewhere.example"},
        content_type="multipart/form-data",
    )
    assert refused.status_code == 403
    assert jobs(database) == []


def test_an_empty_form_says_what_to_do_and_keeps_the_title(visit: Visit, database: Database) -> None:
    empty = visit(Role.SUBMITTER).send_files("/submit", {}, title="Ward 3")
    assert empty.status_code == 400
    assert "Received no file" in said(empty)
    assert 'value="Ward 3"' in empty.text
    assert jobs(database) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [({"big.png": b"x" * 5000}, "4096 bytes"), ({f"{n}.png": b"x" for n in range(6)}, "more than 5 files")],
)
def test_what_is_over_a_limit_is_refused_with_the_limit(
    visit: Visit, database: Database, files: dict[str, bytes], message: str
) -> None:
    refused = visit(Role.SUBMITTER).send_files("/submit", files)
    assert refused.status_code == 413
    assert message in said(refused)
    assert jobs(database) == []


def test_the_limits_stand_in_the_page(visit: Visit) -> None:
    page = visit(Role.SUBMITTER).get("/submit").text
    assert "At most 4 KB a file, 5 files and 8 GB together." in page


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_sample_becomes_a_job_with_all_its_files(visit: Visit, database: Database, sample: object) -> None:
    chosen = next(other for other in SAMPLES if other is sample)
    assert len(chosen.files) > 5
    visitor = visit(Role.SUBMITTER)
    assert f'value="{chosen.name}"' in visitor.get("/submit").text
    sent = visitor.post("/submit/sample", sample=chosen.name)
    (job,) = jobs(database)
    assert sent.location == f"/jobs/{job.id}"
    assert job.title == str(chosen.title)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(UploadFile)) == len(chosen.files)


def test_the_script_of_the_page_has_every_word_it_says(visit: Visit) -> None:
    page = visit(Role.SUBMITTER).get("/submit").text
    held = re.search(r"data-words='([^']*)'", page)
    assert held is not None
    words = json.loads(unescape(held[1]))
    script = (ROOT / "web" / "static" / "submit.js").read_text()
    said = set(re.findall(r"words\.(\w+)", script)) | {"waiting", "sending", "sent", "failed"}  # by state of a file
    assert said == set(words)
    places = dict.fromkeys(re.findall(r"\{(\w+)\}", " ".join(words.values())))
    assert set(places) <= set(re.findall(r"\w+", script))


def test_an_unknown_sample_is_not_found(visit: Visit, database: Database) -> None:
    assert visit(Role.SUBMITTER).post("/submit/sample", sample="../../etc").status_code == 404
    assert jobs(database) == []
