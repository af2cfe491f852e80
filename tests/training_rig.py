"""Data sets, sweeps and their states for tests of training: what web and the registry worker do, in this process.

Owns small registered data sets whose pictures lie in the blob store, scenario texts of seconds on the network `tiny`,
and waiting for what becomes of a sweep.
"""

import io
import uuid
from collections.abc import Sequence
from typing import Any

import cv2
from sqlalchemy import select

from config.queues import QUEUE_REGISTRY, QUEUE_TRAINING
from config.settings import Settings
from db.blobs import BlobStore
from db.datasets import DatasetSample, TrainingDataset
from db.jobs import WorkItem
from db.queries import claims, sweeps
from db.queries.claims import Claim
from db.queries.training import PlannedRun
from db.session import Database
from db.states import DatasetState, RunState, SweepState
from db.sweeps import Sweep, TrainingRun
from tests.unit.training.dataset_files import CLASSES, picture

PATIENTS, SLICES = 12, 2

SCENARIOS = """\
name: quick
network: tiny
weights: none
class_names: [glioma, no_tumor]
preprocessing: {size: 32}
cache_size: 40
phases: [{size: 32, epochs: EPOCHS}]
sampling: all
learns: head
views: 2
head: {units: 8, dropout: 0.1}
batch: 8
schedule: constant
warm_up_epochs: 0
mixup_alpha: 0
mixup_rate: 0
drop_path: 0
ema_decay: 0
clip_norm: 0
grid:
  optimizer: [OPTIMIZERS]
  learning_rate: [RATES]
"""


def scenarios(
    epochs: int = 3, optimizers: str = "adam", rates: str = "0.01, 0.001", learns: str = "head", **changed: str
) -> str:
    """A scenario file; `changed` replaces or adds top-level fields."""
    text = SCENARIOS.replace("EPOCHS", str(epochs)).replace("OPTIMIZERS", optimizers).replace("RATES", rates)
    if learns == "all":
        changed = {"learns": "all", "views": "1", **changed}
    lines = [line for line in text.splitlines() if line.partition(":")[0] not in changed]
    return "\n".join([f"{name}: {value}" for name, value in changed.items()] + lines) + "\n"


def register_dataset(database: Database, settings: Settings, name: str = "phantoms") -> uuid.UUID:
    """A ready data set of 48 phantom slices of 24 patients; the bytes are in the blob store."""
    blobs = BlobStore(settings.resolved_blob_url)
    samples: list[dict[str, Any]] = []
    for label in CLASSES:
        for patient in range(PATIENTS):
            for number in range(SLICES):
                pixels = picture(label, CLASSES.index(label) * 10_000 + patient * 100 + number)
                done, encoded = cv2.imencode(".png", pixels)
                assert done
                digest, _ = blobs.put(io.BytesIO(encoded.tobytes()))
                samples.append(
                    {
                        "sequence": len(samples),
                        "file": f"{label}/{patient}_{number}.png",
                        "label": label,
                        "patient": f"{label}-{patient}",
                        "plane": "axial" if label == "glioma" else "",
                        "sha256": digest,
                        "group_number": len(samples) // SLICES,
                    }
                )
    each = {"slices": PATIENTS * SLICES, "patients": PATIENTS}
    with database.write() as session:
        dataset = TrainingDataset(
            name=name,
            kind="folder",
            origin={"folder": name},
            state=DatasetState.READY,
            fingerprint=uuid.uuid4().hex * 2,
            counts={
                "classes": dict.fromkeys(CLASSES, each),
                "planes": {"axial": PATIENTS * SLICES, "": PATIENTS * SLICES},
                "slices": len(samples),
                "patients": 2 * PATIENTS,
            },
        )
        session.add(dataset)
        session.flush()
        session.add_all(DatasetSample(dataset_id=dataset.id, **sample) for sample in samples)
        return dataset.id


def begin_sweep(
    database: Database, settings: Settings, dataset_id: uuid.UUID, text: str, name: str = "a sweep"
) -> uuid.UUID:
    """Commits a sweep as web does; housekeeping rings."""
    with database.write() as session:
        return sweeps.create(session, settings, name=name, dataset_id=dataset_id, scenario_text=text).sweep_id


def claim(database: Database, *, lease_s: float = 60.0, worker: str = "w") -> Claim | None:
    """Claims the next item of training or the registry."""
    with database.write() as session:
        return claims.claim_next(
            session,
            queues=(QUEUE_REGISTRY, QUEUE_TRAINING),
            worker_name=worker,
            lease_s=lease_s,
            starvation_after_s=600.0,
        )


def planned(names: Sequence[str], key: str = "k" * 64, *, learns: str = "head", epochs: int = 4) -> list[PlannedRun]:
    """Runs to be, of nothing that can be trained."""
    scenario = {"network": "tiny", "preprocessing": {"size": 32}, "learns": learns}
    return [PlannedRun(name, scenario, name.ljust(64, "0"), key, epochs) for name in names]


def take(database: Database, *, worker: str = "w") -> Claim:
    """Claims the next item; there is one."""
    found = claim(database, worker=worker)
    assert found is not None
    return found


def sweep_state(database: Database, sweep_id: uuid.UUID) -> SweepState:
    """The sweep's state."""
    with database.read() as session:
        return SweepState(session.get_one(Sweep, sweep_id).state)


def runs_of(database: Database, sweep_id: uuid.UUID) -> Sequence[TrainingRun]:
    """The sweep's runs, in order."""
    with database.read() as session:
        return session.scalars(
            select(TrainingRun).where(TrainingRun.sweep_id == sweep_id).order_by(TrainingRun.sequence)
        ).all()


def run_states(database: Database, sweep_id: uuid.UUID) -> list[RunState]:
    """The states of the sweep's runs, in order."""
    return [RunState(run.state) for run in runs_of(database, sweep_id)]


def items_of(database: Database, sweep_id: uuid.UUID) -> Sequence[WorkItem]:
    """The sweep's work items, in the order in which they were made."""
    with database.read() as session:
        return session.scalars(
            select(WorkItem).where(WorkItem.sweep_id == sweep_id).order_by(WorkItem.created_at, WorkItem.sequence)
        ).all()
