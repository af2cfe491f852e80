"""A run becomes a model, is compared with the serving one, sent out as one file and taken in again; bad files are
refused in words. The registry worker's part is done in this process, with the real engines."""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from config.queues import QUEUE_REGISTRY, QUEUE_TRAINING
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.queries import comparisons, imports
from db.queries.refusals import RegistryRefused
from db.registry import CheckpointImport, Comparison
from db.session import Database
from db.states import ItemState, RequestState
from db.sweeps import TrainingRun
from tests.tiny_artefact import TINY_ARTEFACT, tiny_digest
from tests.training_rig import begin_sweep, register_dataset, runs_of, scenarios
from tests.work_rig import context_for, models_folder, promote_tiny
from worker import without_tensorflow
from worker.context import Context
from worker.work import turn

pytest.importorskip("tensorflow")


@pytest.fixture
def work(settings: Settings, tmp_path: Path) -> Settings:
    """The tiny model, promoted; everything local."""
    changed = settings.model_copy(
        update={
            "models_dir": models_folder(tmp_path / "models"),
            "training_dir": tmp_path / "training",
            "retry_delay_s": 0.0,
            "training_threads": 1,
            "inference_threads": 1,
        }
    )
    promote_tiny(changed)
    return changed


@pytest.fixture
def context(work: Settings) -> Iterator[Context]:
    opened = context_for(work, (QUEUE_REGISTRY, QUEUE_TRAINING))
    yield opened
    opened.close()


def finished_run(work: Settings, context: Context, database: Database) -> TrainingRun:
    """One run of seconds, trained and reported."""
    dataset_id = register_dataset(database, work)
    sweep_id = begin_sweep(database, work, dataset_id, scenarios(epochs=2, rates="0.01"))
    turn(context, 60)
    (run,) = runs_of(database, sweep_id)
    assert run.state == "finished", (run.failure_code, run.failure_detail)
    return run


def sent(
    database: Database, context: Context, content: bytes, kind: str, file_name: str, **stated: object
) -> uuid.UUID:
    """Takes a file in as web does, and does the worker's part."""
    digest, _ = context.blobs.put(io.BytesIO(content))
    with database.write() as session:
        row, _ = imports.request_import(
            session, kind=kind, file_name=file_name, sha256=digest, parameters=stated, by=None, max_attempts=2
        )
    turn(context, 60)
    return row.id


def outcome(database: Database, import_id: uuid.UUID) -> CheckpointImport:
    with database.read() as session:
        return session.get_one(CheckpointImport, import_id)


def test_a_run_becomes_a_model_and_is_compared_on_its_own_test_part(
    work: Settings, context: Context, database: Database
) -> None:
    run = finished_run(work, context, database)
    with database.write() as session:
        item = imports.request_export(session, run.id, max_attempts=2)
    with pytest.raises(RegistryRefused, match="is being made"), database.write() as session:
        imports.request_export(session, run.id, max_attempts=2)
    turn(context, 60)
    with database.read() as session:
        again = imports.newest_export(session, run.id)
        assert again is not None
        assert (again.id, again.state, again.error_code) == (item.id, ItemState.DONE, "")
        checkpoint_id = session.get_one(TrainingRun, run.id).checkpoint_id
        checkpoint = session.get_one(Checkpoint, checkpoint_id)
        assert checkpoint.name == f"a sweep: {run.name}"
        assert checkpoint.class_names == ["glioma", "no_tumor"]
        assert context.blobs.exists(checkpoint.digest)
    with pytest.raises(RegistryRefused, match="is a model already"), database.write() as session:
        imports.request_export(session, run.id, max_attempts=2)

    with database.write() as session:
        row, _ = comparisons.request(session, checkpoint, dataset_id=None, by=None, max_attempts=2)
    with pytest.raises(RegistryRefused, match="under way"), database.write() as session:
        comparisons.request(session, checkpoint, dataset_id=None, by=None, max_attempts=2)
    turn(context, 60)
    with database.read() as session:
        found = session.get_one(Comparison, row.id)
        assert (found.state, found.failure_code) == (RequestState.DONE, "")
        result = found.result
        assert comparisons.newest(session, checkpoint.id, found.reference_id) is found
    assert (result["run"], result["dataset"]) == (run.name, "phantoms")
    outcomes = result["outcomes"]
    assert len(outcomes) == result["slices"] > 0
    right = [row[1] == row[2] for row in outcomes], [row[1] == row[4] for row in outcomes]
    for side, hits in zip(("candidate", "reference"), right, strict=True):
        accuracy = result[side]["accuracy"]
        assert accuracy["value"] == pytest.approx(sum(hits) / len(hits))
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert sum(sum(found.values()) for found in result[side]["confusion"].values()) == len(outcomes)
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    assert [result["mcnemar"]["only_a"], result["mcnemar"]["only_b"]] == only
    # Held back from the run that made the candidate; of the model that came from elsewhere nobody knows.
    assert result["training"] == {"candidate": "held_back", "reference": "unknown"}


def test_an_artefact_is_taken_in_and_what_is_none_is_refused_in_words(
    work: Settings, context: Context, database: Database, tmp_path: Path
) -> None:
    content = TINY_ARTEFACT.read_bytes()
    context.blobs.delete(tiny_digest())  # deleted by hand; taking the same file in again restores it
    done = outcome(database, sent(database, context, content, imports.ARTEFACT, "mine.neurosight"))
    assert (done.state, done.failure_code) == (RequestState.DONE, "")
    assert context.blobs.exists(tiny_digest())
    with database.read() as session:
        assert session.scalars(select(Checkpoint.id).where(Checkpoint.digest == tiny_digest())).one()
        assert done.checkpoint_id is not None
    for broken, says in ((content[:-40], "not a readable model artefact"), (b"GIF89a" + b"\0" * 500, "not a readable")):
        refused = outcome(database, sent(database, context, broken, imports.ARTEFACT, "broken.neurosight"))
        assert (refused.state, refused.failure_code) == (RequestState.FAILED, "artefact_unusable")
        assert says in refused.failure_detail["says"]


def test_weights_from_elsewhere_are_named_by_their_user_and_a_whole_model_is_never_opened(
    work: Settings, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.networks import HeadSpec, build

    network = build("tiny", 48, ("glioma", "meningioma"), HeadSpec(units=4, activation="sigmoid"))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **network.weights())
    stated = {
        "name": "from the thesis",
        "network": "tiny",
        "units": 4,
        "activation": "sigmoid",
        "class_names": ["glioma", "meningioma"],
        "preprocessing": {"size": 48},
        "origin": "a thesis",
    }
    done = outcome(database, sent(database, context, file.getvalue(), imports.WEIGHTS, "w.npz", **stated))
    assert (done.state, done.failure_code, done.failure_detail) == (RequestState.DONE, "", {})
    with database.read() as session:
        made = session.get_one(Checkpoint, done.checkpoint_id)
        assert (made.name, made.network, made.class_names) == ("from the thesis", "tiny", ["glioma", "meningioma"])
    bad = [
        ({**stated, "units": 5}, file.getvalue(), "w.npz"),
        ({**stated, "network": "tinny"}, file.getvalue(), "tinny"),
        ({**stated, "class_names": ["a"]}, file.getvalue(), ""),
        ({**stated, "preprocessing": {"size": 3}}, file.getvalue(), "expected 16 to 4096"),
        (stated, b"PK\x03\x04 not really", "w.npz"),
    ]
    for changed, content, says in bad:
        refused = outcome(database, sent(database, context, content, imports.WEIGHTS, "w.npz", **changed))
        assert (refused.state, refused.failure_code) in (
            (RequestState.FAILED, "weights_unusable"),
            (RequestState.FAILED, "artefact_unusable"),
        )
        assert says in refused.failure_detail["says"], refused.failure_detail
    monkeypatch.setattr(without_tensorflow, "find_spec", lambda name: None)
    refused = outcome(database, sent(database, context, file.getvalue(), imports.WEIGHTS, "w.npz", **stated))
    assert refused.failure_code == "no_tensorflow"
