"""`make clean-state`: deletes what is ours after a yes, and nothing else."""

import io
from pathlib import Path

import pytest

from ops import clean, local


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder as a run leaves it."""
    folder = tmp_path / "var"
    monkeypatch.setenv("NEUROSIGHT_VAR_DIR", str(folder))
    (folder / "blobs" / "ab").mkdir(parents=True)
    (folder / "blobs" / "ab" / "abcd").write_bytes(b"pixels")
    (folder / "neurosight.db").write_bytes(b"rows")
    (folder / "neurosight.env").write_text("NEUROSIGHT_CHUNK_SLICES=16\n")
    return folder


def test_everything_goes_after_the_word(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("delete\n"))
    assert clean.run(ask=True) == 0
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("answer", ["", "yes\n", "y\n", "Delete it\n"])
def test_nothing_goes_without_the_word(state: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert clean.run(ask=True) == 1
    assert (state / "blobs" / "ab" / "abcd").read_bytes() == b"pixels"


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"sun")
    monkeypatch.setenv("NEUROSIGHT_VAR_DIR", str(folder))
    assert clean.run(ask=False) == 1
    assert (folder / "holiday.jpg").read_bytes() == b"sun"


def test_an_empty_folder_needs_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSIGHT_VAR_DIR", str(tmp_path / "var"))
    assert clean.run(ask=True) == 0


def test_the_launchers_block_is_rewritten_and_the_rest_kept(state: Path) -> None:
    local.prepare(state)
    first = (state / "neurosight.env").read_text()
    local.prepare(state)
    assert (state / "neurosight.env").read_text() == first
    assert first.startswith("NEUROSIGHT_CHUNK_SLICES=16\n" + local.BLOCK_START)
    assert local.prepare(state).settings.chunk_slices == 16


def test_a_broker_of_the_operators_own_is_used(state: Path) -> None:
    env_file = state / "neurosight.env"
    env_file.write_text("NEUROSIGHT_BROKER_URL=redis://:secret@broker.example:6379/0\n")
    prepared = local.prepare(state)
    assert not prepared.embedded_broker
    assert prepared.settings.broker_url == "redis://:secret@broker.example:6379/0"
    assert env_file.read_text().count("NEUROSIGHT_BROKER_URL") == 1
