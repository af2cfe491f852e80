"""Folders of labelled pictures for tests, and registering them with the workers' part done in this process."""

import uuid
from collections.abc import Mapping
from pathlib import Path

from config.queues import QUEUE_REGISTRY
from config.settings import Settings
from db.datasets import TrainingDataset
from db.queries import datasets
from db.session import Database
from tests.work_rig import context_for, picture
from worker.work import turn

MANIFEST_HEAD = "file,label,patient,plane,source,box_x,box_y,box_w,box_h\n"


def class_folders(root: Path, counts: Mapping[str, int], *, first_seed: int = 0, size: int = 48) -> Path:
    """A folder a class, every picture another."""
    seed = first_seed
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.png").write_bytes(picture(seed, size))
            seed += 1
    return root


def with_manifest(root: Path, counts: Mapping[str, int], *, slices_each: int = 2, size: int = 48) -> Path:
    """`manifest.csv` with some slices of each patient and a tumour box on the first."""
    lines: list[str] = []
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.png").write_bytes(picture(len(lines), size))
            box = "0.5,0.5,0.2,0.1" if number == 0 else ",,,"
            lines.append(f"{label}/{number}.png,{label},{label}-{number // slices_each},axial,made,{box}\n")
    (root / "manifest.csv").write_text(MANIFEST_HEAD + "".join(lines))
    return root


def work(settings: Settings) -> None:
    """Does what waits for the registry worker."""
    context = context_for(settings, (QUEUE_REGISTRY,))
    try:
        while turn(context):
            pass
    finally:
        context.close()


def register_folder(
    database: Database, settings: Settings, folder: str, *, name: str = "", as_they_are: bool = False
) -> uuid.UUID:
    """Asks for a folder below `datasets_dir` and does the work; returns the data set's id."""
    with database.write() as session:
        registered = datasets.register(
            session,
            settings,
            name=name or folder,
            kind="folder",
            origin={"folder": folder, "labels_as_they_are": as_they_are},
            by=None,
        )
    work(settings)
    return registered.dataset_id


def dataset_of(database: Database, dataset_id: uuid.UUID) -> TrainingDataset:
    """The data set as it is now."""
    with database.read() as session:
        return session.get_one(TrainingDataset, dataset_id)
