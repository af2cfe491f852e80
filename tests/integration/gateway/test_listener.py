"""The listener against real senders: dcmtk's programs over plain connections and TLS."""

import itertools
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from config.settings import Settings
from db.blobs import BlobStore
from db.jobs import Job, WorkItem
from db.receptions import Reception
from db.session import Database
from db.uploads import Upload, UploadFile
from db.users import AuditEvent, User
from imaging.dicom import file_meta
from tests.integration.gateway.conftest import MARK, make_scanner
from tests.listener_process import SENDER, ListenerProcess, needs_dcmtk
from worker.housekeeping import Housekeeper

pytestmark = [needs_dcmtk, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

Make = Callable[..., list[Path]]


def kept(database: Database) -> list[tuple[str, str]]:
    """(path, digest) of every file that was received."""
    with database.read() as session:
        return [(row.path, row.sha256) for row in session.scalars(select(UploadFile).order_by(UploadFile.path))]


def test_what_dcmtk_sends_becomes_one_submission_a_study(
    settings: Settings,
    quick: Settings,
    process_environment: dict[str, str],
    database: Database,
    make_study: Make,
    tmp_path: Path,
) -> None:
    scanner = "scanner"
    first, second = make_study(1, 3), make_study(2, 2)
    lost = make_study(3, 1, StudyInstanceUID=None)
    report = make_study(4, 1, Modality="SR", PixelData=None)
    with ListenerProcess(process_environment, tmp_path / "listener.log") as listener:
        assert listener.send("echoscu")[0] == 0
        status, said = listener.send("echoscu", calling="STRANGER")
        assert (status, "Calling AE Title Not Recognized" in said) == (1, True)
        status, said = listener.send("echoscu", called="ANOTHER")
        assert (status, "Called AE Title Not Recognized" in said) == (1, True)

        assert "0x124" in listener.send("storescu", "-v", files=first)[1], "nobody has made the account yet"
        make_scanner(database, scanner)
        assert listener.send("storescu", files=first)[0] == 0
        assert listener.send("dcmsend", files=[*second, *report])[0] == 0
        sent_once = kept(database)
        assert [path for path, _ in sent_once] == [
            "2.25.1.1.dcm", "2.25.1.2.dcm", "2.25.1.3.dcm", "2.25.2.1.dcm", "2.25.2.2.dcm", "2.25.4.1.dcm",
        ]  # fmt: skip
        assert listener.send("dcmsend", files=first)[0] == 0, "the same encoding is agreed on with another program"
        assert listener.send("storescu", files=second)[0] == 0
        assert kept(database) == sent_once, "what is sent again is there once"
        status, said = listener.send("storescu", "-v", files=lost)
        assert "CannotUnderstand" in said
        assert kept(database) == sent_once

        # As received: the data set's bytes are the sender's, behind a meta group of ours.
        blobs = BlobStore(settings.resolved_blob_url)
        ours = blobs.read(dict(sent_once)["2.25.1.1.dcm"])
        theirs = first[0].read_bytes()
        assert ours[file_meta(ours).end :] == theirs[file_meta(theirs).end :]

        with Housekeeper(settings) as keeper:
            keeper.complete_studies()  # the quiet time of 30 s is not over
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(Job)) == 0
        time.sleep(1.1)
        with Housekeeper(quick) as keeper:
            keeper.complete_studies()
        with database.read() as session:
            jobs = session.scalars(select(Job).order_by(Job.created_at)).all()
            owners = {session.get_one(User, job.created_by_id).username for job in jobs}
            uploads = select(func.count()).group_by(UploadFile.upload_id)
            counts = sorted(session.scalars(uploads.where(UploadFile.upload_id.in_(job.upload_id for job in jobs))))
            audited = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.submit")).all()
            assert session.scalar(select(func.count()).select_from(WorkItem)) == 3
            assert session.scalar(select(func.count()).select_from(Reception)) == 0
        assert (counts, owners, {job.title for job in jobs}) == ([1, 2, 3], {scanner}, {f"DICOM {SENDER}"})
        assert [(row.actor_name, row.detail["way"]) for row in audited] == [(scanner, "dicom")] * 3

        assert listener.send("storescu", files=make_study(1, 4))[0] == 0
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(Upload)) == 4, "what comes later is another one"

        # A PDU that claims 4 GiB, and one of an association that was never asked for.
        with socket.create_connection(("127.0.0.1", listener.port), 10) as bad:
            bad.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0) + b"x" * 1000)
            bad.settimeout(10)
            assert bad.recv(100) == b""
        assert listener.send("echoscu")[0] == 0
        status = listener.stop()
        said = listener.output()
    assert status == 0
    assert MARK not in said
    assert "2.25." not in said
    assert "Traceback" not in said
    for reason in (
        "'scanner' does not exist; make one",
        "peer_not_allowed",
        "called_ae_unknown",
        "StudyInstanceUID is missing",
        "pdu_too_large",
    ):
        assert reason in said, reason
    assert re.search(r'"association_ended".*"stored": 3, "refused": 0', said)
    assert list((settings.var_dir / "blobs" / "incoming").iterdir()) == [], "no spooled file is left"


def test_acknowledged_instances_survive_kills_at_any_moment(
    process_environment: dict[str, str], database: Database, scanner: str, make_study: Make, tmp_path: Path
) -> None:
    paths = make_study(7, 30)
    listener = ListenerProcess(process_environment, tmp_path / "listener.log")
    acknowledged: set[str] = set()
    killed_while_sending = 0
    try:
        for round_number in range(2):
            listener.start()
            sending = subprocess.Popen(
                [*listener.command("storescu", "-v"), *map(str, paths)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            enough = min(len(kept(database)) + 3, 30)
            while len(kept(database)) < enough and sending.poll() is None:
                time.sleep(0.005)
            time.sleep(0.004 * round_number)
            listener.kill()
            said = sending.communicate(timeout=60)[0]
            sent = re.findall(r"Sending file: (\S+)|Received Store Response \((Success)\)", said)
            got = acknowledged_of(sent)
            killed_while_sending += len(got) < 30
            acknowledged |= got
            there = {path for path, _ in kept(database)}
            assert {f"{dcmread(path).SOPInstanceUID}.dcm" for path in acknowledged} <= there
        assert killed_while_sending > 0
        listener.start()
        assert listener.send("storescu", files=paths)[0] == 0
        assert len(kept(database)) == 30
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(Reception)) == 1
    finally:
        listener.kill()


def acknowledged_of(sent: list[tuple[str, str]]) -> set[str]:
    """Files that storescu was told are stored: a name with a success behind it."""
    return {name for (name, _), (_, success) in itertools.pairwise(sent) if name and success}


def test_tls_with_certificates_on_both_sides(
    process_environment: dict[str, str], database: Database, scanner: str, make_study: Make, tmp_path: Path
) -> None:
    def certificate(name: str) -> tuple[Path, Path]:
        key, pem = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-keyout", str(key), "-out", str(pem)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return key, pem

    (key, pem), (peer_key, peer_pem) = certificate("listener"), certificate("peer")
    wanted = {"dicom_tls_certificate": pem, "dicom_tls_key": key, "dicom_tls_ca": peer_pem}
    with ListenerProcess(process_environment, tmp_path / "listener.log", **wanted) as listener:
        trusted = ("+tls", str(peer_key), str(peer_pem), "+cf", str(pem))
        with socket.create_connection(("127.0.0.1", listener.port)):  # silent in the handshake: nobody else waits
            started = time.monotonic()
            assert listener.send("echoscu", *trusted)[0] == 0
            assert time.monotonic() - started < 8
        assert listener.send("storescu", *trusted, files=make_study(9, 2))[0] == 0
        assert listener.send("echoscu")[0] != 0, "without TLS"
        assert listener.send("echoscu", "+tla", "+cf", str(pem))[0] != 0, "without a certificate"
        assert listener.send("echoscu", "+tls", str(key), str(pem), "+cf", str(pem))[0] != 0, "an unknown one"
        assert '"reason": "tls"' in listener.output()
    assert len(kept(database)) == 2


def test_a_full_disk_is_said_before_anything_is_sent(
    process_environment: dict[str, str], database: Database, scanner: str, make_study: Make, tmp_path: Path
) -> None:
    with ListenerProcess(process_environment, tmp_path / "full.log", min_free_disk_bytes=2**60) as listener:
        status, said = listener.send("storescu", files=make_study(11, 1))
        assert status != 0
        assert "Temporary Congestion" in said
        assert '"disk_full"' in listener.output()
    assert kept(database) == []
