"""Names of processes, kinds of fault, the lease's thread, the models held ready."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError

from config.settings import Settings
from db.artefacts import local_artefact
from db.blobs import StoreFull
from db.checkpoints import Checkpoint
from db.queries import claims
from db.queries.checkpoints import UnknownCheckpoint, promote, serving
from db.queries.claims import LeaseLost
from db.session import Database
from tests.tiny_artefact import tiny_digest
from tests.work_rig import context_for, models_folder, promote_tiny
from worker.faults import Fatal, Transient, delay_s, place_of, transient_code
from worker.housekeeping import Housekeeper
from worker.lease import Lease, Stopping
from worker.processes import is_known_dead, worker_name


def test_a_living_process_is_not_dead_and_a_dead_one_is() -> None:
    assert not is_known_dead(worker_name("classify"))
    code = "from worker.processes import worker_name; print(worker_name('classify'))"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_known_dead(name)
    assert len(worker_name("classify")) <= 128


def test_a_process_of_another_machine_is_never_judged() -> None:
    place = worker_name("classify").split("@")[1].split("#")[0]
    elsewhere = worker_name("classify").replace(place, "other.12345678.4026531836").split("#")[0] + "#999999.1"
    assert not is_known_dead(elsewhere)
    assert not is_known_dead("somebody")


def test_a_reused_number_is_another_process() -> None:
    name, _, _ = worker_name("classify").rpartition(".")
    assert is_known_dead(f"{name}.1")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OperationalError("x", None, Exception()), "database_unavailable"),
        (IntegrityError("x", None, Exception()), None),
        (OSError(5, "EIO"), "storage_unavailable"),
        (StoreFull("full"), "disk_full"),
        (Transient("no_model", "none"), "no_model"),
        (Fatal("model_unusable", "broken"), None),
        (ValueError("x"), None),
        (MemoryError(), None),
    ],
)
def test_kinds_of_fault(error: Exception, code: str | None) -> None:
    assert transient_code(error) == code


def test_delays_double_up_to_a_minute() -> None:
    assert [delay_s(times, 2.0) for times in (0, 1, 2, 3, 4, 5, 50)] == [2, 4, 8, 16, 32, 60, 60]


def test_a_place_shows_no_message_and_no_value() -> None:
    try:
        raise ValueError("Roe^Jane")
    except ValueError as error:
        place = place_of(error)
    assert "Roe" not in place
    assert "test_processes_and_faults.py:" in place


@pytest.fixture
def held(database: Database) -> claims.Claim:
    from tests.unit.db.test_claims import add_item, add_job, claim

    add_item(database, add_job(database))
    return claim(database, lease_s=0.6)


def test_a_lease_is_renewed_while_the_work_goes_on(database: Database, held: claims.Claim) -> None:
    with Lease(database, held, 0.6) as lease:
        for _ in range(15):
            time.sleep(0.1)
            lease.check()
    with database.write() as session:
        claims.finish(session, held)


def test_a_lease_that_is_taken_away_is_noticed(database: Database, held: claims.Claim) -> None:
    with Lease(database, held, 0.6) as lease:
        with database.write() as session:
            claims.bury(session, held, error_code="taken")
        time.sleep(0.5)
        with pytest.raises(LeaseLost, match="is gone"):
            lease.check()


def test_a_process_that_has_to_end_stops_after_its_grace(database: Database, held: claims.Claim) -> None:
    with Lease(database, held, 60.0, stopping=lambda: True, grace_s=0.0) as lease:
        time.sleep(1.3)
        with pytest.raises(Stopping, match="has to end"):
            lease.check()


def test_promotion_is_by_a_known_digest_only(settings: Settings, database: Database, tmp_path: Path) -> None:
    with database.read() as session:
        assert serving(session) is None
    changed = settings.model_copy(update={"models_dir": models_folder(tmp_path / "models")})
    checkpoint_id = promote_tiny(changed)
    with database.read() as session:
        current = serving(session)
        assert current is not None
        assert (current.id, current.digest) == (checkpoint_id, tiny_digest())
    with pytest.raises(UnknownCheckpoint, match="not registered"), database.write() as session:
        promote(session, "f" * 64, by=None, reason="x")


def test_the_newest_promotion_serves_and_a_broken_one_leaves_the_old_model_loaded(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    changed = settings.model_copy(update={"models_dir": models_folder(tmp_path / "models")})
    good = promote_tiny(changed)
    context = context_for(changed, ("interactive",))
    context.predictors.follow()
    assert context.predictors.serving == good
    with database.write() as session:
        session.add(
            Checkpoint(
                name="gone",
                digest="a" * 64,
                location="models:gone.neurosight",
                network="tiny",
                class_names=[],
                manifest={},
            )
        )
        session.flush()
        promote(session, "a" * 64, by=None, reason="a mistake")
    context.predictors.follow()
    assert context.predictors.serving == good
    assert context.predictors.facts()["checkpoint_refused"] is not None
    with context.predictors.use(good) as predictor:
        assert predictor.digest == tiny_digest()
    with database.write() as session:
        promote(session, tiny_digest(), by=None, reason="rolled back")
    context.predictors.follow()
    assert context.predictors.facts()["models_loaded"] == 1
    context.close()


@pytest.mark.parametrize("location", ["models:../x", "models:", "models:a/b", "file:///x", "models:.."])
def test_an_artefact_is_never_looked_for_outside_its_folder(location: str, tmp_path: Path, settings: Settings) -> None:
    context = context_for(settings, ())
    found = local_artefact(location, tmp_path, context.blobs)
    with pytest.raises(ValueError, match="expected models:NAME or blob:KEY"), found:
        pass
    context.close()


def test_the_parent_process_loads_no_engine() -> None:
    code = (
        "import sys; from config.settings import load_settings; from worker.celery_app import create_app;"
        "create_app(load_settings(broker_url='redis://localhost:1/0'));"
        "print([name for name in ('tensorflow', 'openvino', 'cv2', 'keras') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_checkpoint_is_fatal(settings: Settings, database: Database) -> None:
    context = context_for(settings, ("interactive",))
    with pytest.raises(Fatal, match="is not registered"), context.predictors.use(uuid.uuid4()):
        pass
    context.close()


def test_a_checkpoint_stays_servable_when_its_file_is_replaced(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    folder = models_folder(tmp_path / "models")
    changed = settings.model_copy(update={"models_dir": folder})
    checkpoint_id = promote_tiny(changed)
    for path in folder.iterdir():
        path.write_bytes(b"another file")
    with Housekeeper(changed) as housekeeper:
        housekeeper.register_models()
    context = context_for(changed, ("interactive",))
    with context.predictors.use(checkpoint_id) as predictor:
        assert predictor.digest == tiny_digest()
    context.close()
    with database.read() as session:
        assert len(session.scalars(select(Checkpoint)).all()) == 1
