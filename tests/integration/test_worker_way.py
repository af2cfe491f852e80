"""The way of a study through intake and classification, in one process, on both databases."""

import io
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

import worker.classify
import worker.intake
from config.queues import QUEUE_INTERACTIVE, QUEUES, TASK_CLASSIFY, TASK_REPRODUCE
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, ReceivedFile, WorkItem
from db.predictions import Prediction, Reproduction
from db.queries import checkpoints, settle
from db.queries import intake as intake_rows
from db.session import Database
from db.states import JobState
from db.studies import Instance, Study
from db.users import AuditEvent
from imaging.frames import Pixels
from imaging.outcomes import Reason, RejectedFile
from inference import artefact
from tests import standing_truth
from tests.tiny_artefact import tiny_digest
from tests.work_rig import (
    context_for,
    job_state,
    make_user,
    models_folder,
    picture,
    pictures,
    promote_tiny,
    results_of,
    slice_counts,
    submit,
)
from worker.context import Context
from worker.housekeeping import Housekeeper
from worker.work import turn


@pytest.fixture
def work(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the tiny model, promoted, and small chunks."""
    changed = settings.model_copy(
        update={"models_dir": models_folder(tmp_path / "models"), "chunk_slices": 4, "retry_delay_s": 0.0}
    )
    promote_tiny(changed)
    return changed


@pytest.fixture
def context(work: Settings, database: Database) -> Iterator[Context]:
    """A worker; after the test every study stands where the rows say."""
    opened = context_for(work, QUEUES)
    yield opened
    opened.close()
    standing_truth.assert_true(database)


def receipt(database: Database, job_id: uuid.UUID) -> dict[str, tuple[str, str]]:
    with database.read() as session:
        lines = session.scalars(select(ReceivedFile).where(ReceivedFile.job_id == job_id)).all()
        return {line.path: (line.outcome, line.reason) for line in lines}


def test_a_folder_of_pictures_is_classified(work: Settings, context: Context, database: Database) -> None:
    job_id = submit(database, work, pictures(10))
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    assert slice_counts(database, job_id) == {"done": 10}
    found = results_of(database, job_id)
    assert len(found) == len(set(found)) == 10
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert job.checkpoint_id is not None
        assert len(job.content_digest) == 64
        items = session.scalars(select(WorkItem).where(WorkItem.job_id == job_id)).all()
        assert sorted((item.queue, item.slices, item.state) for item in items) == [
            ("batch", 2, "done"),
            ("batch", 4, "done"),
            ("batch", 4, "done"),
            ("intake", 0, "done"),
        ]
    assert set(receipt(database, job_id).values()) == {("accepted", "accepted")}


def test_every_file_is_accounted_for(work: Settings, context: Context, database: Database) -> None:
    good = pictures(3)
    first = next(iter(good.values()))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("inner/a.png", picture(50))
        made.writestr("inner/b.png", picture(51))
        made.writestr("__MACOSX/._a.png", b"\0\5\26\7")
    job_id = submit(
        database,
        work,
        {
            **good,
            "study/copy of 1.png": first,
            "study/notes.png": b"these are words and no picture at all",
            "study/empty.dcm": b"",
            "study/Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
            "study/cut.png": picture(60)[:400],
            "more.zip": archive.getvalue(),
            "broken.zip": archive.getvalue()[:80],
        },
    )
    turn(context, 60)
    lines = receipt(database, job_id)
    assert lines["study/notes.png"][0] == "not_an_image"
    assert lines["study/empty.dcm"] == ("empty", "empty_file")
    assert lines["study/Thumbs.db"][0] == "ignored"
    assert lines["study/cut.png"][0] == "unreadable"
    assert lines["more.zip/inner/a.png"] == lines["more.zip/inner/b.png"] == ("accepted", "accepted")
    assert lines["more.zip/__MACOSX/._a.png"][0] == "ignored"
    assert lines["broken.zip"][0] == "unreadable"
    copies = [path for path, (outcome, _) in lines.items() if outcome == "duplicate"]
    assert len(copies) == 1
    assert copies[0] in ("study/copy of 1.png", "study/slice 1.png")
    assert len(lines) == 3 + 1 + 4 + 3 + 1
    assert len(results_of(database, job_id)) == 5
    with database.read() as session:
        copy = session.scalars(select(ReceivedFile).where(ReceivedFile.path == copies[0])).one()
        kept = session.scalars(
            select(ReceivedFile).where(ReceivedFile.sha256 == copy.sha256, ReceivedFile.outcome == "accepted")
        ).one()
        assert copy.instance_id == kept.instance_id
        assert (copy.slices, kept.slices) == (0, 1)


def test_a_submission_without_a_usable_slice_fails_with_its_reason(
    work: Settings, context: Context, database: Database
) -> None:
    job_id = submit(database, work, {"a.txt": b"hello", "b.dcm": b""})
    turn(context, 60)
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.failure_code) == (JobState.FAILED, "no_usable_slice")
    assert len(receipt(database, job_id)) == 2


def test_the_same_study_sent_twice_is_recognised_and_shown_at_once(
    work: Settings, context: Context, database: Database
) -> None:
    user = make_user(database)
    stranger = make_user(database)
    first = submit(database, work, pictures(5), user=user)
    turn(context, 60)
    again = submit(database, work, pictures(5), user=user)
    elsewhere = submit(database, work, pictures(5), user=stranger)
    turn(context, 60)
    with database.read() as session:
        second = session.get_one(Job, again)
        assert second.state == JobState.SUCCEEDED
        assert second.duplicate_of_id == first
        assert session.get_one(Job, elsewhere).duplicate_of_id is None, "a stranger learned of somebody's study"
        assert session.scalar(select(func.count()).select_from(Prediction)) == 5
        assert session.scalar(select(func.count()).select_from(Study)) == 1
    assert set(receipt(database, again).values()) == {("duplicate", "sent_before")}
    assert len(results_of(database, again)) == 5
    assert slice_counts(database, again) == {"done": 5}


def test_a_zip_and_a_folder_of_the_same_pictures_are_the_same_submission(
    work: Settings, context: Context, database: Database
) -> None:
    user = make_user(database)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for path, content in pictures(3).items():
            made.writestr(path, content)
    first = submit(database, work, pictures(3), user=user)
    second = submit(database, work, {"study.zip": archive.getvalue()}, user=user)
    turn(context, 60)
    with database.read() as session:
        assert session.get_one(Job, second).duplicate_of_id == first


def test_intake_killed_half_way_is_done_again_with_the_same_rows(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.intake, "FILES_A_TRANSACTION", 2)
    real, calls = intake_rows.add_files, []

    def dying(*arguments: object, **named: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("killed here")
        real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(intake_rows, "add_files", dying)
    files = pictures(7)
    files["study/again.png"] = files["study/slice 2.png"]
    job_id = submit(database, work, files)
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    lines = receipt(database, job_id)
    assert len(lines) == 8
    assert sorted(lines.values()) == [("accepted", "accepted")] * 7 + [("duplicate", "duplicate")]
    assert len(results_of(database, job_id)) == 7
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ReceivedFile)) == 8
        assert session.scalar(select(func.count()).select_from(Instance)) == 7


def one_by_one(
    read: Callable[[Path, int], Pixels],
) -> Callable[[Sequence[tuple[Path, int]]], list[Pixels | RejectedFile]]:
    """Reads several slices by reading each."""

    def outcome(path: Path, index: int) -> Pixels | RejectedFile:
        try:
            return read(path, index)
        except RejectedFile as rejection:
            return rejection

    return lambda files: [outcome(path, index) for path, index in files]


def test_a_slice_that_cannot_be_decoded_fails_alone(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = context.decoders.read_frame

    def failing(path: Path, index: int) -> Pixels:
        pixels = real(path, index).pixels
        if pixels.shape[0] == 97:
            raise RejectedFile(Reason.DAMAGED, found="PNG")
        return pixels

    monkeypatch.setattr(context.decoders, "read_pixels", one_by_one(failing))
    job_id = submit(database, work, pictures(5) | {"study/slice 2b.png": picture(70, 97)})
    turn(context, 60)
    assert job_state(database, job_id) == JobState.PARTIAL
    assert slice_counts(database, job_id) == {"done": 5, "failed": 1}
    assert receipt(database, job_id)["study/slice 2b.png"] == ("unreadable", "damaged")
    with database.read() as session:
        failed = session.scalars(select(JobSlice).where(JobSlice.state == "failed")).one()
        assert (failed.failure_code, failed.failure_detail) == ("damaged", {"found": "PNG"})


def test_a_missing_blob_fails_its_slice_and_is_no_fault_of_the_file(
    work: Settings, context: Context, database: Database
) -> None:
    job_id = submit(database, work, pictures(3))
    intake_only = context_for(work, ("intake",))
    turn(intake_only, 60)
    intake_only.close()
    with database.read() as session:
        digest = session.scalars(select(Instance.content_sha256).order_by(Instance.sort_key).limit(1)).one()
    context.blobs.delete(digest)
    turn(context, 60)
    assert slice_counts(database, job_id) == {"done": 2, "failed": 1}
    with database.read() as session:
        assert session.scalars(select(JobSlice.failure_code).where(JobSlice.state == "failed")).one() == "blob_missing"
    assert set(receipt(database, job_id).values()) == {("accepted", "accepted")}


def test_an_unexpected_error_is_bounded_and_divided(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = context.decoders.read_frame, []

    def failing(path: Path, index: int) -> Pixels:
        pixels = real(path, index).pixels
        if pixels.shape[0] == 97:
            seen.append(1)
            raise ZeroDivisionError
        return pixels

    monkeypatch.setattr(context.decoders, "read_pixels", one_by_one(failing))
    job_id = submit(database, work, pictures(7) | {"study/slice 2b.png": picture(70, 97)})
    turn(context, 60)
    assert job_state(database, job_id) == JobState.PARTIAL
    assert slice_counts(database, job_id) == {"done": 7, "failed": 1}
    assert len(seen) == work.max_attempts
    with database.read() as session:
        failed = session.scalars(select(JobSlice).where(JobSlice.state == "failed")).one()
        assert failed.failure_code == "poison"
        dead = session.scalars(select(WorkItem).where(WorkItem.state == "dead")).one()
        assert dead.id == failed.work_item_id


def test_failed_slices_are_retried_without_the_others(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        def failing(path: Path, index: int) -> Pixels:
            raise RejectedFile(Reason.DAMAGED, found="PNG")

        broken.setattr(context.decoders, "read_pixels", one_by_one(failing))
        job_id = submit(database, work, pictures(3))
        turn(context, 60)
        assert job_state(database, job_id) == JobState.FAILED
    with database.write() as session:
        items = settle.retry(session, job_id, work)
    assert [item.slices for item in items] == [3]
    assert job_state(database, job_id) == JobState.CLASSIFYING
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    assert len(results_of(database, job_id)) == 3
    with database.write() as session:
        assert settle.retry(session, job_id, work) == []


def test_a_cancelled_job_writes_nothing_more_and_can_be_resumed(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(database, work, pictures(8))
    real, seen = context.decoders.read_frame, []

    def cancelling(path: Path, index: int) -> Pixels:
        seen.append(1)
        if len(seen) == 2:
            with database.write() as session:
                assert settle.cancel(session, job_id)
                assert not settle.cancel(session, job_id)
        return real(path, index).pixels

    with monkeypatch.context() as patched:
        patched.setattr(context.decoders, "read_pixels", one_by_one(cancelling))
        turn(context, 60)
    assert job_state(database, job_id) == JobState.CANCELLED
    assert slice_counts(database, job_id) == {"cancelled": 8}
    assert results_of(database, job_id) == []
    with database.read() as session:
        assert session.scalars(select(AuditEvent).where(AuditEvent.action == "fenced")).all() == []
    with database.write() as session:
        assert settle.retry(session, job_id, work)
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED


def test_without_a_promoted_model_the_job_waits_and_loses_no_attempt(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    waiting = settings.model_copy(update={"models_dir": tmp_path / "none", "retry_delay_s": 0.0})
    context = context_for(waiting, QUEUES)
    job_id = submit(database, waiting, pictures(2))
    turn(context, 0.0)
    with database.read() as session:
        item = session.scalars(select(WorkItem)).one()
        assert (item.state, item.error_code, item.attempts, item.deferrals) == ("pending", "no_model", 0, 1)
    promote_tiny(waiting.model_copy(update={"models_dir": models_folder(tmp_path / "none")}))
    turn(context, 60)
    context.close()
    assert job_state(database, job_id) == JobState.SUCCEEDED


def test_an_altered_artefact_is_not_served_and_mended_by_restoring_it(
    work: Settings, context: Context, database: Database
) -> None:
    stored = work.var_dir / "blobs" / tiny_digest()[:2] / tiny_digest()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    job_id = submit(database, work, pictures(2))
    patient = context_for(work.model_copy(update={"retry_delay_s": 0.0}), ("intake", "interactive", "batch"))
    turn(patient, 0.0)
    turn(patient, 0.0)
    with database.read() as session:
        item = session.scalars(select(WorkItem).where(WorkItem.task == TASK_CLASSIFY)).one()
        assert (item.state, item.error_code, item.attempts) == ("pending", "model_altered", 0)
    stored.write_bytes(whole)
    turn(patient, 60)
    patient.close()
    assert job_state(database, job_id) == JobState.SUCCEEDED


def test_a_prediction_is_reproduced_to_the_bit(work: Settings, context: Context, database: Database) -> None:
    job_id = submit(database, work, pictures(9))
    turn(context, 60)
    with database.write() as session:
        for prediction in session.scalars(select(Prediction)).all():
            request = Reproduction(prediction_id=prediction.id, job_id=job_id)
            session.add(request)
            session.flush()
            session.add(
                WorkItem(
                    job_id=job_id,
                    task=TASK_REPRODUCE,
                    queue=QUEUE_INTERACTIVE,
                    max_attempts=2,
                    arguments={"reproduction_id": str(request.id)},
                )
            )
    turn(context, 60)
    with database.read() as session:
        rows = session.scalars(select(Reproduction)).all()
        assert {(row.state, row.largest_difference) for row in rows} == {("equal", 0.0)}
    assert job_state(database, job_id) == JobState.SUCCEEDED


def test_an_altered_prediction_is_found_different(work: Settings, context: Context, database: Database) -> None:
    job_id = submit(database, work, pictures(1))
    turn(context, 60)
    with database.write() as session:
        prediction = session.scalars(select(Prediction)).one()
        name = prediction.class_name
        prediction.probabilities = {**prediction.probabilities, name: prediction.probabilities[name] - 0.01}
        request = Reproduction(prediction_id=prediction.id, job_id=job_id)
        session.add(request)
        session.flush()
        arguments = {"reproduction_id": str(request.id)}
        session.add(
            WorkItem(job_id=job_id, task=TASK_REPRODUCE, queue=QUEUE_INTERACTIVE, max_attempts=2, arguments=arguments)
        )
    turn(context, 60)
    with database.read() as session:
        row = session.scalars(select(Reproduction)).one()
        assert row.state == "different"
        assert row.largest_difference == pytest.approx(0.01)


def test_a_single_image_overtakes_a_batch(work: Settings, context: Context, database: Database) -> None:
    big = submit(database, work, pictures(40))
    intake_only = context_for(work, ("intake",))
    turn(intake_only, 60)
    single = submit(database, work, pictures(1, first_seed=800, folder="one"))
    turn(intake_only, 60)
    intake_only.close()
    # One item only: whichever the worker takes first.
    turn(context, 0.0)
    assert job_state(database, single) == JobState.SUCCEEDED
    assert slice_counts(database, big) == {"pending": 40}


def other_model(work: Settings, database: Database) -> uuid.UUID:
    """Promotes another artefact with the same network; returns its checkpoint's id."""
    tiny = artefact.load(work.models_dir / "tiny.neurosight")
    changed = replace(tiny.manifest, code_version="another one", members={})
    digest = artefact.write(
        work.models_dir / "other.neurosight",
        changed,
        tiny.weights(),
        tiny.openvino_xml,
        tiny.openvino_bin,
        tiny.model_card,
    )
    with Housekeeper(work) as housekeeper:
        housekeeper.register_models()
    with database.write() as session:
        return checkpoints.promote(session, digest, by=None, reason="test").checkpoint_id


def test_a_promotion_in_the_middle_of_a_job_leaves_it_on_its_checkpoint(
    work: Settings, context: Context, database: Database
) -> None:
    first = submit(database, work, pictures(8))
    intake_only = context_for(work, ("intake",))
    turn(intake_only, 60)
    turn(context, 0.0)
    other_id = other_model(work, database)
    second = submit(database, work, pictures(8))
    turn(context, 60)
    intake_only.close()
    with database.read() as session:
        used = {
            job_id: set(session.scalars(select(Prediction.checkpoint_id).where(Prediction.job_id == job_id)))
            for job_id in (first, second)
        }
        assert used[first] == {session.get_one(Job, first).checkpoint_id}
        assert used[second] == {session.get_one(Job, second).checkpoint_id} == {other_id}
        assert used[first] != used[second]
        # The same pictures, sent again under another model, are classified again; the old results stay.
        assert session.scalar(select(func.count()).select_from(Prediction)) == 16
    assert [job_state(database, job_id) for job_id in (first, second)] == [JobState.SUCCEEDED] * 2


def test_four_promotions_keep_two_models_in_memory(work: Settings, context: Context, database: Database) -> None:
    with database.read() as session:
        serving = checkpoints.serving(session)
    assert serving is not None
    other_id = other_model(work, database)
    for digest in (tiny_digest(), None, tiny_digest(), None):
        if digest:
            with database.write() as session:
                checkpoints.promote(session, digest, by=None, reason="back")
        else:
            with database.write() as session:
                other = session.get_one(Checkpoint, other_id).digest
                checkpoints.promote(session, other, by=None, reason="forth")
        context.predictors.follow()
        expected = serving.id if digest else other_id
        assert context.predictors.serving == expected
        assert context.predictors.facts()["models_loaded"] in (1, 2)
