"""`make dataset`: a folder is brought whole or not at all; what is ready or refused is said."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings, load_settings
from db.datasets import TrainingDataset
from db.queries import datasets
from db.session import Database
from db.states import DatasetState
from ops.console import Console
from ops.dataset import Wrong, begin, bring, follow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of one file each."""
    made = tmp_path / "elsewhere"
    for label in ("glioma", "meningioma"):
        (made / label).mkdir(parents=True)
        (made / label / "1.png").write_bytes(label.encode())
    return made


def test_a_folder_is_linked_below_the_data_sets_folder(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "sets"
    assert bring(folder, target, "My set, 2026!") == "My-set-2026"
    brought = target / "My-set-2026" / "glioma" / "1.png"
    assert brought.read_bytes() == b"glioma"
    assert brought.stat().st_ino == (folder / "glioma" / "1.png").stat().st_ino, "copied although a link was possible"
    assert bring(target / "My-set-2026", target, "another name") == "My-set-2026"
    with pytest.raises(Wrong, match="already"):
        bring(folder, target, "My set 2026")
    (folder / "glioma" / "2.png").write_bytes(b"more")
    assert bring(folder, target, "My set 2026", replace=True) == "My-set-2026"
    assert (target / "My-set-2026" / "glioma" / "2.png").is_file()
    assert [path.name for path in target.iterdir()] == ["My-set-2026"]
    with pytest.raises(Wrong, match="there is no folder"):
        bring(tmp_path / "nowhere", target, "x")


def test_a_link_is_refused_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    (folder / "glioma" / "2.png").symlink_to("/etc/passwd")
    with pytest.raises(Wrong, match="is a link"):
        bring(folder, tmp_path / "sets", "x")
    assert list((tmp_path / "sets").iterdir()) == []


def test_what_became_of_it_is_said(sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: Settings = load_settings(var_dir=tmp_path, database_url=sqlite_url)
    database = Database(sqlite_url)

    def end(dataset_id: uuid.UUID, **values: Any) -> None:
        with database.write() as session:
            found = session.get_one(TrainingDataset, dataset_id)
            for name, value in values.items():
                setattr(found, name, value)

    try:
        first = begin(database, settings, "bad", "bad", labels_as_they_are=False)
        with pytest.raises(Wrong, match="already"):
            begin(database, settings, "bad", "bad", labels_as_they_are=False)
        problem = {"code": "dataset_one_class", "detail": {"label": "glioma", "count": 3}}
        end(first, state=DatasetState.REFUSED, problems=[problem])
        assert follow(database, first, Console([]), lambda: False) == 1
        assert "There is one class, glioma (3 slices)" in capsys.readouterr().out
        assert begin(database, settings, "bad", "bad", labels_as_they_are=True) == first, "not read again"
        counts = {"slices": 20, "patients": 4, "patients_known": True, "classes": {"glioma": {"slices": 20}}}
        leaks = dict.fromkeys(("identical_pairs", "near_pairs", "cross_patient_pairs", "cross_label_pairs"), 0)
        end(first, state=DatasetState.READY, counts=counts, leaks=leaks, fingerprint="f" * 64, problems=[])
        assert follow(database, first, Console([]), lambda: False) == 0
        assert "ready: 20 slices of 4 patients (glioma 20)" in capsys.readouterr().out
        with database.read() as session:
            assert [row.dataset.name for row in datasets.listed(session)] == ["bad"]
    finally:
        database.close()
