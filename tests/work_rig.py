"""Submissions and workers for tests: what web does when a study is sent, and real worker processes.

Owns making phantom studies, committing them as web does, and waiting for what becomes of them. The engine is the real
one, with the tiny artefact.
"""

import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from sqlalchemy import func, select

from config.queues import QUEUE_INTAKE, TASK_CLASSIFY, TASK_INTAKE
from config.settings import Settings
from db.base import utc_now
from db.blobs import BlobStore
from db.checkpoints import Checkpoint
from db.doorbell import Doorbell
from db.jobs import Job, JobSlice, WorkItem
from db.predictions import Heatmap, Prediction
from db.session import Database
from db.states import JOB_ENDED, ItemState, JobState, Priority, Role, UploadState
from db.uploads import Upload, UploadFile
from db.users import User
from tests.tiny_artefact import TINY_ARTEFACT, tiny_digest
from worker.context import Context, build_context
from worker.housekeeping import Housekeeper
from worker.processes import worker_name

T = TypeVar("T")

PATIENCE = float(os.environ.get("NS_TEST_PATIENCE", "4"))
"""Every wait may take so many times its usual time: it costs nothing where the machine is idle, and a machine that is
busy with other things is no fault of ours."""


def models_folder(folder: Path) -> Path:
    """A models folder with the tiny artefact as the default one."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TINY_ARTEFACT, folder / TINY_ARTEFACT.name)
    (folder / "DEFAULT").write_text(f"{tiny_digest()}  {TINY_ARTEFACT.name}\n")
    return folder


def picture(seed: int, size: int = 96) -> bytes:
    """A PNG of a head-like disc with a bright spot, different for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    width, height = rng.uniform(0.6, 0.9, 2)
    grey = 0.4 * ((columns / width) ** 2 + (rows / height) ** 2 < 1)
    x, y = rng.uniform(-0.4, 0.4, 2)
    grey = grey + 0.5 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / rng.uniform(0.01, 0.1))
    noisy = np.clip(grey * 255 + rng.normal(0, 4, grey.shape), 0, 255).astype(np.uint8)
    done, encoded = cv2.imencode(".png", noisy)
    assert done
    return bytes(encoded)


def pictures(count: int, first_seed: int = 0, folder: str = "study") -> dict[str, bytes]:
    """A folder of pictures."""
    return {f"{folder}/slice {number}.png": picture(first_seed + number) for number in range(1, count + 1)}


def make_user(database: Database, role: Role = Role.SUBMITTER) -> uuid.UUID:
    """A user, without a usable password."""
    with database.write() as session:
        user = User(username=f"user-{uuid.uuid4().hex[:8]}", role=role, password_hash="none")
        session.add(user)
        session.flush()
        return user.id


def submit(
    database: Database,
    settings: Settings,
    files: Mapping[str, bytes],
    *,
    user: uuid.UUID | None = None,
    priority: Priority = Priority.NORMAL,
    doorbell: Doorbell | None = None,
    title: str = "a study",
) -> uuid.UUID:
    """Commits a submission as web does: blobs, rows, then the doorbell (if one is given). Returns the job's id."""
    blobs = BlobStore(settings.resolved_blob_url)
    stored = {path: blobs.put(io.BytesIO(content)) for path, content in files.items()}
    user = user or make_user(database)
    with database.write() as session:
        upload = Upload(
            created_by_id=user,
            state=UploadState.COMPLETED,
            title=title,
            priority=priority,
            expires_at=utc_now() + timedelta(days=1),
        )
        session.add(upload)
        session.flush()
        session.add_all(
            UploadFile(
                upload_id=upload.id,
                path=path,
                path_digest=hashlib.sha256(path.encode()).hexdigest(),
                sha256=digest,
                size_bytes=size,
            )
            for path, (digest, size) in stored.items()
        )
        job = Job(upload_id=upload.id, created_by_id=user, title=title, priority=priority)
        session.add(job)
        session.flush()
        item = WorkItem(
            job_id=job.id,
            task=TASK_INTAKE,
            queue=QUEUE_INTAKE,
            priority_rank=priority.rank,
            max_attempts=settings.max_attempts,
        )
        session.add(item)
    if doorbell is not None:
        doorbell.ring_committed(database, [item.id])
    return job.id


def promote_tiny(settings: Settings) -> uuid.UUID:
    """Registers and promotes the default model as housekeeping does; returns the checkpoint's id."""
    with Housekeeper(settings) as housekeeper:
        housekeeper.register_models()
    database = Database(settings.resolved_database_url)
    with database.read() as session:
        checkpoint_id = session.scalars(select(Checkpoint.id).where(Checkpoint.digest == tiny_digest())).one()
    database.close()
    return checkpoint_id


def context_for(settings: Settings, queues: tuple[str, ...], role: str = "test") -> Context:
    """A worker's context in this process."""
    return build_context(settings, worker_name(role), queues)


def wait_for(what: Callable[[], T | None], timeout_s: float, every_s: float = 0.1) -> T:
    """Asks until the answer is true; fails the test when it never is (see `PATIENCE`)."""
    timeout_s *= PATIENCE
    deadline = time.monotonic() + timeout_s
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(every_s)


def job_state(database: Database, job_id: uuid.UUID) -> JobState:
    """The job's state."""
    with database.read() as session:
        return JobState(session.get_one(Job, job_id).state)


def wait_ended(database: Database, job_ids: Iterable[uuid.UUID], timeout_s: float) -> list[JobState]:
    """Waits until all jobs have ended; returns their states."""
    wanted = list(job_ids)

    def ended() -> bool:
        with database.read() as session:
            states = session.scalars(select(Job.state).where(Job.id.in_(wanted))).all()
        return all(JobState(state) in JOB_ENDED for state in states)

    wait_for(ended, timeout_s)
    return [job_state(database, job_id) for job_id in wanted]


def slice_counts(database: Database, job_id: uuid.UUID) -> dict[str, int]:
    """How many slices of the job are in which state."""
    with database.read() as session:
        rows = session.execute(
            select(JobSlice.state, func.count()).where(JobSlice.job_id == job_id).group_by(JobSlice.state)
        )
        return {str(state): count for state, count in rows}


def results_of(database: Database, job_id: uuid.UUID) -> list[uuid.UUID]:
    """Instances of the job that have a prediction, once for each prediction; every one must have its heatmap."""
    with database.read() as session:
        rows = session.execute(
            select(Prediction.instance_id, Heatmap.prediction_id)
            .join(JobSlice, JobSlice.instance_id == Prediction.instance_id)
            .outerjoin(Heatmap, Heatmap.prediction_id == Prediction.id)
            .where(JobSlice.job_id == job_id)
        ).all()
    assert all(row.prediction_id is not None for row in rows), "a prediction has no heatmap"
    return [row.instance_id for row in rows]


def running_items(database: Database) -> int:
    """How many classify items are claimed at this moment."""
    with database.read() as session:
        return (
            session.scalar(
                select(func.count())
                .select_from(WorkItem)
                .where(WorkItem.task == TASK_CLASSIFY, WorkItem.state == ItemState.RUNNING)
            )
            or 0
        )
