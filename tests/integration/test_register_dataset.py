"""Registering a folder as a data set: what is kept of a good one, what is said of a bad one, and the copy on disk."""

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.queues import QUEUE_REGISTRY, TASK_REGISTER_DATASET
from config.settings import Settings
from db.datasets import DatasetSample
from db.jobs import WorkItem
from db.queries import datasets, housekeeping
from db.session import Database
from db.states import DatasetState, ItemState
from tests.dataset_rig import class_folders, dataset_of, register_folder, with_manifest, work
from tests.work_rig import context_for, make_user, picture
from training.datasets import read_dataset
from worker.context import Context
from worker.datasets import materialise
from worker.faults import Fatal
from worker.work import turn

GOOD = {"glioma": 12, "meningioma": 10}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a folder for data sets, and no pause between attempts."""
    changed = settings.model_copy(update={"datasets_dir": settings.var_dir / "datasets", "retry_delay_s": 0.0})
    changed.datasets_dir.mkdir()
    return changed


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    made = context_for(settings, ("registry",))
    yield made
    made.close()


def codes(database: Database, dataset_id: uuid.UUID) -> list[str]:
    return [problem["code"] for problem in dataset_of(database, dataset_id).problems]


def test_a_manifest_is_kept_with_patients_boxes_and_groups(
    settings: Settings, database: Database, context: Context
) -> None:
    root = with_manifest(settings.datasets_dir / "made", GOOD)
    (root / "glioma" / "1.png").write_bytes((root / "meningioma" / "1.png").read_bytes())  # a copy across labels
    dataset_id = register_folder(database, settings, "made")
    found = dataset_of(database, dataset_id)
    assert (found.state, found.kind) == (DatasetState.READY, "manifest")
    assert found.counts["classes"]["glioma"] == {"slices": 12, "patients": 6}
    assert (found.counts["slices"], found.counts["patients"]) == (22, 11)
    assert found.counts["planes"] == {"axial": 22}
    assert (found.leaks["identical_pairs"], found.leaks["cross_label_pairs"]) == (1, 1)
    assert "dataset_doubtful_labels" in codes(database, dataset_id)
    with database.read() as session:
        samples = datasets.samples_of(session, dataset_id)
    assert len(samples) == 22
    by_file = {sample.file: sample for sample in samples}
    assert by_file["glioma/0.png"].box == [0.5, 0.5, 0.2, 0.1]
    assert by_file["glioma/2.png"].box is None
    assert by_file["glioma/1.png"].sha256 == by_file["meningioma/1.png"].sha256
    assert by_file["glioma/1.png"].group_number == by_file["meningioma/0.png"].group_number
    assert context.blobs.exists(by_file["glioma/0.png"].sha256)


def test_the_copy_on_disk_is_the_data_set_whatever_becomes_of_the_folder(
    settings: Settings, database: Database, context: Context, tmp_path: Path
) -> None:
    root = with_manifest(settings.datasets_dir / "made", GOOD)
    before = read_dataset(root).samples
    dataset_id = register_folder(database, settings, "made")
    shutil.rmtree(root)
    cache = tmp_path / "cache"
    copy = materialise(context, dataset_id, cache)
    assert read_dataset(copy).samples == before
    assert "box_x" in (copy / "manifest.csv").read_text().splitlines()[0]
    assert list(cache.iterdir()) == [copy]
    mark = (copy / "manifest.csv").stat().st_mtime_ns
    assert materialise(context, dataset_id, cache) == copy
    assert (copy / "manifest.csv").stat().st_mtime_ns == mark, "made again although it was whole"
    (copy / "glioma" / "0.png").unlink()
    gone = cache / str(uuid.uuid4())
    gone.mkdir()
    assert (materialise(context, dataset_id, cache) / "glioma" / "0.png").is_file()
    assert not gone.exists(), "the copy of a deleted data set stays"


def test_a_lost_or_damaged_blob_is_said_and_leaves_no_copy(
    settings: Settings, database: Database, context: Context, tmp_path: Path
) -> None:
    class_folders(settings.datasets_dir / "plain", GOOD)
    dataset_id = register_folder(database, settings, "plain")
    with database.read() as session:
        first, second = (sample.sha256 for sample in datasets.samples_of(session, dataset_id)[:2])
    blob = settings.var_dir / "blobs" / first[:2] / first
    blob.write_bytes(b"other bytes")
    with pytest.raises(Fatal, match="is damaged"):
        materialise(context, dataset_id, tmp_path / "cache")
    context.blobs.delete(first)
    context.blobs.delete(second)
    with pytest.raises(Fatal, match="is missing"):
        materialise(context, dataset_id, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(Fatal, match="not there or not ready"):
        materialise(context, uuid.uuid4(), tmp_path / "cache")


def test_the_same_pictures_have_the_same_fingerprint_and_a_second_message_changes_nothing(
    settings: Settings, database: Database
) -> None:
    class_folders(settings.datasets_dir / "plain", GOOD)
    first, second = (register_folder(database, settings, "plain", name=name) for name in ("one", "two"))
    assert dataset_of(database, first).fingerprint == dataset_of(database, second).fingerprint != ""
    assert codes(database, first) == ["dataset_no_patients"]
    with database.write() as session:
        session.add(
            WorkItem(
                task=TASK_REGISTER_DATASET,
                queue=QUEUE_REGISTRY,
                arguments={"dataset_id": str(first)},
                max_attempts=3,
            )
        )
    work(settings)
    with database.read() as session:
        states = session.scalars(select(WorkItem.state)).all()
        samples = session.scalar(select(func.count()).select_from(DatasetSample))
    assert set(states) == {ItemState.DONE}
    assert samples == 44


def test_every_fault_of_the_pictures_is_named_at_once_and_mending_them_helps(
    settings: Settings, database: Database, context: Context, tmp_path: Path
) -> None:
    root = class_folders(settings.datasets_dir / "bad", {"gliomma": 12, "meningioma": 10})
    (root / "meningioma" / "cut.png").write_bytes(picture(99)[:300])
    (root / "meningioma" / "text.jpg").write_text("not a picture")
    outside = tmp_path / "outside.png"
    outside.write_bytes(picture(98))
    (root / "meningioma" / "link.png").symlink_to(outside)
    dataset_id = register_folder(database, settings, "bad")
    found = dataset_of(database, dataset_id)
    assert found.state == DatasetState.REFUSED
    misspelt, *files = found.problems
    assert misspelt == {
        "code": "dataset_label_misspelt",
        "detail": {"label": "gliomma", "count": 12, "near": "glioma"},
    }
    assert {problem["detail"]["file"]: problem["detail"]["reason"] for problem in files} == {
        "meningioma/cut.png": "truncated",
        "meningioma/link.png": "link",
        "meningioma/text.jpg": "text",
    }
    with database.read() as session:
        assert datasets.samples_of(session, dataset_id) == []
    for name in ("cut.png", "text.jpg", "link.png"):
        (root / "meningioma" / name).unlink()
    with database.write() as session:
        datasets.register_again(session, settings, dataset_id, labels_as_they_are=True)
    work(settings)
    assert dataset_of(database, dataset_id).state == DatasetState.READY
    assert set(dataset_of(database, dataset_id).counts["classes"]) == {"gliomma", "meningioma"}


def test_too_little_and_manifests_with_mistakes_are_refused_and_say_what(
    settings: Settings, database: Database
) -> None:
    folders: dict[str, tuple[dict[str, int], str]] = {
        "one class": ({"glioma": 12}, "dataset_one_class"),
        "three pictures": ({"glioma": 2, "meningioma": 1}, "dataset_too_few"),
        "nothing": ({}, "dataset_no_images"),
    }
    manifests: dict[str, tuple[str, str, tuple[str, object]]] = {
        "column": ("file,label\na.png,glioma\n", "dataset_missing_column", ("missing", "patient")),
        "value": ("file,label,patient\na.png,,p\nb.png,x,p\n", "dataset_missing_value", ("lines", "2")),
        "file": ("file,label,patient\ngone.png,glioma,p\n", "dataset_missing_file", ("files", "gone.png")),
        "way": ("file,label,patient\n../../etc/passwd,glioma,p\n", "dataset_outside_folder", ("count", 1)),
        "plane": ("file,label,patient,plane\na.png,glioma,p,top\n", "dataset_unknown_plane", ("files", "a.png")),
    }
    for name, (counts, _) in folders.items():
        (settings.datasets_dir / name).mkdir()
        class_folders(settings.datasets_dir / name, counts)
    for name, (manifest, _, _) in manifests.items():
        (settings.datasets_dir / name).mkdir()
        (settings.datasets_dir / name / "manifest.csv").write_text(manifest)
        for file in ("a.png", "b.png"):
            (settings.datasets_dir / name / file).write_bytes(picture(1))
    with database.write() as session:
        asked = {
            name: datasets.register(
                session, settings, name=name, kind="folder", origin={"folder": name}, by=None
            ).dataset_id
            for name in (*folders, *manifests)
        }
    work(settings)
    for name, (_, code) in folders.items():
        assert codes(database, asked[name]) == [code], name
    for name, (_, code, (fact, value)) in manifests.items():
        (problem,) = dataset_of(database, asked[name]).problems
        assert (problem["code"], problem["detail"][fact]) == (code, value)
        assert str(settings.var_dir) not in str(problem)


def test_a_folder_that_vanished_or_leads_out_is_refused(settings: Settings, database: Database, tmp_path: Path) -> None:
    class_folders(tmp_path / "elsewhere", GOOD)
    (settings.datasets_dir / "link").symlink_to(tmp_path / "elsewhere")
    with database.write() as session:
        asked = [
            datasets.register(
                session, settings, name=f"a {name}", kind="folder", origin={"folder": name}, by=None
            ).dataset_id
            for name in ("never", "link", "../elsewhere", ".", "..", "")
        ]
    work(settings)
    for dataset_id in asked:
        assert codes(database, dataset_id) == ["dataset_no_folder"]


def test_a_full_disk_is_waited_for_and_nothing_is_lost(settings: Settings, database: Database) -> None:
    class_folders(settings.datasets_dir / "large", GOOD, size=160)
    with database.write() as session:
        registered = datasets.register(
            session, settings, name="large", kind="folder", origin={"folder": "large"}, by=None
        )
    context = context_for(settings.model_copy(update={"min_free_disk_bytes": 1 << 60}), ("registry",))
    try:
        turn(context, turn_s=0.0)
    finally:
        context.close()
    found = dataset_of(database, registered.dataset_id)
    with database.read() as session:
        waiting = datasets.waiting(session, found)
    assert found.state == DatasetState.REGISTERING
    assert waiting is not None
    assert waiting.code == "disk_full"
    work(settings)
    assert dataset_of(database, registered.dataset_id).state == DatasetState.READY
    assert not list((settings.var_dir / "blobs" / "incoming").iterdir())


def test_an_attempt_that_dies_half_way_is_done_anew_and_a_hopeless_one_is_refused(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(settings.datasets_dir / "plain", GOOD)
    whole, times = datasets.conclude, iter(range(100))

    def dies_once(*given: Any) -> None:
        if next(times) == 0:
            raise RuntimeError("the process ended before the last transaction")
        whole(*given)

    monkeypatch.setattr(datasets, "conclude", dies_once)
    first = register_folder(database, settings, "plain", name="first")
    with database.read() as session:
        assert len(datasets.samples_of(session, first)) == 22
    monkeypatch.setattr(datasets, "conclude", lambda *_: 1 / 0)
    second = register_folder(database, settings, "plain", name="second")
    assert dataset_of(database, second).state == DatasetState.REFUSED
    assert codes(database, second) == ["poison"]
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(DatasetSample)) == 22


def test_deleting_stops_a_worker_that_reads(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(settings.datasets_dir / "plain", GOOD)
    begin, ada = datasets.begin, make_user(database)

    def deleted_meanwhile(session: Session, dataset_id: uuid.UUID, *, steps: int) -> None:
        begin(session, dataset_id, steps=steps)
        datasets.remove(session, dataset_id, by=ada)  # in the same transaction: SQLite has one writer at a time

    monkeypatch.setattr(datasets, "begin", deleted_meanwhile)
    dataset_id = register_folder(database, settings, "plain")
    with database.read() as session:
        assert dataset_id not in datasets.known_ids(session)
        assert session.scalar(select(WorkItem.state)) == ItemState.CANCELLED
        assert session.scalar(select(func.count()).select_from(DatasetSample)) == 0


def test_pictures_of_a_deleted_data_set_are_swept_unless_another_names_them(
    settings: Settings, database: Database, context: Context
) -> None:
    class_folders(settings.datasets_dir / "plain", GOOD)
    first, second = (register_folder(database, settings, "plain", name=name) for name in ("one", "two"))
    with database.read() as session:
        digests = [sample.sha256 for sample in datasets.samples_of(session, first)]
    ada = make_user(database)

    def swept() -> int:
        with database.write() as session:
            found = datasets.forget_files(session, older_than_s=-1.0)
            for digest in housekeeping.unnamed(session, found):
                context.blobs.sweep(digest, unused_for_s=-1.0, now=time.time())
        return sum(not context.blobs.exists(digest) for digest in digests)

    for dataset_id, gone in ((first, 0), (second, len(digests))):
        with database.write() as session:
            datasets.remove(session, dataset_id, by=ada)
        with database.write() as session:
            assert datasets.forget_files(session, older_than_s=60.0) == [], "too early"
        assert swept() == gone
