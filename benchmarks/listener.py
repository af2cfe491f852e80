"""How fast instances are received by DICOM: `python -m benchmarks.listener --instances 2000`.

Owns: a listener on an SQLite database and a blob store of its own, dcmtk's `storescu` as one or several senders, and
what came of it: instances a second, the listener's processor time and memory, and whether every instance is a row
and a blob. Needs dcmtk. Refuses to count what was not acknowledged.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from sqlalchemy import func, select

from benchmarks.measure import machine
from config.settings import ROOT
from db.migrate import upgrade
from db.session import Database
from db.states import Role
from db.uploads import UploadFile
from db.users import User
from ops.ports import any_free

WAIT_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Sends and prints; exit status 1 when an instance is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listener", description=__doc__)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64, help="rows and columns of a 16-bit slice")
    parser.add_argument("--senders", type=int, default=1, help="associations at once, each with a study of its own")
    wanted = parser.parse_args(argv)
    if shutil.which("storescu") is None:
        print("needs storescu, which is part of dcmtk (apt-get install dcmtk)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="listener-") as name:
        folder = Path(name)
        each = wanted.instances // wanted.senders
        studies = [_study(folder / f"study-{number}", number, each, wanted.side) for number in range(wanted.senders)]
        return _measure(folder, studies, each)


def _measure(folder: Path, studies: list[Path], each: int) -> int:
    facts = machine(("pynetdicom", "pydicom"))
    database_url = f"sqlite:///{folder / 'neurosight.db'}"
    upgrade(database_url)
    database = Database(database_url)
    with database.write() as session:
        session.add(User(username="scanner", role=Role.SUBMITTER, password_hash="none"))  # noqa: S106 - no password
    port = any_free("127.0.0.1")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEUROSIGHT_")} | {
        "NEUROSIGHT_VAR_DIR": str(folder / "var"),
        "NEUROSIGHT_DATABASE_URL": database_url,
        "NEUROSIGHT_DICOM_HOST": "127.0.0.1",
        "NEUROSIGHT_DICOM_PORT": str(port),
        "NEUROSIGHT_DICOM_USER": "scanner",
        "NEUROSIGHT_DICOM_ALLOWED_PEERS": "SENDER@127.0.0.1",
        "NEUROSIGHT_MAX_UPLOAD_FILES": str(each + 1),
    }
    with (folder / "listener.log").open("wb") as log:
        listener = subprocess.Popen(
            [sys.executable, "-m", "gateway", "listen"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        to_peer = ["-aet", "SENDER", "-aec", "NEUROSIGHT", "127.0.0.1", str(port)]
        _wait_for(to_peer)
        before, cpu_before_s = _resident_mib(listener.pid), _cpu_s(listener.pid)
        highest = [before]
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(listener.pid, highest, done))
        watcher.start()
        started = time.perf_counter()
        senders = [subprocess.Popen(["storescu", "+sd", "-R", *to_peer, str(study)]) for study in studies]
        statuses = [sender.wait() for sender in senders]
        took_s = time.perf_counter() - started
        cpu_s = _cpu_s(listener.pid) - cpu_before_s
        done.set()
        watcher.join()
    finally:
        listener.terminate()
        listener.wait(30)
    with database.read() as session:
        rows = session.scalar(select(func.count()).select_from(UploadFile)) or 0
    database.close()
    blobs = sum(1 for _ in (folder / "var" / "blobs").glob("??/*"))
    sent = each * len(studies)
    print(facts)
    print(f"{sent} instances by {len(studies)} associations in {took_s:.1f} s: {sent / took_s:.0f} instances/s")
    print(f"processor time of the listener: {1000 * cpu_s / sent:.1f} ms an instance")
    print(f"resident memory of the listener: {before} MiB before, {max(highest)} MiB at its highest")
    print(f"senders' exit statuses {statuses}; rows {rows}, blobs {blobs}, expected {sent}")
    return 0 if rows == blobs == sent and not any(statuses) else 1


def _study(folder: Path, number: int, count: int, side: int) -> Path:
    """Writes a study of MR slices that differ in their pixels."""
    folder.mkdir()
    rng = np.random.default_rng(number)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.Modality = MRImageStorage, "MR"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.77{number}", f"2.25.78{number}"
    data.Rows = data.Columns = side
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    for place in range(count):
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(f"2.25.79{number}.{place + 1}")
        data.InstanceNumber = place + 1
        data.PixelData = rng.integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
        out = io.BytesIO()
        dcmwrite(out, data, enforce_file_format=True)
        (folder / f"{place:06}.dcm").write_bytes(out.getvalue())
    return folder


def _wait_for(to_peer: list[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while subprocess.run(["echoscu", *to_peer], capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("the listener does not answer")
        time.sleep(0.1)


def _watch(pid: int, highest: list[int], done: threading.Event) -> None:
    while not done.wait(0.5):
        highest.append(_resident_mib(pid))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)


if __name__ == "__main__":
    sys.exit(main())
