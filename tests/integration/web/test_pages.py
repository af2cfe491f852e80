"""The pages of jobs, studies and results on both databases: filters, paging, what is hidden, what is never claimed."""

import re

import pytest

from config.queues import QUEUE_INTAKE
from tests.web_world import Person, World
from tests.work_rig import context_for, pictures
from web.services import services
from worker.work import turn

HTML = {"Accept": "text/html"}


def page(world: World, who: Person, address: str, status: int = 200, headers: dict[str, str] | None = None) -> str:
    """The text of a page."""
    answer = world.ask(who, "GET", address, headers={**HTML, **(headers or {})})
    assert answer.status_code == status, answer.text
    return answer.text


def study_address(world: World, who: Person, job_address: str) -> str:
    """The first study that a job's page links to."""
    found = re.search(r'href="(/studies/[0-9a-f-]{36})"', page(world, who, job_address))
    assert found is not None
    return found[1]


def job_address(job: dict[str, str]) -> str:
    return f"/jobs/{job['id']}"


def test_a_study_shows_every_slice_with_class_and_probability(world: World) -> None:
    ann = world.people["ann"]
    job = world.finished(ann, pictures(4, folder="head"))
    text = page(world, ann, study_address(world, ann, job_address(job)))
    assert text.count('data-state="done"') == 4
    assert text.count("<meter") == 4 + 4, "one a slice, and one a class for the slice on the stage"
    assert "4 of 4 slices analysed" in text
    assert "where the network looked, not where the tumour is" in text
    assert "Research use only." in text


def test_a_partial_study_never_reads_as_negative(world: World) -> None:
    ann = world.people["ann"]
    job = world.send(ann, pictures(3, folder="head"))
    intake = context_for(world.settings, (QUEUE_INTAKE,))
    while turn(intake):
        pass
    intake.close()
    blobs = services(world.app).blobs
    for slice_file in world.json(ann, f"/api/v1/jobs/{job['id']}/receipt")["files"][:1]:
        blobs.delete(slice_file["sha256"])
    world.work()
    address = job_address(job)
    text = page(world, ann, address)
    assert "2 of 3 slices analysed" in text
    assert "1 failed" in text
    assert "Try again what failed or was cancelled" in text
    assert "The stored file is missing" in text
    text = page(world, ann, study_address(world, ann, address))
    assert "No tumour pattern found</p>" not in text
    assert "The study is not complete." in text
    assert text.count('data-state="failed"') == 1


def test_the_list_of_jobs_is_filtered_by_state_text_and_sender(world: World) -> None:
    ann, bob, clara = (world.people[name] for name in ("ann", "bob", "clara"))
    world.finished(ann, pictures(1, folder="a"), title="Ward SEVEN")
    world.send(bob, pictures(1, first_seed=50, folder="b"), title="Night shift")
    for address, there, absent in (
        ("/jobs?state=running", "Night shift", "Ward SEVEN"),
        ("/jobs?state=succeeded", "Ward SEVEN", "Night shift"),
        ("/jobs?text=ward+seven", "Ward SEVEN", "Night shift"),
        ("/jobs?text=bob", "Night shift", "Ward SEVEN"),
    ):
        text = page(world, clara, address)
        assert there in text, address
        assert absent not in text, address
    assert "No job matches these filters." in page(world, clara, "/jobs?mine=1")
    assert "No job matches these filters." in page(world, clara, "/jobs?text=100%25_")
    assert "Night shift" not in page(world, ann, "/jobs")


def test_long_lists_have_pages(world: World) -> None:
    ann = world.people["ann"]
    for number in range(27):
        world.send(ann, pictures(1, first_seed=number), title=f"job number {number:02}")
    first, second = page(world, ann, "/jobs"), page(world, ann, "/jobs?page=2")
    shown = [re.findall(r"job number \d\d", text) for text in (first, second)]
    assert [len(names) for names in shown] == [25, 2]
    assert len(set(shown[0]) | set(shown[1])) == 27
    assert "Page 1 of 2" in first
    assert re.findall(r"job number \d\d", page(world, ann, "/jobs?page=99")) == shown[1]
    page(world, ann, "/jobs?page=x", status=404)


def test_a_submitter_sees_what_he_sent_and_a_clinician_everything(world: World) -> None:
    ann, bob, clara = (world.people[name] for name in ("ann", "bob", "clara"))
    job = world.finished(ann, pictures(2, folder="head"))
    address = study_address(world, ann, job_address(job))
    assert "2 of 2" in page(world, clara, address)
    for hidden in (address, job_address(job)):
        assert "Not found" in page(world, bob, hidden, status=404)
    assert "No study has been received yet." in page(world, bob, "/studies")
    assert world.audited("study.view", "denied") == 1


def test_the_same_files_again_are_named_and_linked(world: World) -> None:
    ann = world.people["ann"]
    first = world.finished(ann, pictures(2, folder="head"))
    second = world.finished(ann, pictures(2, folder="head"))
    text = page(world, ann, job_address(second))
    assert "The same files were received before." in text
    assert job_address(first) in text


def test_fragments_stop_asking_when_nothing_changes_any_more(world: World) -> None:
    ann = world.people["ann"]
    job = world.send(ann, pictures(1))
    asking = {"HX-Request": "true"}
    assert "hx-trigger" in page(world, ann, job_address(job), headers=asking)
    assert "hx-trigger" in page(world, ann, "/jobs", headers=asking)
    world.work()
    assert "hx-trigger" not in page(world, ann, job_address(job), headers=asking)
    assert "hx-trigger" not in page(world, ann, "/jobs", headers=asking)


@pytest.mark.parametrize("language", ["en", "id"])
def test_words_of_constants_follow_the_reader(world: World, language: str) -> None:
    ada = world.people["ada"]
    wanted = {"en": "<dt>clinician</dt>", "id": "<dt>klinisi</dt>"}[language]
    other = page(world, ada, "/admin/users", headers={"Accept-Language": "id" if language == "en" else "en"})
    assert other
    assert wanted in page(world, ada, "/admin/users", headers={"Accept-Language": language})
