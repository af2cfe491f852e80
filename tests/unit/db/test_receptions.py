"""Instances that arrive one by one, grouped into submissions, on both databases."""

import hashlib
import threading
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from config.settings import Settings
from db.base import utc_now
from db.jobs import Job, WorkItem
from db.queries import housekeeping, receptions
from db.queries.receptions import WAY_DICOM, WAY_STOW, Sender, UnknownSender
from db.queries.submissions import Sent
from db.receptions import Reception
from db.session import Database
from db.states import JobState, Role
from db.uploads import Upload, UploadFile
from db.users import AuditEvent, User
from tests.work_rig import make_user

HOUR = timedelta(hours=1)


def sent(name: str, content: str = "") -> Sent:
    return Sent(name, hashlib.sha256((content or name).encode()).hexdigest(), 10)


def let_an_hour_pass(database: Database) -> None:
    """Makes everything that was received an hour older."""
    with database.write() as session:
        session.execute(update(Reception).values(received_at=utc_now() - HOUR))
        session.execute(update(Upload).values(expires_at=utc_now() - HOUR))


def test_a_study_is_one_submission_and_what_comes_later_another(database: Database, settings: Settings) -> None:
    user = make_user(database)
    one, other = Sender(WAY_DICOM, "MR1", "DICOM MR1", user), Sender(WAY_STOW, "MR1", "x", user)
    with database.write() as session:
        assert receptions.keep(session, one, "1.2", [sent("a"), sent("b")], settings) == 2
        assert receptions.keep(session, one, "1.3", [sent("c")], settings) == 1
        assert receptions.keep(session, other, "1.2", [sent("a")], settings) == 1
    with database.write() as session:
        assert receptions.keep(session, one, "1.2", [sent("a"), sent("b")], settings) == 0, "sent again"
        assert receptions.keep(session, one, "1.2", [sent("a", "other bytes")], settings) == 1, "both are kept"
        assert receptions.complete_quiet(session, settings) == [], "it may go on"
    let_an_hour_pass(database)
    with database.write() as session:
        assert housekeeping.expire_uploads(session) == [], "what was acknowledged does not expire"
        jobs = receptions.complete_quiet(session, settings)
        assert receptions.complete_quiet(session, settings) == []
        assert receptions.arriving(session) == 0
    assert len(jobs) == 3
    with database.write() as session:
        names = {
            job.id: sorted(session.scalars(select(UploadFile.path).where(UploadFile.upload_id == job.upload_id)))
            for job in session.scalars(select(Job).where(Job.id.in_(jobs), Job.title == "DICOM MR1"))
        }
        assert sorted(names.values()) == [["a", "a (2)", "b"], ["c"]]
        assert session.scalar(select(func.count()).select_from(WorkItem)) == 3
        assert set(session.scalars(select(Job.state))) == {JobState.RECEIVED}
        details = [row.detail for row in session.scalars(select(AuditEvent).where(AuditEvent.action == "job.submit"))]
        assert sorted((detail["way"], detail["files"]) for detail in details) == [
            ("dicom", 1),
            ("dicom", 3),
            ("stow", 1),
        ]
        assert receptions.keep(session, one, "1.2", [sent("d")], settings) == 1
        assert receptions.arriving(session) == 1


def test_an_upload_that_is_full_is_completed_and_the_study_goes_on(database: Database, settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_files": 2, "max_upload_bytes": 1024})
    sender = Sender(WAY_DICOM, "MR1", "DICOM MR1", make_user(database))
    with database.write() as session:
        files = [sent(name) for name in "abcde"] + [Sent("large", "0" * 64, 1024), Sent("larger", "1" * 64, 4096)]
        assert receptions.keep(session, sender, "1.2", files, small) == 7
        assert session.scalar(select(func.count()).select_from(Job)) == 4
        assert session.scalar(select(func.count()).select_from(UploadFile)) == 7


def test_two_connections_bring_one_study(database: Database, settings: Settings) -> None:
    sender = Sender(WAY_DICOM, "MR1", "DICOM MR1", make_user(database))
    failures: list[Exception] = []

    def bring(first: int) -> None:
        try:
            for number in range(first, 20, 2):
                with database.write() as session:
                    receptions.keep(session, sender, "1.2", [sent(str(number)), sent("both")], settings)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=bring, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as session:
        row = session.scalars(select(Reception)).one()
        assert (row.files, row.size_bytes) == (21, 210)
        assert session.scalar(select(func.count()).select_from(Upload)) == 1
        assert session.scalar(select(func.count()).select_from(UploadFile)) == 21


def test_a_device_has_an_account_that_may_only_send(database: Database, settings: Settings) -> None:
    with database.read() as session:
        name = f"missing-{uuid.uuid4().hex[:4]}"
        with pytest.raises(UnknownSender, match=f"'{name}' does not exist; make one of the role submitter"):
            receptions.service_user(session, name)
    admin = make_user(database, Role.ADMIN)
    with database.write() as session:
        user = session.get_one(User, admin)
        with pytest.raises(UnknownSender, match="of the role admin; a device's must be submitter"):
            receptions.service_user(session, user.username)
        user.role = Role.SUBMITTER
        session.flush()
        assert receptions.service_user(session, user.username).id == admin
        user.disabled_at = utc_now()
        session.flush()
        with pytest.raises(UnknownSender, match="is disabled"):
            receptions.service_user(session, user.username)
