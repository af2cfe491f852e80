"""How soon a CPU worker is ready, and how much memory it takes: `python -m benchmarks.worker_startup`.

Owns: starting the real worker program against a real broker and a temporary installation, waiting for the heartbeat
that says the serving model is loaded, giving it a study, and reading the memory of its two processes from the kernel.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import machine, verdict
from benchmarks.whole_way import UNCOMPRESSED, new_study
from config.queues import QUEUE_HOUSEKEEPING, QUEUE_INTAKE
from config.settings import Settings, load_settings
from db.migrate import upgrade
from db.queries.heartbeats import ready_workers
from db.session import Database
from inference.artefact import load
from inference.shipped import default_model
from tests.servers import BrokerServer
from tests.work_rig import context_for, submit, wait_ended, wait_for
from tests.worker_fleet import Fleet
from worker.housekeeping import Housekeeper
from worker.work import turn

READY_S = 5.0
RESIDENT_MIB = 1024.0
MIB = 1024 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit status 1 when a target was missed and `--check` was given."""
    arguments = _parser().parse_args(argv)
    warnings.simplefilter("ignore")
    facts = machine(("openvino", "celery", "sqlalchemy", "numpy", "pydicom"))
    model, digest = (arguments.model, None) if arguments.model else default_model(load_settings().models_dir)
    artefact = load(model, digest)
    examples = sorted(arguments.study.rglob("*.dcm"))
    broker = BrokerServer()
    try:
        runs = []
        for number in range(arguments.rounds):
            print(f"... start {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="neurosight-bench-") as folder:
                settings = _installation(Path(folder), model, artefact.digest, broker.url)
                runs.append(_one_start(settings, Path(folder), examples, arguments.slices))
    finally:
        broker.close()
    ready_s, cpu_s = statistics.median(run.ready_s for run in runs), statistics.median(run.cpu_s for run in runs)
    idle_mib, peak_mib = max(run.idle_mib for run in runs), max(run.peak_mib for run in runs)
    print(
        f"\nWorker start: model {artefact.digest[:12]}, {arguments.rounds} starts, {arguments.slices} slices each\n"
        f"{facts}\n"
    )
    each = ", ".join(f"{run.ready_s:.2f}" for run in runs)
    print(f"ready after {ready_s:.2f} s (median; {each}), for which {cpu_s:.2f} s of CPU were used")
    print(
        f"resident, parent and child together: {idle_mib:.0f} MiB when ready, {peak_mib:.0f} MiB at most with a study\n"
    )
    print(verdict("seconds until ready", ready_s, READY_S, at_most=True))
    print(verdict("MiB resident at most", peak_mib, RESIDENT_MIB, at_most=True))
    return 1 if arguments.check and (ready_s > READY_S or peak_mib > RESIDENT_MIB) else 0


def _installation(folder: Path, model: Path, digest: str, broker_url: str) -> Settings:
    """Database, folder of models and settings of a fresh installation with the model promoted."""
    models = folder / "models"
    models.mkdir()
    shutil.copyfile(model, models / model.name)
    (models / "DEFAULT").write_text(f"{digest}  {model.name}\n")
    settings = load_settings(
        var_dir=folder, models_dir=models, broker_url=broker_url, engine="openvino", min_free_disk_bytes=0
    )
    upgrade(settings.resolved_database_url)
    with Housekeeper(settings) as housekeeper:
        housekeeper.register_models()
    return settings


class Start(NamedTuple):
    """What one start of a worker took."""

    ready_s: float
    cpu_s: float
    idle_mib: float
    peak_mib: float


def _one_start(settings: Settings, folder: Path, examples: list[Path], slices: int) -> Start:
    """Starts a worker, waits until it is ready, and gives it a study."""
    database = Database(settings.resolved_database_url)
    try:
        with Fleet(settings, folder / "logs") as fleet:
            started = time.monotonic()
            process = fleet.start("classify")

            def ready() -> bool:
                with database.read() as session:
                    return bool(ready_workers(session, age_s=60))

            wait_for(ready, 120, 0.02)
            ready_s = time.monotonic() - started
            pids = [process.pid, *fleet.children(process)]
            cpu_s = sum(_cpu_seconds(pid) for pid in pids)
            idle = sum(_status(pid, "VmRSS") for pid in pids)
            job = submit(database, settings, new_study(examples, slices))
            intake = context_for(settings, (QUEUE_INTAKE, QUEUE_HOUSEKEEPING), "bench-intake")
            try:
                while turn(intake):
                    pass
            finally:
                intake.close()
            # No dispatcher runs here: housekeeping rings for what was committed.
            with Housekeeper(settings) as housekeeper:
                housekeeper.ring()
            wait_ended(database, [job], 300)
            return Start(ready_s, cpu_s, idle / MIB, sum(_status(pid, "VmHWM") for pid in pids) / MIB)
    finally:
        database.close()


def _status(pid: int, name: str) -> int:
    """A size in bytes from the kernel's account of a process."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no {name}; this measurement needs Linux.")


def _cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_startup", description="Start a worker; measure.")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .neurosight file; default: the shipped model")
    parser.add_argument("--study", type=Path, default=UNCOMPRESSED, metavar="DIR", help="folder of DICOM files")
    parser.add_argument("--slices", type=int, default=128, help="slices of the study (default 128)")
    parser.add_argument("--rounds", type=int, default=3, help="starts (default 3)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("NEUROSIGHT_LOG_LEVEL", "WARNING")
    sys.exit(main())
