"""The doctor's checks of listener and watched folder."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import Settings
from db.base import utc_now
from db.queries import receptions
from db.queries.receptions import WAY_DICOM, Sender
from db.queries.submissions import Sent
from db.receptions import Reception
from db.session import Database
from db.states import Role
from db.users import User
from ops.checks import Verdict
from ops.ways_in import check_ways_in
from tests.work_rig import make_user

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_what_is_off_is_not_asked_and_what_is_on_has_to_answer(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    assert check_ways_in(settings) == []
    with socket.create_server(("127.0.0.1", 0)) as server:
        on = {
            "dicom_port": server.getsockname()[1],
            "dicom_host": "127.0.0.1",
            "dicom_user": "scanner",
            "watch_dir": tmp_path / "missing",
            "watch_user": "scanner",
        }
        changed = settings.model_copy(update=on)
        found = {answer.name: (answer.verdict, answer.found) for answer in check_ways_in(changed)}
        assert found["listener"] == (Verdict.OK, f"answers on port {on['dicom_port']} as NEUROSIGHT")
        assert "is missing or not writable" in found["watched folder"][1]
        assert found["device account"][0] == Verdict.FAIL
        assert "`python -m web accounts create scanner`" in found["device account"][1]
    with database.write() as session:
        session.add(User(username="scanner", role=Role.SUBMITTER, password_hash="none"))
    sender = Sender(WAY_DICOM, "MR1", "DICOM MR1", make_user(database))
    with database.write() as session:
        receptions.keep(session, sender, "1.2", [Sent("a", "0" * 64, 1)], settings)
    (tmp_path / "missing").mkdir()
    answers = check_ways_in(changed)
    assert [(answer.name, answer.verdict) for answer in answers] == [
        ("listener", Verdict.FAIL), ("watched folder", Verdict.OK)
    ]  # fmt: skip
    with database.write() as session:
        session.query(Reception).one().received_at = utc_now() - timedelta(hours=1)
    assert "1 are complete and no job yet" in check_ways_in(changed)[-1].found
