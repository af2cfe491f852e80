"""A large study on one machine: memory of the web process, pages while it works, progress, and every result.

Owns: a study of real slices under new identifiers, the whole system started as by `make up` in a folder of its own, two
ways of sending (one zip in one request as a browser does; the folder client), and what is watched meanwhile. Run it by

    python -m benchmarks.volume --slices 10000 --way zip
    python -m benchmarks.volume --slices 10000 --way client

Refuses to time the network it serves with: the model is a tiny one unless `--model` names another, because what is
asked here is what web and database do.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from benchmarks.measure import machine, verdict
from config.settings import ROOT
from db.states import Role
from ops import accounts, groups, launcher
from ops.console import Console
from ops.local import Local
from ops.supervisor import Supervisor

EXAMPLES = ROOT / "examples" / "two" / "dicom"
TINY = ROOT / "tests" / "data" / "tiny.neurosight"
GROWTH_MIB, PAGE_P95_MS = 300.0, 300.0
SERIES_SLICES = 250
NOT_NEEDED = frozenset({"registry", "training", "listener", "watcher"})
BOUNDARY = "the-study-of-the-benchmark"
MIB = 1024 * 1024


@dataclass
class Watched:
    """What was seen while the study was received and worked on.

    Attributes:
        memory_mib: (seconds since the start, resident memory of web's own process and of all below it) a second.
        pages_ms: Page -> how long each look took, by the clock.
        cpu_ms: Page -> processor time of all of web meanwhile; hardly moved by other work on the machine.
        fractions: The job's progress at each look.
        troubles: Answers that were no page.
    """

    memory_mib: list[tuple[float, float, float]] = field(default_factory=list)
    pages_ms: dict[str, list[float]] = field(default_factory=dict)
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)
    fractions: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    phase: str = "being received"
    job: str = ""
    study: str = ""


class Reader(threading.Thread):
    """A clinician who looks at one page after another, and a note of the web process's memory each second."""

    def __init__(self, watched: Watched, address: str, token: str, leader: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._watched, self._leader = watched, leader
        self._host = address.removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._end = threading.Event()
        self._since = time.monotonic()

    def stop(self) -> None:
        """Ends the looks."""
        self._end.set()
        self.join(60)

    def run(self) -> None:
        """Looks and notes until told to end."""
        while not self._end.is_set():
            began = time.monotonic()
            own, below = _memory_mib(self._leader)
            self._watched.memory_mib.append((began - self._since, own, below))
            try:
                self._look()
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                self._watched.troubles.append(f"{type(error).__name__}: {error}")
            self._end.wait(max(0.05, 1.0 - (time.monotonic() - began)))

    def _look(self) -> None:
        watched = self._watched
        addresses = {"job list": "/jobs", "study list": "/studies"}
        if watched.job:
            addresses["job"] = f"/jobs/{watched.job}"
            self._progress()
        if watched.study:
            addresses["study"] = f"/studies/{watched.study}"
            addresses["study, live part"] = f"/studies/{watched.study}?page=1"
        for name, address in addresses.items():
            headers = {**self._headers, **({"HX-Request": "true"} if "live" in name else {})}
            began, cpu_began = time.perf_counter(), _cpu_s(self._leader)
            _get(self._host, address, headers)
            took_ms = (time.perf_counter() - began) * 1000
            cpu_ms = (_cpu_s(self._leader) - cpu_began) * 1000
            watched.pages_ms.setdefault(f"{name} ({watched.phase})", []).append(took_ms)
            watched.cpu_ms.setdefault(f"{name} ({watched.phase})", []).append(cpu_ms)

    def _progress(self) -> None:
        document = json.loads(_get(self._host, f"/api/v1/jobs/{self._watched.job}", self._headers))
        self._watched.fractions.append(document["fraction"])
        phases = {"received": "opening", "opening": "opening", "classifying": "classifying"}
        self._watched.phase = phases.get(document["state"], "ended")
        if document["studies"]:
            self._watched.study = document["studies"][0]["id"]


def main() -> int:
    """Measures; the exit status is 0 when every target was reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.volume", description=__doc__)
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--way", choices=("zip", "client"), default="zip")
    parser.add_argument("--model", type=Path, default=TINY, help="artefact to serve (a tiny one)")
    wanted = parser.parse_args()
    print(machine(("SQLAlchemy", "Flask", "gunicorn", "pydicom")))
    print(f"slices: {wanted.slices}, sent by {wanted.way}, model {wanted.model.name}", flush=True)
    reached: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="volume-") as folder, _environment(Path(folder), wanted.model):
        study = Path(folder) / "study"
        write_study(study, wanted.slices)
        if wanted.way == "zip":
            study = _zipped(study)

        def measure(state: Local, _: Console, supervisor: Supervisor) -> None:
            with accounts.visitor(state.settings, "reader", Role.CLINICIAN) as visitor:
                reached.append(_measure(state, visitor.token, study, wanted.slices))
            supervisor.stop("measured")

        status = launcher.launch(measure, quiet=True, without=NOT_NEEDED, give_up_after_s=300)
    return 0 if status == 0 and reached == [True] else 1


def write_study(folder: Path, slices: int) -> None:
    """Writes real slices, over and over, as series of one new study."""
    examples = [pydicom.dcmread(path) for path in sorted(EXAMPLES.rglob("*.dcm"))]
    study = f"2.25.{uuid.uuid4().int % 10**20}"  # short: what is appended has to fit
    for number in range(slices):
        dataset = examples[number % len(examples)]
        series = number // SERIES_SLICES + 1
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
            pydicom.uid.UID(study),
            pydicom.uid.UID(f"{study}.{series}"),
        )
        instance = pydicom.uid.UID(f"{study}.{series}.{number + 1}")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
        dataset.PatientID, dataset.PatientName, dataset.StudyDescription = "VOLUME", "VOLUME^BENCH", "Volume"
        dataset.SeriesNumber, dataset.SeriesDescription, dataset.InstanceNumber = series, f"series {series}", number + 1
        (folder / str(series)).mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / str(series) / f"{number + 1:05d}.dcm", enforce_file_format=True)


def _measure(state: Local, token: str, study: Path, slices: int) -> bool:
    watched = Watched()
    leader = groups.group_of(next((state.settings.var_dir / "run").glob("*-web.group")))
    assert leader is not None  # noqa: S101 - it has just answered
    address = state.web_url
    host, headers = address.removeprefix("http://"), {"Authorization": f"Bearer {token}"}
    for page in ("/jobs", "/studies"):  # the first look at a page compiles its template
        _get(host, page, headers)
    baseline = sum(_memory_mib(leader))
    reader = Reader(watched, address, token, leader)
    reader.start()
    began = time.monotonic()
    watched.job = _send(address, token, study)
    received_s = time.monotonic() - began
    job = json.loads(_get(host, f"/api/v1/jobs/{watched.job}", headers))
    while not job["ended"]:
        time.sleep(2)
        job = json.loads(_get(host, f"/api/v1/jobs/{watched.job}", headers))
    ended_s = time.monotonic() - began
    time.sleep(15)  # looks at the finished study
    reader.stop()
    peak = max(own + below for _, own, below in watched.memory_mib)
    results = json.loads(_get(host, f"/api/v1/studies/{watched.study}/results", headers))["slices"]
    with_result = sum(item["prediction"] is not None for item in results)
    after_export = sum(_memory_mib(leader))
    _say(watched, baseline, received_s, ended_s, job)
    monotonic = all(a <= b for a, b in zip(watched.fractions, watched.fractions[1:], strict=False))
    lines = [
        verdict("web memory above its start, MiB", peak - baseline, GROWTH_MIB, at_most=True),
        verdict("the same after all results were fetched, MiB", after_export - baseline, GROWTH_MIB, at_most=True),
        *(
            verdict(f"p95 of the {name}, ms", _p95(took), PAGE_P95_MS, at_most=True)
            for name, took in sorted(watched.pages_ms.items())
        ),
        verdict("results", with_result, slices),
        verdict("progress never went back", float(monotonic), 1),
        verdict("answers that were no page", len(watched.troubles), 0, at_most=True),
    ]
    print("\n".join([*lines, *watched.troubles[:10]]), flush=True)
    return all(line.startswith("reached") for line in lines)


def _say(watched: Watched, baseline: float, received_s: float, ended_s: float, job: dict[str, Any]) -> None:
    print(f"received after {received_s:.0f} s, ended after {ended_s:.0f} s: {job['state']}, {job['slices']}")
    print(f"load while it ran: {os.getloadavg()[0]:.1f}")
    step = max(1, len(watched.memory_mib) // 12)
    told = ", ".join(f"{at:.0f} s {own:.0f}+{below:.0f}" for at, own, below in watched.memory_mib[::step])
    print(f"memory of web (itself + its decoders), MiB; {baseline:.0f} at the start: {told}")
    for name, took in sorted(watched.pages_ms.items()):
        print(
            f"  {name:32} {len(took):4} looks, median {statistics.median(took):6.0f} ms, p95 {_p95(took):6.0f} ms, "
            f"longest {max(took):6.0f} ms; processor time, median {statistics.median(watched.cpu_ms[name]):5.0f} ms"
        )


def _send(address: str, token: str, study: Path) -> str:
    """Sends the study and returns its job's id."""
    if study.suffix == ".zip":
        return _post_zip(address, token, study)
    done = subprocess.run(
        [sys.executable, "-m", "client", "submit", str(study), "--no-wait", "--patience", "20", "--url", address],
        env={**os.environ, "NEUROSIGHT_TOKEN": token},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout + done.stderr
    return said.partition("received: job ")[2].split()[0]


def _post_zip(address: str, token: str, study: Path) -> str:
    """One request with one file, streamed as a browser does."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{study.name}"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=600)
    connection.putrequest("POST", "/api/v1/studies")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + study.stat().st_size + len(tail)))
    connection.endheaders()
    connection.send(head)
    with study.open("rb") as file:
        while piece := file.read(256 * 1024):
            connection.send(piece)
    connection.send(tail)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 202:
        raise RuntimeError(f"the zip was answered {answer.status}: {body[:500]!r}; expected 202")
    return str(json.loads(body)["id"])


def _zipped(folder: Path) -> Path:
    """The study as one zip; the folder goes."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*.dcm")):
            archive.write(file, file.relative_to(folder.parent))
    shutil.rmtree(folder)
    return path


def _get(host: str, path: str, headers: dict[str, str]) -> bytes:
    """One page or document, over a connection of its own: the server closes those that rest."""
    connection = http.client.HTTPConnection(host, timeout=600)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} was answered {answer.status}; expected 200")
    return body


def _memory_mib(leader: int) -> tuple[float, float]:
    """Resident memory of web: (gunicorn and its worker, decoder processes below them)."""
    own = below = 0.0
    for pid in _group(leader):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            size = int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024
            if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes() or pid == leader:
                own += size
            else:
                below += size
    return own, below


def _cpu_s(leader: int) -> float:
    """Processor time of all threads of web and its decoders so far, seconds."""
    total = 0.0
    for pid in _group(leader):
        with contextlib.suppress(OSError):
            total += sum(
                int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
            )
    return total * 1e-9


def _group(leader: int) -> Iterator[int]:
    """Processes of the group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry.name)) == leader:
                    yield int(entry.name)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


@contextlib.contextmanager
def _environment(folder: Path, model: Path) -> Iterator[None]:
    """Settings of this run alone: a new folder for all state, the model, a free port."""
    models = folder / "models"
    models.mkdir()
    shutil.copyfile(model, models / model.name)
    (models / "DEFAULT").write_text(f"{hashlib.sha256(model.read_bytes()).hexdigest()}  {model.name}\n")
    kept = {name: value for name, value in os.environ.items() if name.startswith("NEUROSIGHT_")}
    for name in kept:
        del os.environ[name]
    os.environ |= {"NEUROSIGHT_VAR_DIR": str(folder / "var"), "NEUROSIGHT_MODELS_DIR": str(models)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("NEUROSIGHT_")]:
            del os.environ[name]
        os.environ |= kept


if __name__ == "__main__":
    sys.exit(main())
