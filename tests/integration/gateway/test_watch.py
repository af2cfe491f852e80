"""The watched folder: real processes, kills, links, and what is left beside each entry."""

import csv
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config.queues import QUEUES
from config.settings import ROOT, Settings
from db.blobs import BlobStore
from db.jobs import Job
from db.session import Database
from db.uploads import UploadFile
from gateway import watch_receipts
from gateway.entries import files_of
from gateway.watch import FolderInUse, Watcher, run
from tests.work_rig import context_for, models_folder, picture, promote_tiny, wait_for
from web import sentences
from worker.work import turn

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def watched(settings: Settings, tmp_path: Path, scanner: str) -> Settings:
    """Settings with a folder, in which nothing has to be still for long."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    models = models_folder(tmp_path / "models")
    quick = {"watch_dir": folder, "watch_user": scanner, "watch_quiet_s": 0.0, "models_dir": models}
    changed = settings.model_copy(update=quick)
    promote_tiny(changed)
    return changed


def work(settings: Settings) -> None:
    """Does everything that waits, as workers would."""
    context = context_for(settings, QUEUES)
    try:
        while turn(context):
            pass
    finally:
        context.close()


def receipt(folder: Path, name: str) -> dict[str, str]:
    """Outcome by path."""
    rows = csv.DictReader(io.StringIO((folder / f"{name}.receipt.csv").read_text().lstrip("\ufeff")))
    return {row["path"]: row["outcome"] for row in rows}


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "lock" and not path.is_dir()}


def test_entries_are_taken_answered_for_and_moved(
    watched: Settings, database: Database, make_study: Callable[..., list[Path]], tmp_path: Path
) -> None:
    inbox = watched.watch_dir
    assert inbox is not None
    study = inbox / "a study"
    (study / "deep").mkdir(parents=True)
    for number, path in enumerate(make_study(1, 3)):
        path.rename(study / "deep" / f"{number}.dcm")
    (study / "note.txt").write_text("not a picture")
    (study / "secret").symlink_to("/etc/passwd")
    (study / "elsewhere").symlink_to("/etc")
    os.mkfifo(study / "pipe")
    (inbox / "single.png").write_bytes(picture(1))
    (inbox / "letter.txt").write_text("a letter")
    (inbox / "link").symlink_to("/etc/passwd")
    for name in (".hidden", "growing.dcm.part", "large.tmp"):
        (inbox / name).write_text("unfinished")
    (inbox / "empty").mkdir()
    with Database(watched.resolved_database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    blobs = BlobStore(watched.resolved_blob_url)
    watcher = Watcher(watched, database, blobs, threading.Event())
    watcher.round()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0, "seen once: it may still change"
    watcher.round()
    with database.read() as session:
        jobs = {job.title: job for job in session.scalars(select(Job))}
    assert set(jobs) == {"a study", "single.png", "letter.txt"}
    watcher.round()
    assert not (inbox / "done" / "a study").exists(), "intake has not answered yet"
    work(watched)
    (inbox / "done" / "single.png").write_text("of yesterday")
    watcher.round()

    done, refused = inbox / "done", inbox / "refused"
    assert receipt(done, "a study") == {
        "a study/deep/0.dcm": "accepted",
        "a study/deep/1.dcm": "accepted",
        "a study/deep/2.dcm": "accepted",
        "a study/note.txt": "not_an_image",
        "a study/secret": "unsafe",
        "a study/elsewhere": "unsafe",
        "a study/pipe": "unsafe",
    }
    said = (done / "a study.reason.txt").read_text()
    assert said.startswith(f"3 of 7 files were accepted as job {jobs['a study'].id}; a study.receipt.csv says")
    assert (done / "single (2).png").exists(), "what lay there is not overwritten"
    assert receipt(refused, "letter.txt") == {"letter.txt": "not_an_image"}
    assert "None of its 1 files holds a slice" in (refused / "letter.txt.reason.txt").read_text()
    assert (refused / "link").is_symlink()
    assert "None of its 1 files can be taken; link.receipt.csv" in (refused / "link.reason.txt").read_text()
    assert {name for name in os.listdir(inbox) if name not in ("done", "refused")} == {  # noqa: PTH208
        ".neurosight", ".hidden", "growing.dcm.part", "large.tmp", "empty",
    }  # fmt: skip
    assert list((inbox / ".neurosight").iterdir()) == []
    stored = {path.read_bytes()[:6] for path in (watched.var_dir / "blobs").glob("??/*")}
    assert b"root:x" not in stored


def test_too_much_for_one_submission_is_refused_with_the_limit(watched: Settings, database: Database) -> None:
    inbox = watched.watch_dir
    assert inbox is not None
    many = inbox / "many"
    many.mkdir()
    for number in range(4):
        (many / f"{number}.png").write_bytes(picture(number))
    (inbox / "large.png").write_bytes(picture(5) + b"\0" * 20_000)
    limits = {"max_upload_files": 3, "max_file_bytes": 20_000}
    watcher = Watcher(
        watched.model_copy(update=limits), database, BlobStore(watched.resolved_blob_url), threading.Event()
    )
    watcher.round()
    watcher.round()
    refused = inbox / "refused"
    assert "4 files, more than the 3 of one submission" in (refused / "many.reason.txt").read_text()
    assert receipt(refused, "large.png") == {"large.png": "over_limit"}
    assert (refused / "many" / "0.png").exists()


def test_a_kill_between_any_two_steps_loses_nothing_and_doubles_nothing(
    watched: Settings, database: Database, tmp_path: Path
) -> None:
    inbox = watched.watch_dir
    assert inbox is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")}
    for name in (*watched.model_fields_set, "watch_dir", "watch_user"):
        environment[f"NEUROSIGHT_{name.upper()}"] = str(getattr(watched, name))
    environment |= {"PYTHONPATH": str(ROOT), "NEUROSIGHT_WATCH_QUIET_S": "1"}
    log = tmp_path / "watch.log"
    staging = tmp_path / "staging"
    staging.mkdir()
    for entry in range(3):
        folder = staging / f"study {entry}"
        folder.mkdir()
        for number in range(15):
            (folder / f"{number}.png").write_bytes(picture(100 * entry + number, 32))
        folder.rename(inbox / folder.name)

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "gateway", "watch"], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def jobs() -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(Job)) or 0

    for goal in (1, 2):  # killed as soon as one and two are submitted, in the middle of the next one
        process = start()
        try:
            wait_for(lambda goal=goal: jobs() >= goal, 30, 0.002)  # type: ignore[misc]
        finally:
            process.kill()
            process.wait(10)
    process = start()
    try:
        wait_for(lambda: jobs() == 3, 30)
        with pytest.raises(FolderInUse, match="another process watches this folder; end it first"):
            run(watched, threading.Event())
        work(watched)
        wait_for(lambda: len(list((inbox / "done").glob("study ?"))) == 3, 30)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
    assert "study" not in log.read_text().replace("study_", ""), "names of files may name a patient"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 3
        assert session.scalar(select(func.count()).select_from(UploadFile)) == 45
    for entry in range(3):
        assert set(receipt(inbox / "done", f"study {entry}").values()) == {"accepted"}
    assert not list((inbox / ".neurosight").glob("*/*"))


def test_an_entry_that_changes_is_left_alone(watched: Settings, database: Database) -> None:
    inbox = watched.watch_dir
    assert inbox is not None
    slow = watched.model_copy(update={"watch_quiet_s": 0.3})
    watcher = Watcher(slow, database, BlobStore(watched.resolved_blob_url), threading.Event())
    growing = inbox / "growing"
    growing.mkdir()
    for number in range(4):
        (growing / f"{number}.png").write_bytes(picture(number))
        watcher.round()
        time.sleep(0.15)
    assert growing.exists()
    time.sleep(0.35)
    watcher.round()
    assert not growing.exists()
    assert len(files_of(next((inbox / ".neurosight").glob("*/growing")), 10**9)) == 4


def test_sentences_are_those_of_the_pages(database_url: str) -> None:
    assert {code: sentences.FURTHER[code] for code in watch_receipts.FURTHER} == dict(watch_receipts.FURTHER)
    assert watch_receipts.sentence("link", {}) == sentences.english("link")
    assert watch_receipts.sentence("", None) == ""
    assert watch_receipts.sentence("strange", {}) == "The code of the reason is strange."
