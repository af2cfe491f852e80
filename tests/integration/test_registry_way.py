"""Recall, re-classification and shadow runs through real workers' code, in one process, on both databases."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, true

from config.queues import QUEUE_BATCH, QUEUES
from config.settings import Settings
from db.base import utc_now
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, WorkItem
from db.predictions import Prediction
from db.queries import checkpoints, promotions, reruns, settle, views, withdrawals
from db.queries.refusals import RegistryRefused
from db.queries.shown import study_checkpoints
from db.queries.summaries import study_summary
from db.queries.visibility import Viewer
from db.session import Database
from db.states import JobState, Priority, Purpose, Role
from db.studies import Study
from inference import artefact
from tests import standing_truth
from tests.work_rig import context_for, job_state, make_user, models_folder, pictures, promote_tiny, submit
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


def another(work: Settings, database: Database, name: str = "other") -> Checkpoint:
    """Registers a further artefact with the same network."""
    tiny = artefact.load(work.models_dir / "tiny.neurosight")
    manifest = replace(tiny.manifest, code_version=name, temperature=3.0, members={})
    digest = artefact.write(
        work.models_dir / f"{name}.neurosight",
        manifest,
        tiny.weights(),
        tiny.openvino_xml,
        tiny.openvino_bin,
        tiny.model_card,
    )
    with Housekeeper(work) as housekeeper:
        housekeeper.register_models()
    with database.read() as session:
        return session.scalars(select(Checkpoint).where(Checkpoint.digest == digest)).one()


def promote(database: Database, checkpoint: Checkpoint) -> None:
    with database.write() as session:
        newest = promotions.newest_promotion(session)
        promotions.promote(
            session, checkpoint.id, by=None, reason="test", seen=newest.id if newest else None, accept_classes=True
        )


def shown_of(database: Database, study: Study) -> str:
    """Name of the checkpoint whose results the study's page shows."""
    with database.read() as session:
        return study_checkpoints(session, study.id)[0].checkpoint.name


def the_study(database: Database) -> Study:
    with database.read() as session:
        return session.scalars(select(Study)).one()


def reclassify(database: Database, work: Settings, *, priority: Priority = Priority.NORMAL) -> reruns.Rerun | None:
    with database.write() as session:
        return reruns.reclassify(session, true(), work, by=None, title="again", priority=priority)


def test_after_a_rollback_everything_is_listed_marked_and_run_again(
    work: Settings, context: Context, database: Database
) -> None:
    good, bad = promote_tiny(work), another(work, database)
    promote(database, bad)
    sender = make_user(database)
    job_id = submit(database, work, {**pictures(6), "notes.txt": b"no image"}, user=sender)
    turn(context, 60)
    study = the_study(database)
    with database.write() as session:
        newest = promotions.newest_promotion(session)
        assert newest is not None
        promotions.roll_back(session, to=good, by=None, reason="misses tumours", seen=newest.id)
    with database.read() as session:
        found = withdrawals.affected(session, bad.id, good)
        assert (found.total_studies, found.total_slices, found.repeated_slices) == (1, 6, 0)
        assert [(row.study.id, row.slices, row.jobs[0][0].id) for row in found.studies] == [(study.id, 6, job_id)]
        rows = list(withdrawals.affected_rows(session, bad.id, good))
        assert {tuple(row) for row in rows} == {withdrawals.CSV_COLUMNS}
        assert {(row["job_id"], row["repeated_by_serving"]) for row in rows} == {(job_id, "no")}
        view = views.study_view(session, Viewer(sender, Role.SUBMITTER), study)
        assert view.withdrawal is not None
        assert view.withdrawal.reason == "misses tumours"
        assert views.studies_page(session, Viewer(sender, Role.SUBMITTER)).rows[0].withdrawal is not None
    with database.write() as session:
        made = reruns.reclassify(
            session,
            reruns.studies_with_results_of(bad.id),
            work,
            by=None,
            title="recall",
            priority=Priority.OFF_PEAK,
        )
    assert made is not None
    assert (made.slices, made.studies, made.more) == (6, 1, False)
    # A second click makes no second job.
    assert reclassify(database, work) is None
    with database.read() as session:
        job = session.get_one(Job, made.job_id)
        assert (job.purpose, job.checkpoint_id, job.priority) == (Purpose.RECLASSIFICATION, good, Priority.OFF_PEAK)
        # Few slices, and still not in the lane of what somebody has just sent.
        queues = set(session.scalars(select(WorkItem.queue).where(WorkItem.job_id == job.id)))
        assert queues == {QUEUE_BATCH}
    turn(context, 60)
    assert job_state(database, made.job_id) == JobState.SUCCEEDED
    with database.read() as session:
        found = withdrawals.affected(session, bad.id, good)
        assert (found.total_slices, found.repeated_slices, found.studies[0].repeated) == (6, 6, 6)
        # The study shows the new results; the old ones stay and can be asked for.
        view = views.study_view(session, Viewer(sender, Role.SUBMITTER), study)
        assert view.checkpoint is not None
        assert (view.checkpoint.id, view.withdrawal, view.summary.analysed) == (good, None, 6)
        assert [(item.checkpoint.id, item.slices) for item in view.checkpoints] == [(good, 6), (bad.id, 6)]
        old = views.study_view(session, Viewer(sender, Role.SUBMITTER), study, bad.digest)
        assert old.checkpoint is not None
        assert old.checkpoint.id == bad.id
        assert old.withdrawal is not None
        assert old.summary.is_complete
        # The one who sent the study does not see the administrator's job, and still only one job of his own.
        assert [job.id for job in view.jobs] == [job_id]
    with database.write() as session:
        withdrawals.lift(session, session.get_one(Checkpoint, bad.id), by=None)
    with database.read() as session:
        assert views.study_view(session, Viewer(sender, Role.SUBMITTER), study, bad.digest).withdrawal is None


def test_a_reclassification_is_shown_when_the_study_is_done_and_not_half(
    work: Settings, context: Context, database: Database
) -> None:
    submit(database, work, pictures(8))
    turn(context, 60)
    study = the_study(database)
    promote(database, another(work, database))
    made = reclassify(database, work)
    assert made is not None
    turn(context, 0.0)  # one chunk of two
    assert shown_of(database, study) == "tiny"
    with database.read() as session:
        view = views.study_view(session, Viewer(make_user(database), Role.ADMIN), study)
        assert view.summary.is_complete
        assert [item.slices for item in view.checkpoints] == [8, 4]
    # Cancelled half-way, the new results are the newest, and say that they are not all.
    with database.write() as session:
        assert settle.cancel(session, made.job_id)
    assert shown_of(database, study) == "other"
    with database.read() as session:
        view = views.study_view(session, Viewer(make_user(database), Role.ADMIN), study)
        assert (view.summary.analysed, view.summary.failed, view.summary.is_complete) == (4, 4, False)
    with database.write() as session:
        assert settle.retry(session, made.job_id, work)
    turn(context, 60)
    with database.read() as session:
        view = views.study_view(session, Viewer(make_user(database), Role.ADMIN), study)
        assert (view.summary.analysed, view.summary.is_complete) == (8, True)


def test_slices_that_another_model_was_asked_about_are_not_called_failed(
    work: Settings, context: Context, database: Database
) -> None:
    files = {f"study/{number}.png": data for number, data in enumerate(pictures(4).values())}
    submit(database, work, files)
    turn(context, 60)
    study = the_study(database)
    other = another(work, database)
    with database.write() as session:
        first = session.scalars(select(JobSlice)).first()
        assert first is not None
        job = Job(purpose=Purpose.RECLASSIFICATION, state=JobState.CLASSIFYING, checkpoint_id=other.id)
        session.add(job)
        session.flush()
        job_slice = JobSlice(job_id=job.id, instance_id=first.instance_id)
        session.add(job_slice)
        session.flush()
        settle.cut(session, job, [job_slice.id], work)
    turn(context, 60)
    with database.read() as session:
        summary = study_summary(session, study.id, other.id)
        assert (summary.analysed, summary.not_asked, summary.failed, summary.waiting) == (1, 3, 0, 0)
        assert not summary.is_complete
        assert summary.finding.value != "no_tumour"


def test_results_of_a_shadow_run_are_kept_apart_until_a_job_asks_for_them(
    work: Settings, context: Context, database: Database
) -> None:
    user = make_user(database)
    first_job = submit(database, work, pictures(6), user=user)
    turn(context, 60)
    study = the_study(database)
    candidate = another(work, database)
    with database.write() as session:
        run = reruns.shadow(session, candidate, 10, work, by=None, title="shadow")
    with pytest.raises(RegistryRefused, match="under way"), database.write() as session:
        reruns.shadow(session, candidate, 10, work, by=None, title="shadow")
    turn(context, 60)
    assert job_state(database, run.job_id) == JobState.SUCCEEDED
    clinician, admin = Viewer(user, Role.CLINICIAN), Viewer(user, Role.ADMIN)
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Prediction.checkpoint_id == candidate.id)) == 6
        view = views.study_view(session, clinician, study, candidate.digest)
        assert view.checkpoint is not None
        assert view.checkpoint.name == "tiny"
        assert len(view.checkpoints) == 1
        assert view.summary.is_complete
        assert study_summary(session, study.id, candidate.id).analysed == 0
        assert [row.job.id for row in views.jobs_page(session, clinician).rows] == [first_job]
        assert {row.job.id for row in views.jobs_page(session, admin).rows} == {first_job, run.job_id}
    # Promoted, and the same pictures are sent again: nothing is computed twice, and the results are shown from now on.
    promote(database, candidate)
    again = submit(database, work, pictures(6), user=user)
    turn(context, 60)
    assert job_state(database, again) == JobState.SUCCEEDED
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Prediction)) == 12
        owners = set(session.scalars(select(Prediction.job_id).where(Prediction.checkpoint_id == candidate.id)))
        assert owners == {again}
        view = views.study_view(session, clinician, study)
        assert view.checkpoint is not None
        assert view.checkpoint.id == candidate.id


def test_a_reclassification_takes_over_what_a_shadow_run_made(
    work: Settings, context: Context, database: Database
) -> None:
    submit(database, work, pictures(5))
    turn(context, 60)
    candidate = another(work, database)
    with database.write() as session:
        reruns.shadow(session, candidate, 10, work, by=None, title="shadow")
    turn(context, 60)
    promote(database, candidate)
    made = reclassify(database, work)
    assert made is not None
    assert made.slices == 5
    turn(context, 60)
    with database.read() as session:
        owners = set(session.scalars(select(Prediction.job_id).where(Prediction.checkpoint_id == candidate.id)))
        assert owners == {made.job_id}
        assert session.scalar(select(func.count()).select_from(Prediction)) == 10


def test_a_period_and_the_size_of_a_job_bound_what_is_run_again(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reruns, "SLICES_A_JOB", 5)
    for number in range(3):
        submit(database, work, pictures(3, first_seed=10 * number, folder=f"study {number}"))
    turn(context, 60)
    with database.read() as session:
        oldest, middle, newest = session.scalars(select(Study).order_by(Study.created_at)).all()
    promote(database, another(work, database))
    with database.write() as session:
        made = reruns.reclassify(
            session,
            reruns.studies_received_between(middle.created_at, utc_now()),
            work,
            by=None,
            title="period",
            priority=Priority.NORMAL,
        )
    assert made is not None
    assert (made.slices, made.studies, made.more) == (3, 1, True)
    turn(context, 60)
    assert [shown_of(database, study) for study in (oldest, middle, newest)] == ["tiny", "other", "tiny"]


def test_a_third_model_comes_into_memory_only_when_one_has_gone(
    work: Settings, context: Context, database: Database
) -> None:
    context.predictors.follow()
    second, third = another(work, database, "second"), another(work, database, "third")
    promote(database, second)
    context.predictors.follow()
    first = promote_tiny(work)
    with context.predictors.use(first) as predictor:  # a job that pinned it is under way
        promote(database, third)
        context.predictors.follow()
        assert context.predictors.serving == third.id
        assert context.predictors.facts()["models_loaded"] == 2
        (said,) = predictor.predict([np.zeros((64, 64), np.float32)])
        assert said.probabilities
    # A file that is gone costs none of the models that are there.
    fourth = another(work, database, "fourth")
    context.blobs.delete(fourth.digest)
    with database.write() as session:
        checkpoints.promote(session, fourth.digest, by=None, reason="before it was deleted")
    context.predictors.follow()
    assert context.predictors.serving == third.id
    assert context.predictors.facts()["models_loaded"] == 2


def test_a_promoted_file_that_was_deleted_by_hand_loses_nothing(work: Settings, database: Database) -> None:
    context = context_for(work.model_copy(update={"retry_delay_s": 60.0}), QUEUES)
    context.predictors.follow()
    good = context.predictors.serving
    other = another(work, database)
    with database.write() as session:
        checkpoints.promote(session, other.digest, by=None, reason="before it was deleted")
    content = context.blobs.read(other.digest)
    context.blobs.delete(other.digest)
    job_id = submit(database, work, pictures(3))
    turn(context, 2.0)
    context.predictors.follow()
    # The worker keeps what it has and says what it could not load; the job waits, no attempt is lost.
    assert context.predictors.serving == good
    assert context.predictors.facts()["checkpoint_refused"] == str(other.id)
    with database.read() as session:
        items = session.scalars(select(WorkItem).where(WorkItem.job_id == job_id, WorkItem.task.contains("classify")))
        assert {(item.attempts, item.error_code) for item in items} == {(0, "model_missing")}
    context.blobs.put(io.BytesIO(content))
    with database.write() as session:
        for item in session.scalars(select(WorkItem)):
            item.not_before = None
    turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    context.close()
