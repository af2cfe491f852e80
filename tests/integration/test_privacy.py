"""A run with marked names through real processes: which of logs, metrics, messages, file names and rows hold them.

Everything is marked: name, ID, birth date and accession number in the files, names of files and folders, titles, and
what somebody types into addresses. Good files, broken ones, a slice that fails when it is analysed, refused requests.
"""

import base64
import io
import json
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column

from config.settings import Settings
from db.models import METADATA
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from tests.servers import BrokerServer
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes
from tests.web_process import WebProcess
from tests.work_rig import models_folder, picture, wait_for
from tests.worker_fleet import DISPATCHER, Fleet

IDENTITY = ("ZZNAMEZZ", "ZZIDZZ", "ZZACCZZ", "19700203")
SENT = ("ZZFILEZZ", "ZZFOLDERZZ", "ZZTITLEZZ")
TYPED = ("ZZTYPEDZZ",)
MARKS = tuple(mark.encode() for mark in (*IDENTITY, *SENT, *TYPED))

NAMES_AS_SENT = {
    *("upload_file.path", "received_file.path", "instance.path"),
    *("job.title", "upload.title", "study.title", "series.description"),
}
"""Where docs/privacy.md says that names of files and folders and titles are kept."""


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough here: what is written does not depend on which."""
    return sqlite_url


@pytest.fixture
def site(settings: Settings, broker: BrokerServer, tmp_path: Path) -> Iterator[tuple[Settings, WebProcess, Path]]:
    """Web, all workers and the broker, every process telling as much as it can."""
    models = models_folder(tmp_path / "models")
    changed = settings.model_copy(update={"models_dir": models, "log_level": "DEBUG", "resend_after_s": 2.0})
    logs = tmp_path / "logs"
    with Fleet(changed, logs) as fleet:
        for role in (DISPATCHER, "intake", "classify"):
            fleet.start(role)
        environment = {f"NEUROSIGHT_{name.upper()}": str(getattr(changed, name)) for name in changed.model_fields_set}
        web = WebProcess({**fleet._environment, **environment}, logs / "web.log")
        try:
            yield changed, web, logs
        finally:
            web.stop()


def image(number: int) -> bytes:
    """A slice of the marked patient."""
    ds = mr(ramp() + number, PatientName="ZZNAMEZZ^JANE", PatientID="ZZIDZZ", AccessionNumber="ZZACCZZ")
    ds.PatientBirthDate, ds.SOPInstanceUID, ds.StudyDescription = "19700203", f"2.25.{number}", "brain"
    return to_bytes(ds)


def study() -> dict[str, bytes]:
    """Files of which some are taken, some refused and one fails when it is analysed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ZZFOLDERZZ/ZZFILEZZ.dcm", image(3))
        file.writestr("../ZZFILEZZ out", b"x")
    damaged = bytearray(picture(9))
    damaged[len(damaged) // 2] ^= 0xFF
    return {
        "ZZFOLDERZZ/ZZFILEZZ 1.dcm": image(1),
        "ZZFOLDERZZ/ZZFILEZZ 2.dcm": image(2),
        "ZZFOLDERZZ/ZZFILEZZ cut.dcm": image(4)[:-99],
        "ZZFOLDERZZ/ZZFILEZZ.txt": b"ZZNAMEZZ ZZIDZZ",
        "ZZFOLDERZZ/ZZFILEZZ analysed.png": bytes(damaged),
        "ZZFILEZZ.zip": archive.getvalue(),
    }


class Caller:
    """A program with a token; keeps every refusal that it was given."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.refusals: list[bytes] = []

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json", accept: str = "*/*"
    ) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": accept}
        request = urllib.request.Request(self.url + path, body or None, headers, method=method)  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            self.refusals.append(error.read())
            return b""


def multipart(files: dict[str, bytes], title: str) -> tuple[bytes, str]:
    parts = [f'--edge\r\nContent-Disposition: form-data; name="title"\r\n\r\n{title}\r\n'.encode()]
    for path, content in files.items():
        head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{path}"\r\n\r\n'
        parts += [head.encode(), content, b"\r\n"]
    return b"".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


def holding(text: bytes) -> list[str]:
    return [mark.decode() for mark in MARKS if mark in text]


def messages(folder: Path) -> bytes:
    """What the broker was told and has on its disk, as it is and with every base64 body opened."""
    told = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    bodies = re.findall(rb'"body": "([A-Za-z0-9+/=]+)"', told)
    assert bodies, "no message was found: the broker's file has another form"
    return told + b"".join(base64.b64decode(body) for body in bodies)


def where(database: Database) -> dict[str, set[str]]:
    """Column -> marks in it, of the whole database."""
    found: dict[str, set[str]] = {}
    with database.engine.connect() as connection:
        for table in METADATA.sorted_tables:
            columns: list[Column[object]] = list(table.columns)
            for row in connection.execute(table.select()):
                for column, value in zip(columns, row, strict=True):
                    raw = value if isinstance(value, bytes) else str(value).encode()
                    if marks := holding(raw):
                        found.setdefault(f"{table.name}.{column.name}", set()).update(marks)
    return found


def test_marked_names_stand_where_they_may_and_nowhere_else(
    site: tuple[Settings, WebProcess, Path], broker: BrokerServer, database: Database
) -> None:
    settings, web, logs = site
    with database.write() as session:
        user = accounts.create_user(session, "clara", "correct horse battery", Role.ADMIN, by=SYSTEM)
        _, token = accounts.create_token(session, user, "test", by=SYSTEM, expires_at=None)
    caller = Caller(web.url, token)
    body, kind = multipart(study(), "ZZTITLEZZ")
    job = json.loads(caller.ask("POST", "/api/v1/studies", body, kind))
    upload = json.loads(caller.ask("POST", "/api/v1/uploads", b'{"title": "ZZTITLEZZ"}'))["links"]["self"]
    caller.ask("PUT", f"{upload}/files?path=ZZFOLDERZZ/ZZFILEZZ%20x.dcm", image(5), "application/octet-stream")

    def ended() -> dict[str, object] | None:
        now: dict[str, object] = json.loads(caller.ask("GET", job["links"]["self"]))
        return now if now["state"] in ("succeeded", "partial", "failed") else None

    done = wait_for(ended, 60)
    assert done["state"] == "partial", done
    studies = json.loads(caller.ask("GET", job["links"]["self"]))["studies"]
    for path in (
        *(f"/studies/{shown['id']}" for shown in studies),
        *(shown["links"]["results_csv"] for shown in studies),
        f"/jobs/{job['id']}",
        job["links"]["receipt_csv"],
        "/studies?text=ZZTYPEDZZ",
        "/studies?text=ZZNAMEZZ",
        "/jobs?text=ZZTYPEDZZ",
    ):
        assert caller.ask("GET", path, accept="text/html"), path
    assert caller.refusals == []
    # What is refused says nothing of what was typed or sent.
    for method, path, sent, kind in (
        ("GET", "/studies/ZZTYPEDZZ", b"", "text/html"),
        ("GET", "/ZZTYPEDZZ?x=ZZNAMEZZ", b"", "text/html"),
        ("GET", "/api/v1/jobs?page=ZZTYPEDZZ", b"", "application/json"),
        ("GET", "/api/v1/jobs/ZZTYPEDZZ", b"", "application/json"),
        ("DELETE", "/api/v1/jobs?text=ZZNAMEZZ", b"", "application/json"),
        ("POST", "/api/v1/studies", b'{"PatientName": "ZZNAMEZZ"', "application/json"),
        ("POST", "/api/v1/studies", b"ZZNAMEZZ", "multipart/form-data; boundary=ZZTYPEDZZ"),
        ("POST", "/api/v1/uploads", b'{"priority": "ZZTYPEDZZ"}', "application/json"),
        ("PUT", f"{upload}/files?path=../ZZFILEZZ", b"x", "application/octet-stream"),
    ):
        caller.ask(method, path, sent, kind, accept="text/html")
    assert len(caller.refusals) >= 8
    for refusal in caller.refusals:
        # The address that was asked for stands in the form that changes the language, and leads back to it.
        assert holding(re.sub(rb'name="next" value="[^"]*"', b"", refusal)) == [], refusal
    assert holding(caller.ask("GET", "/metrics")) == []
    said = {path.name: path.read_bytes() for path in logs.iterdir()}
    assert len(said) == 4
    assert b"opened" in b"".join(said.values()), "the workers' logs are not where they are looked for"
    for name, text in said.items():
        assert holding(text) == [], name
    assert holding(messages(broker.folder)) == []
    for folder in (settings.var_dir, broker.folder, logs.parent):
        for path in folder.rglob("*"):
            assert holding(str(path).encode()) == [], "a name on disk"
    found = where(database)
    identity = {column for column, marks in found.items() if marks & set(IDENTITY)}
    assert {column.partition(".")[0] for column in identity} == {"study_identity"}
    assert set(found) - identity <= NAMES_AS_SENT
    assert set().union(*found.values()) == {*IDENTITY, *SENT}
