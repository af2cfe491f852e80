"""Real archives for tests: dcmtk's storescp and dcmqrscp, and Orthanc over DIMSE and DICOMweb.

Owns starting them on free ports in a temporary folder, waiting until they answer, and ending them. A test that asks for
one that is not installed is skipped with the name of the Debian package.
"""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE_S = 30.0


def need(program: str, package: str) -> None:
    """Skips the test when a program is missing."""
    if shutil.which(program) is None and not Path(program).exists():
        pytest.skip(f"{program} is not installed: apt-get install {package}")


def free_port() -> int:
    """A port of this machine that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: Sequence[object], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that listens on the port."""
    with log.open("ab") as output:
        server = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.05)
        yield server
    finally:
        server.kill()
        server.wait()


@dataclass
class StoreScp:
    """dcmtk's storescp."""

    port: int
    folder: Path

    @property
    def address(self) -> str:
        """For an admin's form."""
        return f"STORESCP@127.0.0.1:{self.port}"

    def received(self) -> list[Dataset]:
        """What lies in its folder."""
        return [dcmread(path) for path in sorted(self.folder.iterdir())]


@contextmanager
def store_scp(folder: Path, *options: str, port: int = 0) -> Iterator[StoreScp]:
    """A storescp that writes what it gets into a folder."""
    need("storescp", "dcmtk")
    port, target = port or free_port(), folder / "received"
    target.mkdir(parents=True, exist_ok=True)
    command = ["storescp", *options, "--aetitle", "STORESCP", "--output-directory", target, port]
    with process(command, port, folder / "storescp.log"):
        yield StoreScp(port, target)


@dataclass
class QueryScp:
    """dcmtk's dcmqrscp: it stores, finds, and hands out by C-GET."""

    port: int

    @property
    def address(self) -> str:
        """For an admin's form."""
        return f"QRSCP@127.0.0.1:{self.port}"

    def fill(self, folder: Path, *options: str) -> None:
        """Stores every file of a folder in it."""
        command = ["storescu", *options, "-aec", "QRSCP", "127.0.0.1", str(self.port), "+sd", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@contextmanager
def query_scp(folder: Path) -> Iterator[QueryScp]:
    """An empty dcmqrscp."""
    need("dcmqrscp", "dcmtk")
    port, storage = free_port(), folder / "qrscp"
    storage.mkdir(parents=True)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {storage} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with process(["dcmqrscp", "+xr", "--config", configuration], port, folder / "dcmqrscp.log"):
        yield QueryScp(port)


@dataclass
class Orthanc:
    """An Orthanc with its DICOMweb plugin; user `tester`."""

    http_port: int
    dicom_port: int

    SECRET = "tester:a-secret-of-tests"

    @property
    def dimse(self) -> str:
        """For an admin's form."""
        return f"ORTHANC@127.0.0.1:{self.dicom_port}"

    @property
    def web(self) -> str:
        """The root of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """Its own REST API, JSON."""
        return json.loads(self.get(path, body))

    def get(self, path: str, body: bytes | None = None) -> bytes:
        """Its own REST API; a body is posted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        proof = "Basic " + base64.b64encode(self.SECRET.encode()).decode()
        connection.request("POST" if body else "GET", path, body=body, headers={"Authorization": proof})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status == 200, f"{path}: HTTP {answer.status}"
        return data


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """An empty Orthanc."""
    need(ORTHANC, "orthanc")
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed: apt-get install orthanc-dicomweb")
    found = Orthanc(free_port(), free_port())
    name, _, password = Orthanc.SECRET.partition(":")
    configuration = {
        "Name": "ORTHANC",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "DicomAet": "ORTHANC",
        "DicomPort": found.dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "HttpPort": found.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {name: password},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(configuration))
    with process([ORTHANC, settings], found.http_port, folder / "orthanc.log"):
        yield found
