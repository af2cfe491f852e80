"""Deleting studies for good: what goes, what stays, what it waits for, on both databases."""

import io
import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from config.settings import Settings
from db import retention
from db.base import Base, utc_now
from db.blobs import BlobStore
from db.checkpoints import Checkpoint
from db.datasets import DatasetSample, TrainingDataset
from db.exchange import Retrieval, RetrievalLine, RetrievedStudy
from db.jobs import Job, JobSlice, JobStudy, ReceivedFile, WorkItem
from db.models import METADATA
from db.predictions import Heatmap, Prediction
from db.queries import audit, erasure
from db.queries.erasure import EraseReason
from db.queries.originals import REMOVED_NAME
from db.registry import ShadowRun
from db.reviews import SliceLabel
from db.session import Database
from db.states import JobState, Purpose, UploadState
from db.studies import Instance, Series, Study, StudyIdentity
from db.uploads import ErasedBlob, Upload, UploadFile
from db.users import AuditEvent
from tests.work_rig import make_user
from worker.housekeeping import Housekeeper

MARK = "ZZMARKZZ"


class Store:
    """Studies sent together or alone, with results, decisions and a data set."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self.database, self.blobs, self.user = database, blobs, make_user(database)
        with database.write() as session:
            checkpoint = Checkpoint(
                name="m", digest="1" * 64, location="x", network="tiny", class_names=[], manifest={}
            )
            dataset = TrainingDataset(name="reviewed", kind="studies")
            session.add_all([checkpoint, dataset])
            session.flush()
            self.checkpoint, self.dataset = checkpoint.id, dataset.id

    def retrieval(self, session: Session) -> uuid.UUID:
        """A list of numbers that were fetched from an archive."""
        row = Retrieval(peer_name="archive", title=MARK)
        session.add(row)
        session.flush()
        return row.id

    def put(self, text: str) -> str:
        """Some bytes in the store, old enough to be swept."""
        return self.blobs.put(io.BytesIO(text.encode()))[0]

    def send(
        self, *names: str, archive: str = "", state: JobState = JobState.SUCCEEDED
    ) -> tuple[uuid.UUID, list[uuid.UUID]]:
        """A job with one study of two slices for each name, sent as files or as one archive."""
        studies = []
        with self.database.write() as session:
            upload = Upload(
                created_by_id=self.user, state=UploadState.COMPLETED, expires_at=utc_now(), title=f"{MARK} {names}"
            )
            session.add(upload)
            session.flush()
            job = Job(
                upload_id=upload.id, created_by_id=self.user, state=state, opened_at=utc_now(), title=upload.title
            )
            session.add(job)
            session.flush()
            sent = {f"{MARK}/{archive}.zip": self.put(archive)} if archive else {}
            for name in names:
                study = Study(study_key=f"files:{name}", title=f"{MARK} {name}")
                session.add(study)
                session.flush()
                series = Series(study_id=study.id, series_key="s", description=MARK)
                session.add_all([series, JobStudy(job_id=job.id, study_id=study.id)])
                session.add(StudyIdentity(study_id=study.id, patient_name=f"{MARK}^{name}", patient_id=MARK))
                session.flush()
                for number in range(2):
                    digest = self.put(f"{name} {number}")
                    path = f"{MARK}/{name}/{number}.png"
                    if not archive:
                        sent[path] = digest
                    instance = Instance(
                        study_id=study.id, series_id=series.id, content_sha256=digest, size_bytes=1, kind="png",
                        path=path, rows=1, columns=1,
                    )  # fmt: skip
                    session.add(instance)
                    session.flush()
                    result = Prediction(
                        instance_id=instance.id, checkpoint_id=self.checkpoint, job_id=job.id, class_name="glioma",
                        probability=0.9, probabilities={}, scores=[], input_sha256=digest, engine="e", code_version="c",
                    )  # fmt: skip
                    session.add_all(
                        [
                            result,
                            JobSlice(job_id=job.id, instance_id=instance.id),
                            SliceLabel(instance_id=instance.id, label="glioma", note=MARK),
                            ReceivedFile(
                                job_id=job.id, sequence=number, path=path, sha256=digest, outcome="accepted",
                                study_id=study.id, instance_id=instance.id, slices=1,
                            ),
                        ]
                    )  # fmt: skip
                    session.flush()
                    box = {"box_x0": 0.0, "box_y0": 0.0, "box_x1": 1.0, "box_y1": 1.0}
                    session.add(Heatmap(prediction_id=result.id, png=b"x", **box))
                studies.append(study.id)
            broken = f"{MARK}/broken {names[0] if names else ''}.dcm"
            sent[broken] = self.put(broken)
            session.add(
                ReceivedFile(
                    job_id=job.id, sequence=9, path=broken, sha256=sent[broken], outcome="unreadable", slices=0
                )
            )
            for number, (path, digest) in enumerate(sent.items()):
                session.add(
                    UploadFile(upload_id=upload.id, path=path, path_digest=f"{number}", sha256=digest, size_bytes=1)
                )
            return job.id, studies

    def erase(self, study: uuid.UUID, reason: EraseReason = EraseReason.REQUESTED) -> erasure.Extent:
        with self.database.write() as session:
            return erasure.erase(session, study, by=audit.SYSTEM, reason=reason)

    def count(self, model: type[Base]) -> int:
        with self.database.read() as session:
            return session.scalar(select(func.count()).select_from(model)) or 0

    def texts(self) -> str:
        """Every value of every table, as one text."""
        with self.database.engine.connect() as connection:
            return " ".join(str(row) for table in METADATA.sorted_tables for row in connection.execute(table.select()))

    def files(self) -> int:
        """How many blobs there are."""
        return sum(len(path.name) == 64 for path in Path(self.blobs._root).rglob("*"))


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Store:
    return Store(database, BlobStore(f"file://{tmp_path}/blobs"))


def test_everything_of_a_study_goes_and_its_bytes_too(store: Store) -> None:
    job, (study,) = store.send("one")
    with store.database.write() as session:
        instance = session.scalars(select(Instance.id)).first()
        session.add(
            DatasetSample(
                dataset_id=store.dataset, sequence=0, file="a", label="l", sha256="2" * 64, instance_id=instance
            )
        )
        shadow = Job(purpose=Purpose.SHADOW, state=JobState.SUCCEEDED)
        session.add(shadow)
        session.flush()
        session.add_all(
            [
                JobStudy(job_id=shadow.id, study_id=study),
                JobSlice(job_id=shadow.id, instance_id=instance),
                ShadowRun(candidate_id=store.checkpoint, reference_id=store.checkpoint, job_id=shadow.id, studies=1),
            ]
        )
        line = RetrievalLine(
            retrieval_id=store.retrieval(session), sequence=1, accession_number=MARK, finished_at=utc_now()
        )
        session.add(line)
        session.flush()
        session.add(RetrievedStudy(line_id=line.id, sequence=1, study_instance_uid=MARK, job_id=job))
    with store.database.read() as session:
        assert [found.name for found in erasure.datasets_with(session, study)] == ["reviewed"]
    gone = store.erase(study)
    assert gone == erasure.Extent(series=1, slices=2, predictions=2, decisions=2, jobs=1, samples=1)
    for model in (
        Study,
        StudyIdentity,
        Series,
        Instance,
        Prediction,
        Heatmap,
        SliceLabel,
        JobSlice,
        ReceivedFile,
        UploadFile,
        WorkItem,
    ):
        assert store.count(model) == 0, model
    assert (store.count(DatasetSample), store.count(ShadowRun), store.count(Job)) == (1, 1, 1)
    assert MARK not in store.texts()
    with store.database.read() as session:
        (row,) = session.scalars(select(AuditEvent))
        assert (row.action, row.object_id, row.actor_name) == ("study.delete", str(study), "system")
        assert row.detail == {"reason": "requested", **gone.to_json()}
        assert session.get(Job, job) is None
    # Bytes stored a moment ago may be about to be named again: they wait.
    assert (retention.remove_bytes(store.database, store.blobs), store.files()) == (0, 3)
    assert retention.remove_bytes(store.database, store.blobs, unused_for_s=-1) == 3
    assert (store.files(), store.count(ErasedBlob)) == (0, 0)
    with pytest.raises(erasure.NoSuchStudy, match="there is no study"):
        store.erase(study)


@pytest.mark.parametrize("archive", ["", "all"])
def test_of_a_submission_with_other_studies_only_these_stay(store: Store, archive: str) -> None:
    job, (one, two) = store.send("one", "two", archive=archive)
    store.send("two again")  # of another submission: untouched
    before = store.files()
    store.erase(one)
    with store.database.read() as session:
        lines = session.scalars(select(ReceivedFile).where(ReceivedFile.job_id == job)).all()
        shown = sorted((line.path, line.reason) for line in lines)
        assert shown == [
            (f"{MARK}/two/0.png", ""),
            (f"{MARK}/two/1.png", ""),
            (REMOVED_NAME, ""),
            (REMOVED_NAME, erasure.STUDY_DELETED),
            (REMOVED_NAME, erasure.STUDY_DELETED),
        ]
        names = session.scalars(
            select(UploadFile.path).join(Job, Job.upload_id == UploadFile.upload_id).where(Job.id == job)
        ).all()
        assert sorted(names) == [REMOVED_NAME] * 2 if archive else len(names) == 5
        assert session.get_one(Job, job).title == ""
    assert f"{MARK}/one" not in store.texts()
    # The slices of the study and the refused file go, and the archive, in which the study was.
    removed = 4 if archive else 3
    assert retention.remove_bytes(store.database, store.blobs, unused_for_s=-1) == removed
    assert store.files() == before - removed
    store.erase(two)
    with store.database.read() as session:
        assert session.get(Job, job) is None


def test_bytes_that_another_row_names_stay(store: Store) -> None:
    _, (one,) = store.send("one")
    with store.database.write() as session:
        digest = session.scalars(select(Instance.content_sha256)).first()
        assert digest
        session.add(DatasetSample(dataset_id=store.dataset, sequence=0, file="a", label="l", sha256=digest))
    store.erase(one)
    assert retention.remove_bytes(store.database, store.blobs, unused_for_s=-1) == 2
    assert store.blobs.exists(digest)
    assert store.count(ErasedBlob) == 0, "what is named is not asked about for ever"


def test_a_running_job_keeps_its_study(store: Store) -> None:
    job, (study,) = store.send("one", state=JobState.CLASSIFYING)
    with pytest.raises(erasure.StudyInUse, match=f"job {job} works on this study"):
        store.erase(study)
    assert store.count(Instance) == 2


def test_what_is_old_goes_in_a_round_of_housekeeping(store: Store, settings: Settings, tmp_path: Path) -> None:
    old, (first,) = store.send("old")
    again, (second,) = store.send("sent again")
    running, (third,) = store.send("running", state=JobState.CLASSIFYING)
    empty, _ = store.send(state=JobState.FAILED)
    store.send("new")
    past = utc_now() - timedelta(days=31)
    with store.database.write() as session:
        ids = [old, again, running, empty]
        session.execute(update(Job).where(Job.id.in_(ids)).values(created_at=past))
        session.execute(update(Study).where(Study.id.in_([first, second, third])).values(created_at=past))
        session.add(
            Upload(created_by_id=store.user, state=UploadState.ABANDONED, title=MARK, expires_at=past, created_at=past)
        )
        later = Job(state=JobState.SUCCEEDED)
        session.add(later)
        session.flush()
        session.add(JobStudy(job_id=later.id, study_id=second))
    with store.database.read() as session:
        assert erasure.outdated_counts(session, 30) == {
            "studies": 1,
            "slices": 2,
            "empty_jobs": 1,
            "waiting": 1,
        }
        with pytest.raises(ValueError, match="received 0 days"):
            erasure.outdated(session, 0, limit=1)
    changed = settings.model_copy(update={"blob_url": f"file://{tmp_path}/blobs"})
    with Housekeeper(changed) as keeper:
        keeper.erase()
        assert store.count(Study) == 4, "0 days keep everything"
    copies = [settings.var_dir / "backups" / f"neurosight-{name}.db" for name in ("0001-old", "0002-new")]
    copies[0].parent.mkdir()
    for copy in copies:
        copy.write_bytes(b"x")
    os.utime(copies[0], (past.timestamp(), past.timestamp()))
    with Housekeeper(changed.model_copy(update={"retention_days": 30})) as keeper:
        keeper.erase()
    assert [copy.exists() for copy in copies] == [False, True]
    with store.database.read() as session:
        assert set(session.scalars(select(Study.title))) == {
            f"{MARK} {name}" for name in ("sent again", "running", "new")
        }
        assert session.get(Job, old) is None
        assert session.get(Job, empty) is None
        rows = session.execute(select(AuditEvent.action, AuditEvent.detail["reason"].as_string())).all()
        assert sorted(tuple(row) for row in rows) == [("job.delete", "retention"), ("study.delete", "retention")]
        assert session.scalar(select(func.count()).where(Upload.state == UploadState.ABANDONED)) == 0


def test_nothing_that_hangs_on_a_study_can_keep_it() -> None:
    """A new table whose rows hang on a study has to say what becomes of them."""
    for table in METADATA.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table.name in {"study", "series", "instance", "prediction", "job", "upload"}:
                assert key.ondelete in {"CASCADE", "SET NULL"}, f"{table.name}.{key.parent.name}"


def test_a_store_that_is_no_folder_forgets_too() -> None:
    blobs = BlobStore("memory://erasure")
    digest, _ = blobs.put(io.BytesIO(b"x"))
    import time

    assert not blobs.sweep(digest, unused_for_s=600, now=time.time())
    assert blobs.exists(digest)
    assert blobs.sweep(digest, unused_for_s=600, now=time.time() + 1000)
    assert not blobs.exists(digest)
    assert not blobs.sweep(digest, unused_for_s=600, now=time.time() + 1000)
