"""How long the worklist and the list of studies take with 10,000 studies and 200,000 slices.

Owns: a database of that size, made of rows as intake and classification leave them, and asking the real application for
pages, as a clinician who is logged in by token. On SQLite all work is this process's, so that its CPU time says on a
busy machine what the clock says on a quiet one. Run it with `python -m benchmarks.worklist [--studies N]
[--postgresql]`; the database is made in a temporary folder.
"""

import argparse
import random
import statistics
import tempfile
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from config.settings import load_settings
from db.base import Base, utc_now
from db.checkpoints import Checkpoint
from db.jobs import Job, JobSlice, JobStudy
from db.migrate import upgrade
from db.predictions import Prediction
from db.queries import accounts, standings
from db.queries.audit import SYSTEM
from db.queries.summaries import THRESHOLD, Finding
from db.session import Database
from db.standings import StudyStanding
from db.states import JobState, Role, SliceState
from db.studies import Instance, Series, Study, StudyIdentity
from web import create_app

SLICES_A_STUDY = 20
CLASSES = ("glioma", "meningioma", "pituitary", "no_tumor")
PAGES = {
    "worklist": "/worklist",
    "worklist, page 200": "/worklist?page=200",
    "worklist, class and period": "/worklist?class=glioma&finding=tumour&since=2020-01-01&until=2100-01-01",
    "worklist, patient's name": "/worklist?text=patient+0042",
    "worklist, all, newest first": "/worklist?state=all&order=newest",
    "next study": "/worklist/next",
    "studies": "/studies",
    "studies, patient's name": "/studies?text=patient+0042",
}


def fill(database: Database, studies: int) -> None:
    """Makes studies of which each slice has its result, each with the row in which it stands."""
    draw, now = random.Random(7), utc_now()
    with database.write() as session:
        checkpoint = Checkpoint(
            name="bench",
            digest="0" * 64,
            location="models:bench",
            network="none",
            class_names=list(CLASSES),
            manifest={},
        )
        session.add(checkpoint)
        session.flush()
        checkpoint_id = checkpoint.id
    for start in range(0, studies, 500):
        rows: dict[type[Base], list[dict[str, Any]]] = {
            model: []
            for model in (Job, Study, StudyIdentity, StudyStanding, Series, JobStudy, Instance, JobSlice, Prediction)
        }
        for number in range(start, min(studies, start + 500)):
            _study(rows, number, now - timedelta(minutes=studies - number), checkpoint_id, draw)
        with database.write() as session:
            for model, values in rows.items():
                session.execute(insert(model), values)


def _study(
    rows: dict[type[Base], list[dict[str, Any]]], number: int, at: Any, checkpoint_id: uuid.UUID, draw: random.Random
) -> None:
    study, series, job = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    ended = {"state": JobState.SUCCEEDED, "opened_at": at, "finished_at": at}
    rows[Job].append({"id": job, "created_at": at, "checkpoint_id": checkpoint_id, "title": f"{number}", **ended})
    rows[Study].append({"id": study, "created_at": at, "study_key": f"dicom:{number}", "title": f"Head {number:05d}"})
    rows[StudyIdentity].append(
        {"study_id": study, "patient_name": f"PATIENT {number:05d}", "patient_id": f"P{number:05d}"}
    )
    rows[Series].append({"id": series, "study_id": study, "series_key": "1", "plane": "axial", "facts": {}})
    rows[JobStudy].append({"job_id": job, "study_id": study})
    leading, peak = draw.choice(CLASSES), None
    for place in range(SLICES_A_STUDY):
        instance = uuid.uuid4()
        rows[Instance].append(
            {
                "id": instance,
                "study_id": study,
                "series_id": series,
                "content_sha256": uuid.uuid4().hex * 2,
                "size_bytes": 1,
                "kind": "dicom",
                "path": f"{place}.dcm",
                "rows": 8,
                "columns": 8,
                "sort_key": float(place),
            }
        )
        rows[JobSlice].append({"job_id": job, "instance_id": instance, "state": SliceState.DONE})
        name = leading if draw.random() < 0.3 else "no_tumor"
        probability = draw.uniform(0.4, 1.0)
        rows[Prediction].append(
            {
                "instance_id": instance,
                "checkpoint_id": checkpoint_id,
                "job_id": job,
                "created_at": at,
                "class_name": name,
                "probability": probability,
                "probabilities": {name: probability},
                "scores": [0.0],
                "input_sha256": "0" * 64,
                "engine": "bench",
                "code_version": "bench",
            }
        )
        if name != "no_tumor" and probability >= THRESHOLD:
            peak = max(peak or 0.0, probability)
    finding = Finding.TUMOUR if peak else Finding.NO_TUMOUR
    rows[StudyStanding].append(
        {
            "study_id": study,
            "stale": False,
            "received_at": at,
            "newest_result_at": at,
            "checkpoint_id": checkpoint_id,
            "finding": finding,
            "leading_class": leading if peak else "",
            "peak_probability": peak,
            "slices": SLICES_A_STUDY,
            "analysed": SLICES_A_STUDY,
            "urgency": standings.urgency(finding, peak),
        }
    )


def measure(url: str, folder: Path, rounds: int) -> None:
    """Asks for each page and prints how long the answers took."""
    app = create_app(load_settings(database_url=url, var_dir=folder, log_level="WARNING"))
    database = Database(url)
    with database.write() as session:
        user = accounts.create_user(session, "reader", accounts.new_password(), Role.CLINICIAN, by=SYSTEM)
        _, token = accounts.create_token(session, user, "bench", by=SYSTEM, expires_at=None)
    client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
    for name, address in PAGES.items():
        took, worked = [], []
        for _ in range(rounds):
            begun, idle = time.perf_counter(), time.process_time()
            answer = client.get(address, headers=headers)
            took.append(1000 * (time.perf_counter() - begun))
            worked.append(1000 * (time.process_time() - idle))
            assert answer.status_code in (200, 303), (address, answer.status_code)  # noqa: S101 - a measurement
        p95, cpu = (statistics.quantiles(values, n=20)[-1] for values in (took, worked))
        print(
            f"{name:32} p50 {statistics.median(took):6.1f} ms   p95 {p95:6.1f} ms   (this process's CPU {cpu:6.1f} ms)"
        )
    database.close()


def main() -> None:
    """Builds the database, says how large it is, and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = None
        url = f"sqlite:///{folder}/bench.db"
        if wanted.postgresql:
            from tests.servers import PostgresServer

            server = PostgresServer()
            server.execute("CREATE DATABASE bench")
            url = server.url("bench")
        try:
            upgrade(url)
            database = Database(url)
            begun = time.perf_counter()
            fill(database, wanted.studies)
            with database.read() as session:
                studies = session.scalar(select(func.count()).select_from(Study))
                slices = session.scalar(select(func.count()).select_from(Prediction))
            kind = "PostgreSQL" if server else "SQLite"
            print(f"{kind}: {studies} studies, {slices} slices; made in {time.perf_counter() - begun:.0f} s")
            database.close()
            measure(url, folder, wanted.rounds)
        finally:
            if server:
                server.close()


if __name__ == "__main__":
    main()
