"""The environment's stamp: what counts as ready, and what does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import ROOT
from ops import environment


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file."""
    path = tmp_path / "requirements.lock"
    path.write_text("one==1.0 \\\n    --hash=sha256:00\n")
    return path


@pytest.fixture
def made(tmp_path: Path, lock: Path) -> Path:
    """A folder that looks like a finished environment."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text("")
    (folder / (environment.STAMP_PREFIX + lock.name)).write_text(environment.stamp_of(lock))
    return folder


def test_a_finished_environment_is_ready(made: Path, lock: Path) -> None:
    assert environment.is_ready(made, lock)


def test_a_changed_lock_file_is_not_what_was_installed(made: Path, lock: Path) -> None:
    lock.write_text(lock.read_text() + "two==2.0\n")
    assert not environment.is_ready(made, lock)


def test_an_interrupted_installation_leaves_no_stamp_and_is_not_ready(made: Path, lock: Path) -> None:
    (made / (environment.STAMP_PREFIX + lock.name)).unlink()
    assert not environment.is_ready(made, lock)


def test_an_environment_whose_python_was_removed_is_not_ready(made: Path, lock: Path) -> None:
    (made / "bin" / "python").unlink()
    (made / "bin" / "python").symlink_to(made / "gone")
    assert not environment.is_ready(made, lock)


def test_a_folder_that_is_no_environment_is_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(environment.EnvironmentFailed, match="exists and is not a virtual environment; move it away"):
        environment.ensure(folder, "runtime")
    assert (folder / "thesis.txt").read_text() == "years of work"


def run_python_sh(tmp_path: Path, **commands: str) -> "subprocess.CompletedProcess[str]":
    """Runs ops/python.sh with a PATH that holds only the given commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(ROOT / "ops" / "python.sh"), "-c", "print('ran')"],
        env={"PATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_python_there_is_one_clear_line(tmp_path: Path) -> None:
    done = run_python_sh(tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "found no python3; Python 3.11 or newer is needed" in done.stderr


def test_an_old_python_is_named(tmp_path: Path) -> None:
    done = run_python_sh(tmp_path, python3='[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    assert done.returncode == 1
    assert "found Python 3.9.2; Python 3.11 or newer is needed" in done.stderr


def test_a_newer_python_under_its_own_name_is_found(tmp_path: Path) -> None:
    name = {"python3": "exit 1", "python3.12": f'exec "{sys.executable}" "$@"'}
    done = run_python_sh(tmp_path, **name)
    assert (done.returncode, done.stdout) == (0, "ran\n")
