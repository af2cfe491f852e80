"""Deleting a study by page and by program, and the audit of lists that show who studies are of."""

import uuid

import pytest

from db.jobs import JobStudy
from db.studies import StudyIdentity
from tests.web_world import World

API = "/api/v1"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough here: `tests/unit/db/test_erasure.py` asks both."""
    return sqlite_url


def test_a_study_is_deleted_for_good_by_page_and_by_program(world: World) -> None:
    ann, clara, ada = (world.people[name] for name in ("ann", "clara", "ada"))
    job = world.finished(ann)
    study = job["studies"][0]["id"]
    page = f"/studies/{study}/delete"
    assert f'href="{page}"' in world.ask(ada, "GET", f"/studies/{study}").text
    assert f'href="{page}"' not in world.ask(clara, "GET", f"/studies/{study}").text
    shown = " ".join(world.ask(ada, "GET", page).text.split())
    for words in (
        "cannot be undone",
        "3 slices in 1 series",
        "3 results with their heatmaps",
        "1 job with its receipt",
    ):
        assert words in shown
    no_reason = world.ask(ada, "POST", page, data={"understood": "1"})
    assert (no_reason.status_code, "Choose one of the offered reasons" in no_reason.text) == (422, True)
    no_tick = world.ask(ada, "POST", page, data={"reason": "mistake"})
    assert (no_tick.status_code, "Tick that you have understood" in no_tick.text) == (422, True)
    address = f"{API}/studies/{study}"
    assert world.ask(clara, "DELETE", f"{address}?reason=test").status_code == 403
    assert world.ask(ada, "DELETE", address).status_code == 422
    assert world.ask(ada, "DELETE", f"{address}?reason=retention").status_code == 422, "only the settings say so"
    waiting = world.send(ann)
    with world.database.write() as db:  # as if it were being classified
        db.add(JobStudy(job_id=uuid.UUID(waiting["id"]), study_id=uuid.UUID(study)))
    refused = world.ask(ada, "DELETE", f"{address}?reason=test")
    assert (refused.status_code, (refused.json or {})["job_id"]) == (409, waiting["id"])
    refused = world.ask(ada, "POST", page, data={"reason": "mistake", "understood": "1"})
    assert (refused.status_code, "A job still works on this study" in refused.text) == (409, True)
    assert world.ask(ann, "POST", f"{API}/jobs/{waiting['id']}/cancel").status_code == 200
    gone = world.ask(ada, "DELETE", f"{address}?reason=test")
    counts = {"series": 1, "slices": 3, "predictions": 3, "decisions": 0, "jobs": 2, "samples": 0}
    assert gone.json == {"id": study, **counts}
    assert world.audited("study.delete", "ok", study) == 1
    for gone_too in (f"/studies/{study}", address, page, f"{API}/jobs/{job['id']}"):
        assert world.ask(ada, "GET", gone_too).status_code == 404
    other = world.finished(ann)["studies"][0]["id"]
    done = world.ask(ada, "POST", f"/studies/{other}/delete", data={"reason": "mistake", "understood": "1"})
    assert (done.status_code, done.location) == (303, "/studies")


def test_lists_that_show_who_studies_are_of_are_in_the_audit_trail(world: World) -> None:
    ann, bob, clara = (world.people[name] for name in ("ann", "bob", "clara"))
    job = world.finished(ann)
    with world.database.write() as db:
        db.add(StudyIdentity(study_id=uuid.UUID(job["studies"][0]["id"]), patient_name="ROE^JANE", patient_id="7"))
    pages = ("/studies", f"/jobs/{job['id']}")
    for who, seen in ((clara, True), (ann, True), (bob, False)):
        before = world.audited("study.list")
        for page in pages:
            text = world.ask(who, "GET", page).text
            assert ("ROE JANE" in text) is seen, (who.username, page)
        # The same studies within minutes are one look.
        assert world.audited("study.list") - before == seen
