"""Settling jobs, sweeping what expired, and the figures about waiting, on both databases."""

import hashlib
import io
import os
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from config.queues import QUEUE_BATCH, QUEUE_INTERACTIVE, TASK_CLASSIFY
from config.settings import Settings
from db.base import utc_now
from db.blobs import BlobStore
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, WorkItem
from db.queries import claims, heartbeats, housekeeping, settle
from db.queries.checkpoints import promote
from db.session import Database
from db.states import IllegalTransition, ItemState, JobState, Priority, SliceState, UploadState, check
from db.studies import Instance, Series, Study
from db.uploads import Upload, UploadFile
from tests.work_rig import make_user
from worker.housekeeping import Housekeeper


def add_job(database: Database, slices: int, settings: Settings, *, priority: Priority = Priority.NORMAL) -> uuid.UUID:
    """A job being classified, with pending slices, cut into items."""
    with database.write() as session:
        study = Study(study_key=f"files:{uuid.uuid4().hex}")
        session.add(study)
        session.flush()
        series = Series(study_id=study.id, series_key="s")
        job = Job(state=JobState.CLASSIFYING, priority=priority, opened_at=utc_now())
        session.add_all([series, job])
        session.flush()
        ids = []
        for number in range(slices):
            digest = hashlib.sha256(f"{study.id}{number}".encode()).hexdigest()
            instance = Instance(
                study_id=study.id,
                series_id=series.id,
                content_sha256=digest,
                size_bytes=1,
                kind="png",
                path=f"{number}.png",
                rows=1,
                columns=1,
                sort_key=float(number),
            )
            session.add(instance)
            session.flush()
            piece = JobSlice(job_id=job.id, instance_id=instance.id)
            session.add(piece)
            session.flush()
            ids.append(piece.id)
        settle.cut(session, job, ids, settings)
        return job.id


def set_slices(database: Database, job_id: uuid.UUID, *states: SliceState) -> None:
    with database.write() as session:
        rows = session.scalars(select(JobSlice).where(JobSlice.job_id == job_id).order_by(JobSlice.id)).all()
        for row, state in zip(rows, states, strict=True):
            row.state = state


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((SliceState.DONE, SliceState.DONE), JobState.SUCCEEDED),
        ((SliceState.DONE, SliceState.FAILED), JobState.PARTIAL),
        ((SliceState.FAILED, SliceState.FAILED), JobState.FAILED),
        ((SliceState.DONE, SliceState.PENDING), None),
    ],
)
def test_a_job_ends_as_its_slices_did(
    database: Database, settings: Settings, states: tuple[SliceState, ...], expected: JobState | None
) -> None:
    job_id = add_job(database, 2, settings)
    set_slices(database, job_id, *states)
    with database.write() as session:
        assert settle.settle(session, job_id) == expected
        assert settle.settle(session, job_id) is None, "a job ended twice"


def test_two_workers_that_finish_at_once_end_the_job(database: Database, settings: Settings) -> None:
    """Each commits its last slice without having seen the other's: the one that locks the job second must see both."""
    for _ in range(5):
        job_id = add_job(database, 2, settings)
        with database.read() as session:
            slice_ids = session.scalars(select(JobSlice.id).where(JobSlice.job_id == job_id)).all()
        together = threading.Barrier(2)
        ended: list[JobState | None] = []

        def finish(slice_id: uuid.UUID, job_id: uuid.UUID, together: threading.Barrier, ended: list[object]) -> None:
            together.wait()
            with database.write() as session:
                session.get_one(JobSlice, slice_id).state = SliceState.DONE
                session.flush()
                ended.append(settle.settle(session, job_id))

        threads = [threading.Thread(target=finish, args=(one, job_id, together, ended)) for one in slice_ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(str(state) for state in ended) == ["None", "succeeded"]


def test_a_job_is_cut_by_size_and_lane(database: Database, settings: Settings) -> None:
    small = settings.model_copy(update={"chunk_slices": 4, "interactive_slices": 8})

    def items(job_id: uuid.UUID) -> list[tuple[str, int]]:
        with database.read() as session:
            rows = session.scalars(select(WorkItem).where(WorkItem.job_id == job_id).order_by(WorkItem.sequence))
            return [(row.queue, row.slices) for row in rows]

    assert items(add_job(database, 8, small)) == [(QUEUE_INTERACTIVE, 4), (QUEUE_INTERACTIVE, 4)]
    assert items(add_job(database, 9, small)) == [(QUEUE_BATCH, 4), (QUEUE_BATCH, 4), (QUEUE_BATCH, 1)]


def test_lost_chunks_are_divided_and_only_what_kills_fails(database: Database, settings: Settings) -> None:
    cut = settings.model_copy(update={"chunk_slices": 3, "interactive_slices": 0, "max_attempts": 4})
    job_id = add_job(database, 3, cut)

    def lose() -> None:
        with database.write() as session:
            claims.claim_next(session, queues=[QUEUE_BATCH], worker_name="w", lease_s=0, starvation_after_s=600)
        time.sleep(0.005)
        with database.write() as session:
            housekeeping.settle_lost(session, cut)

    lose()
    lose()
    with database.read() as session:
        rows = session.scalars(select(WorkItem).where(WorkItem.job_id == job_id)).all()
        assert sorted((row.slices, row.state, row.attempts, row.max_attempts) for row in rows) == [
            (1, "pending", 0, 2),
            (1, "pending", 0, 2),
            (1, "pending", 0, 2),
            (3, "done", 2, 4),
        ]
    for _ in range(6):
        lose()
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.failure_code) == (JobState.FAILED, "every_slice_failed")
        assert {row.failure_code for row in session.scalars(select(JobSlice))} == {"worker_lost"}


def test_illegal_changes_of_state_are_refused_by_name() -> None:
    with pytest.raises(
        IllegalTransition, match="received succeeded -> classifying; after succeeded may follow: nothing"
    ):
        check(JobState.SUCCEEDED, JobState.CLASSIFYING)
    assert check(ItemState.PENDING, ItemState.RUNNING) == ItemState.RUNNING


def test_expired_uploads_go_with_their_blobs_and_shared_blobs_stay(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    blobs = BlobStore(settings.resolved_blob_url)
    user = make_user(database)
    digests = {name: blobs.put(io.BytesIO(name.encode()))[0] for name in ("only", "shared", "fresh")}
    with database.write() as session:
        expired = Upload(created_by_id=user, expires_at=utc_now() - timedelta(seconds=1))
        living = Upload(created_by_id=user, expires_at=utc_now() + timedelta(days=1))
        session.add_all([expired, living])
        session.flush()
        for upload, name in ((expired, "only"), (expired, "shared"), (expired, "fresh"), (living, "shared")):
            session.add(
                UploadFile(upload_id=upload.id, path=name, path_digest=name, sha256=digests[name], size_bytes=1)
            )
        expired_id = expired.id
    long_ago = time.time() - 7200
    for name in ("only", "shared"):
        os.utime(Path(settings.var_dir) / "blobs" / digests[name][:2] / digests[name], (long_ago, long_ago))
    with Housekeeper(settings) as housekeeper:
        housekeeper.sweep()
    with database.read() as session:
        assert session.get_one(Upload, expired_id).state == UploadState.ABANDONED
        assert len(session.scalars(select(UploadFile)).all()) == 1
    assert not blobs.exists(digests["only"])
    assert blobs.read(digests["shared"]) == b"shared"
    assert blobs.exists(digests["fresh"]), "a blob stored a moment ago may be about to be named by a row"


def test_a_blob_stored_again_is_not_swept(settings: Settings, sqlite_url: str) -> None:
    blobs = BlobStore(settings.resolved_blob_url)
    digest, _ = blobs.put(io.BytesIO(b"twice"))
    path = Path(settings.var_dir) / "blobs" / digest[:2] / digest
    os.utime(path, (1, 1))
    blobs.put(io.BytesIO(b"twice"))
    assert not blobs.sweep(digest, unused_for_s=3600, now=time.time())
    os.utime(path, (1, 1))
    assert blobs.sweep(digest, unused_for_s=3600, now=time.time())
    assert not blobs.sweep(digest, unused_for_s=3600, now=time.time())
    blobs.put(io.BytesIO(b"twice"))
    assert blobs.read(digest) == b"twice"


def test_position_and_time_remaining_come_from_measured_work(database: Database, settings: Settings) -> None:
    cut = settings.model_copy(update={"chunk_slices": 10, "interactive_slices": 2})
    first, second = add_job(database, 40, cut), add_job(database, 20, cut)
    urgent, single = add_job(database, 10, cut, priority=Priority.URGENT), add_job(database, 1, cut)
    with database.read() as session:
        unmeasured = heartbeats.waiting(session, second)
        assert unmeasured is not None
        assert (unmeasured.jobs_ahead, unmeasured.slices_ahead, unmeasured.slices_left) == (2, 20 + 10 + 1, 20)
        assert unmeasured.seconds is None
        longest = heartbeats.waiting(session, first)
        assert longest is not None
        assert (longest.jobs_ahead, longest.slices_ahead) == (3, 20 + 10 + 1)
        quickest = heartbeats.waiting(session, single)
        assert quickest is not None
        assert (quickest.jobs_ahead, quickest.slices_ahead) == (0, 0)
    with database.write() as session:
        now = utc_now()
        session.add(
            WorkItem(
                job_id=urgent,
                task=TASK_CLASSIFY,
                queue=QUEUE_BATCH,
                slices=30,
                max_attempts=1,
                state=ItemState.DONE,
                started_at=now - timedelta(seconds=3),
                finished_at=now,
            )
        )
    with database.read() as session:
        speed = heartbeats.throughput(session)
        assert speed.slices_per_s == pytest.approx(10.0)
        measured = heartbeats.waiting(session, second)
        assert measured is not None
        assert measured.seconds == pytest.approx((20 + 10 + 1 + 20) / 10.0)
        facts = heartbeats.queue_facts(session)
        assert facts[QUEUE_BATCH].waiting == 4 + 2 + 1
        assert facts[QUEUE_INTERACTIVE].waiting == 1


def test_only_a_living_worker_with_the_serving_model_is_ready(database: Database) -> None:
    with database.write() as session:
        checkpoint = Checkpoint(
            name="m", digest="b" * 64, location="models:m", network="tiny", class_names=["a"], manifest={}
        )
        session.add(checkpoint)
        session.flush()
        promote(session, checkpoint.digest, by=None, reason="test")
        checkpoint_id = checkpoint.id

    def beat(name: str, loaded: uuid.UUID | None, queues: list[str]) -> None:
        with database.write() as session:
            heartbeats.beat(session, name=name, queues=queues, engine="e", checkpoint_id=loaded, facts={})

    beat("ready", checkpoint_id, [QUEUE_INTERACTIVE, QUEUE_BATCH])
    beat("loading", None, [QUEUE_INTERACTIVE, QUEUE_BATCH])
    beat("intake", None, ["intake"])
    with database.read() as session:
        assert [worker.name for worker in heartbeats.ready_workers(session, age_s=20)] == ["ready"]
        assert len(heartbeats.alive(session, age_s=20)) == 3
    time.sleep(0.05)
    with database.read() as session:
        assert heartbeats.ready_workers(session, age_s=0.01) == []
    with database.write() as session:
        heartbeats.leave(session, "ready")
        assert heartbeats.forget_older_than(session, 0.01) == 2
