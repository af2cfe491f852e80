"""A training worker: its process, and what it does on a machine without TensorFlow."""

import signal
import subprocess
import sys

import pytest

from config.queues import QUEUE_TRAINING
from config.settings import ROOT, Settings
from db.queries import heartbeats, sweep_views
from db.session import Database
from db.workers import WorkerHeartbeat
from ops import checks
from tests.work_rig import PATIENCE, wait_for
from worker.__main__ import arguments
from worker.without_tensorflow import is_installed

WITHOUT = """
import sys
import worker.without_tensorflow as waiting
waiting.is_installed = lambda: False
from worker.__main__ import main
sys.exit(main(["training"]))
"""


def test_memory_goes_back_to_the_system_after_each_group() -> None:
    for role in ("training", "registry"):
        assert "--max-tasks-per-child=1" in arguments(role)
    assert not [word for word in arguments("classify") if word.startswith("--max-tasks")]


def test_looking_for_tensorflow_does_not_import_it() -> None:
    code = (
        "import sys; from worker.without_tensorflow import is_installed as i; i(); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert is_installed()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_tensorflow_it_says_so_takes_no_work_and_waits(
    settings: Settings, database: Database, process_environment: dict[str, str]
) -> None:
    # The broker is at an address that nobody answers: this worker does not even ask it.
    environment = {**process_environment, "NEUROSIGHT_BROKER_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        row = wait_for(lambda: the_worker(database), 20)
        assert row.queues == [QUEUE_TRAINING]
        assert row.facts["missing"] == "tensorflow"
        assert row.facts["resident_bytes"] < 120 * 1024**2
        with database.read() as session:
            assert sweep_views.training_workers(session) == 0
        (answer,) = [one for one in checks.check_workers(settings) if one.name == "training worker"]
        assert answer.verdict == checks.Verdict.OK, "nothing waits for it"
        assert "TensorFlow is not installed" in answer.found
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20 * PATIENCE)
    assert process.returncode == 0
    assert said.count("no_tensorflow") == 1
    assert "make environment-train" in said
    assert the_worker(database) is None, "it took its heartbeat along"


def the_worker(database: Database) -> WorkerHeartbeat | None:
    with database.read() as session:
        return next(iter(heartbeats.alive(session, age_s=60.0)), None)
