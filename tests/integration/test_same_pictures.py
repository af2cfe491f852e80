"""An instance that comes again by another way, as another file, is the one that is there."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from sqlalchemy import select

from config.queues import QUEUES
from config.settings import Settings
from db import retention
from db.blobs import BlobStore
from db.jobs import Job, ReceivedFile
from db.session import Database
from db.states import JobState
from db.studies import Instance
from db.uploads import UploadFile
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes
from tests.work_rig import context_for, job_state, make_user, models_folder, promote_tiny, results_of, submit
from worker.context import Context
from worker.work import turn


@pytest.fixture
def work(settings: Settings, tmp_path: Path) -> Settings:
    changed = settings.model_copy(update={"models_dir": models_folder(tmp_path / "models"), "retry_delay_s": 0.0})
    promote_tiny(changed)
    return changed


@pytest.fixture
def context(work: Settings) -> Iterator[Context]:
    opened = context_for(work, QUEUES)
    yield opened
    opened.close()


def instance(number: int, highest: int = 4000, syntax: UID = ExplicitVRLittleEndian) -> FileDataset:
    return mr(
        ramp(40, 48, highest), 12, syntax, SOPInstanceUID=f"2.25.77{number}", InstanceNumber=number,
        WindowCenter=2000, WindowWidth=4000,
    )  # fmt: skip


def compressed(number: int) -> FileDataset:
    made = instance(number)
    made.compress(RLELossless, generate_instance_uid=False)
    return made


def zipped(files: dict[str, bytes]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return {"study.zip": buffer.getvalue()}


def test_the_same_instances_in_other_files_are_not_analysed_again(
    work: Settings, context: Context, database: Database
) -> None:
    user = make_user(database)
    first = submit(database, work, {f"a/{n}.dcm": to_bytes(instance(n)) for n in (1, 2, 3)}, user=user)
    turn(context)
    again = {
        "b/1.dcm": to_bytes(instance(1, syntax=ImplicitVRLittleEndian)),
        "b/2.dcm": to_bytes(compressed(2)),
        "b/3.dcm": to_bytes(instance(3, syntax=ExplicitVRBigEndian)),
    }
    second = submit(database, work, zipped(again), user=user)
    turn(context)
    other = submit(database, work, {"c/1.dcm": to_bytes(instance(1, highest=3000))}, user=user)
    turn(context)
    assert {job_state(database, job) for job in (first, second, other)} == {JobState.SUCCEEDED}
    with database.read() as session:
        found = session.scalars(select(Instance).order_by(Instance.created_at)).all()
        outcomes = {
            job: sorted(session.scalars(select(ReceivedFile.reason).where(ReceivedFile.job_id == job)))
            for job in (first, second, other)
        }
        assert session.get_one(Job, second).duplicate_of_id == first
    assert len(found) == 4, "three instances, and the one whose picture is another"
    assert outcomes[second] == ["sent_before"] * 3
    assert outcomes[other] == ["uid_conflict"]
    assert sorted(results_of(database, second)) == sorted(results_of(database, first)), "its results are shown here too"


def test_bytes_that_nothing_needs_go(work: Settings, context: Context, database: Database) -> None:
    submit(database, work, {"a/1.dcm": to_bytes(instance(1))})
    turn(context)
    spare = to_bytes(instance(1, syntax=ImplicitVRLittleEndian))
    submit(database, work, zipped({"b/1.dcm": spare}))
    turn(context)
    blobs = BlobStore(work.resolved_blob_url)
    with database.read() as session:
        named = {*session.scalars(select(UploadFile.sha256)), *session.scalars(select(Instance.content_sha256))}
        sent = {digest for digest in session.scalars(select(ReceivedFile.sha256)) if digest}
    (unneeded,) = sent - named
    assert blobs.exists(unneeded)
    retention.remove_bytes(database, blobs, unused_for_s=0)
    assert not blobs.exists(unneeded)
    assert all(blobs.exists(digest) for digest in named)
