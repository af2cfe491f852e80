"""The way of a study that is de-identified at intake, in one process: what is kept says nothing of whose it is."""

import io
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sqlalchemy import select

from config.queues import QUEUES
from config.settings import Settings
from db import retention
from db.blobs import BlobStore
from db.jobs import Job, ReceivedFile
from db.models import METADATA
from db.queries import settle
from db.session import Database
from db.states import JobState
from db.studies import Instance, Study, StudyIdentity
from tests.tiny_artefact import tiny_digest
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes
from tests.work_rig import context_for, job_state, models_folder, picture, promote_tiny, results_of, submit
from worker.context import Context
from worker.housekeeping import Housekeeper
from worker.work import turn

MARK = "ZZMARKZZ"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough here: nothing in the way depends on which."""
    return sqlite_url


@pytest.fixture
def work(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the tiny model, promoted, and files de-identified."""
    changed = settings.model_copy(
        update={"models_dir": models_folder(tmp_path / "models"), "retry_delay_s": 0.0, "deidentify": True}
    )
    promote_tiny(changed)
    return changed


@pytest.fixture
def context(work: Settings) -> Iterator[Context]:
    opened = context_for(work, QUEUES)
    yield opened
    opened.close()


def image(number: int, **more: Any) -> bytes:
    """A slice of the marked patient."""
    return to_bytes(
        mr(
            ramp() + number,
            PatientName=f"{MARK}^JANE",
            PatientID=MARK,
            PatientBirthDate="19700203",
            AccessionNumber=MARK,
            StudyDescription=f"brain {MARK}",
            SeriesDescription=f"T1 {MARK}",
            StudyDate="20240229",
            StudyInstanceUID="1.2.826.7",
            SOPInstanceUID=f"1.2.826.7.{number}",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, number],
            **more,
        )
    )


def study() -> dict[str, bytes]:
    """Everything of one patient, good and bad, under names that name him."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{MARK}/3.dcm", image(3))
        file.writestr(f"{MARK}.txt", MARK)
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", MARK)
    png = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(png, "PNG", pnginfo=text)
    capture = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ConversionType": "WSD"}
    return {
        f"{MARK}^JANE/1.dcm": image(1),
        f"{MARK}^JANE/2.dcm": image(2),
        f"{MARK}^JANE/{MARK} screen.dcm": image(4, **capture),
        f"{MARK}^JANE/{MARK} cut off.dcm": image(5)[:-300],
        f"{MARK}^JANE/pictures/axial/{MARK}.png": png.getvalue(),
        f"{MARK}^JANE/pictures/axial/{MARK} named.png": named(),
        f"{MARK}.zip": archive.getvalue(),
    }


def texts(database: Database) -> str:
    """Every value of every table."""
    with database.engine.connect() as connection:
        return " ".join(str(row) for table in METADATA.sorted_tables for row in connection.execute(table.select()))


def contents(settings: Settings) -> list[bytes]:
    """Every blob but the model's."""
    files = (path for path in (settings.var_dir / "blobs").rglob("*") if path.is_file())
    return [path.read_bytes() for path in files if path.name != tiny_digest()]


def lines(database: Database, job_id: uuid.UUID) -> list[tuple[str, str]]:
    with database.read() as session:
        rows = session.scalars(
            select(ReceivedFile).where(ReceivedFile.job_id == job_id).order_by(ReceivedFile.sequence)
        )
        return [(row.path, row.reason) for row in rows]


def test_nothing_of_the_patient_is_kept(work: Settings, context: Context, database: Database) -> None:
    job_id = submit(database, work, study(), title=f"{MARK} sent")
    assert turn(context, 60)
    assert job_state(database, job_id) == JobState.SUCCEEDED
    assert len(results_of(database, job_id)) == 4
    assert lines(database, job_id) == [
        ("folder 1/folder 2/file 1", "accepted"),
        ("folder 1/file 2", "text"),
        ("folder 3/file 3", "accepted"),
        ("folder 3/file 4", "accepted"),
        ("folder 3/folder 4/axial/file 5", "burned_in_text"),
        ("folder 3/folder 4/axial/file 6", "accepted"),
        ("folder 3/file 7", "pixel_data_short"),
        ("folder 3/file 8", "burned_in_text"),
    ]
    kept = texts(database)
    for word in (MARK, "19700203", "20240229", "1.2.826.7"):
        assert word not in kept, word
    blobs = BlobStore(work.resolved_blob_url)
    assert retention.remove_bytes(database, blobs, unused_for_s=-1) == 7
    assert len(contents(work)) == 4
    for data in contents(work):
        for word in (MARK, "19700203", "20240229", "1.2.826.7"):
            assert word.encode() not in data, word
    key = work.var_dir / "secrets" / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in kept
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.title, job.deidentified, settle.retry(session, job_id, work)) == ("", True, [])
        (by_uid,) = session.scalars(select(Study).where(Study.study_instance_uid.is_not(None)))
        assert (by_uid.title, by_uid.deidentified) == ("brain", True)
        identity = session.get_one(StudyIdentity, by_uid.id)
        assert identity.patient_name.startswith("NS-")
        assert (identity.birth_date, identity.accession_number) == ("", "")
        planes = set(session.scalars(select(Instance.plane)))
        assert planes == {"axial"}
    again = submit(database, work, study())
    assert turn(context, 60)
    reasons = [reason for _, reason in lines(database, again)]
    assert reasons.count("sent_before") == 4, "the same files are not recognised"


def named() -> bytes:
    """A picture with a name written into it."""
    shown = cv2.imdecode(np.frombuffer(picture(2, 256), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    cv2.putText(shown, "ROE JANE 1970", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", shown)[1])


def test_images_with_text_are_taken_when_the_settings_say_so_and_marked(work: Settings, database: Database) -> None:
    context = context_for(work.model_copy(update={"deidentify_burned_in": "accept"}), QUEUES)
    try:
        job_id = submit(
            database, work, {"a.dcm": image(1, BurnedInAnnotation="YES"), "b.dcm": image(2), "c.png": named()}
        )
        assert turn(context, 60)
    finally:
        context.close()
    assert [reason for _, reason in lines(database, job_id)] == ["accepted"] * 3
    with database.read() as session:
        assert sorted(session.scalars(select(Instance.text_risk))) == ["", "declared", "seen"]


def test_what_never_came_to_be_opened_is_forgotten_too(work: Settings, database: Database) -> None:
    job_id = submit(database, work, study(), title=MARK)
    with database.write() as session:
        assert settle.cancel(session, job_id)
    with Housekeeper(work) as keeper:
        keeper.erase()
    assert MARK not in texts(database)
    assert retention.remove_bytes(database, BlobStore(work.resolved_blob_url), unused_for_s=-1) == 7
    assert contents(work) == []
    with database.write() as session:
        assert settle.retry(session, job_id, work) == []
