"""Deleting a study by page and by program, and the audit of lists that show who studies are of."""

import uuid

import pytest

from db.studies import StudyIdentity
from tests.web_world import World
from tests.work_rig import pictures

API = "/api/v1"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough here: `tests/unit/db/test_erasure.py` asks both."""
    return sqlite_url


def test_an_administrator_deletes_a_study_for_good(world: World) -> None:
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
    done = world.ask(ada, "POST", page, data={"reason": "mistake", "understood": "1"})
    assert (done.status_code, done.location) == (303, "/studies")
    assert world.audited("study.delete", "ok", study) == 1
    for address in (f"/studies/{study}", f"{API}/studies/{study}", f"{API}/jobs/{job['id']}"):
        assert world.ask(ada, "GET", address).status_code == 404


def test_a_program_deletes_a_study_when_no_job_works_on_it(world: World) -> None:
    ann, clara, ada = (world.people[name] for name in ("ann", "clara", "ada"))
    study = world.finished(ann, pictures(2))["studies"][0]
    address = f"{API}/studies/{study['id']}"
    assert world.ask(clara, "DELETE", f"{address}?reason=test").status_code == 403
    assert world.ask(ada, "DELETE", address).status_code == 422
    assert world.ask(ada, "DELETE", f"{address}?reason=retention").status_code == 422, "only the settings say so"
    again = world.finished(ann, pictures(2))
    with world.database.write() as db:
        from db.jobs import Job
        from db.states import JobState

        db.get_one(Job, uuid.UUID(again["id"])).state = JobState.CLASSIFYING
    refused = world.ask(ada, "DELETE", f"{address}?reason=test")
    assert (refused.status_code, (refused.json or {})["job_id"]) == (409, again["id"])
    with world.database.write() as db:
        db.get_one(Job, uuid.UUID(again["id"])).state = JobState.SUCCEEDED
    gone = world.ask(ada, "DELETE", f"{address}?reason=test")
    assert gone.json == {
        "id": study["id"], "series": 1, "slices": 2, "predictions": 2, "decisions": 0, "jobs": 2, "samples": 0,
    }  # fmt: skip
    assert world.ask(ada, "GET", address).status_code == 404


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
