"""`make up`, the doctor and the demo as a person runs them, with the tiny model and all real parts."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import ROOT
from ops import groups
from ops.launcher import readiness
from tests.integration.test_launcher import Launched, eventually
from tests.servers import free_port
from tests.tiny_artefact import TINY_ARTEFACT, tiny_digest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny model as its default."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(TINY_ARTEFACT, folder)
    (folder / "DEFAULT").write_text(f"{tiny_digest()}  {TINY_ARTEFACT.name}\n")
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Launched]:
    """The whole system, started as by `make up`, ready."""
    folder = tmp_path_factory.mktemp("system")
    launched = Launched(
        folder,
        (ROOT / "Procfile").read_text(),
        NEUROSIGHT_MODELS_DIR=str(models),
        NEUROSIGHT_WORKER_READY_AGE_S="4",
        NEUROSIGHT_INFERENCE_THREADS="1",
    )
    eventually(lambda: "ready after" in launched.said or launched.process.poll() is not None, "readiness", 90)
    assert launched.process.poll() is None, launched.said
    yield launched
    launched.process.send_signal(signal.SIGINT)
    assert launched.process.wait(60) == 0
    assert groups.left_over(launched.var_dir / "run") == []


def doctor(system: Launched, models: Path, timeout_s: int = 8) -> "subprocess.CompletedProcess[str]":
    """`make doctor` beside a running system."""
    return subprocess.run(
        [sys.executable, "-m", "ops", "doctor", "--timeout", str(timeout_s)],
        cwd=ROOT,
        env={
            **os.environ,
            "NEUROSIGHT_VAR_DIR": str(system.var_dir),
            "NEUROSIGHT_MODELS_DIR": str(models),
            "NEUROSIGHT_WORKER_READY_AGE_S": "4",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_doctor_finds_a_healthy_system_healthy(system: Launched, models: Path) -> None:
    done = doctor(system, models)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 synthetic slices sent, classified, explained and accounted for" in done.stdout
    assert re.search(r"^  ok +broker memory +policy noeviction$", done.stdout, re.MULTILINE)
    assert re.search(r"^\d+ checks: 0 failed, \d warnings$", done.stdout, re.MULTILINE)


def test_the_doctor_says_which_part_is_ill_and_how_to_mend_it(system: Launched, models: Path) -> None:
    frozen = system.service_pid("classify")
    os.killpg(frozen, signal.SIGSTOP)
    try:
        eventually(lambda: not readiness(system.web_url)[0], "the worker's silence to be noticed")
        done = doctor(system, models, timeout_s=2)
    finally:
        os.killpg(frozen, signal.SIGCONT)
    assert done.returncode == 1
    assert re.search(r"^  FAIL +classify worker +none was seen lately$", done.stdout, re.MULTILINE)
    assert "-> see var/log/classify.log; start with make up" in done.stdout
    assert re.search(r"^  FAIL +readiness ", done.stdout, re.MULTILINE)
    eventually(lambda: doctor(system, models).returncode == 0, "the thawed worker to be seen again")


def test_no_secret_reaches_log_or_terminal(system: Launched) -> None:
    password = (system.var_dir / "secrets" / "broker_password").read_text().strip()
    key = (system.var_dir / "secrets" / "secret_key").read_text().strip()
    for path in (system.var_dir / "log").iterdir():
        text = path.read_text()
        assert password not in text, path.name
        assert key not in text, path.name
        assert "PHANTOM" not in text, f"{path.name} names a patient"
    assert password not in system.said


def test_the_demo_ends_by_itself_with_results(tmp_path: Path, models: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops", "demo", "--once", "--study", str(ROOT / "examples" / "four" / "dicom")],
        cwd=ROOT,
        env={
            **os.environ,
            "NEUROSIGHT_VAR_DIR": str(tmp_path / "var"),
            "NEUROSIGHT_MODELS_DIR": str(models),
            "NEUROSIGHT_WEB_PORT": str(free_port()),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^  \d{3}\.dcm +(axial|coronal|sagittal) +(\w+) +(0\.\d{3}|1\.000) ", done.stdout, re.MULTILINE)
    assert len(lines) == 6
    assert re.search(r"^  summary: ", done.stdout, re.MULTILINE)
    assert re.search(r"^  rule: ", done.stdout, re.MULTILINE)
    assert re.search(r"^  results page: http://127\.0\.0\.1:\d+/studies/[0-9a-f-]{36}$", done.stdout, re.MULTILINE)
    assert re.search(r"^  log in as:    demo, password \S+ \(this run only\)$", done.stdout, re.MULTILINE)
    assert "Research use only" in done.stdout
    assert "\033[" not in done.stdout, "no terminal, no escape sequences"
    assert groups.left_over(tmp_path / "var" / "run") == []


def test_a_demo_of_nothing_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops", "demo", "--study", str(tmp_path / "absent")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected a folder or a file with images" in done.stderr
