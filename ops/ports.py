"""TCP ports of this machine: which are free, and who holds one that is not.

Owns the choice of the web's and the broker's port. Refuses to end the process that holds a port: it is named, and the
operator decides.
"""

import shutil
import socket
import subprocess
from pathlib import Path

PORTS_TRIED = 50
LISTENING = "0A"  # state column of /proc/net/tcp, see proc_pid_net(5)


class PortTaken(Exception):
    """A port that was asked for is in use; the message names who holds it and what to do."""


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on this address now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a connection that lingers from an earlier run is no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_free(host: str) -> int:
    """A port that the system chooses."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def choose(host: str, wanted: int, *, explicit: bool) -> tuple[int, str]:
    """The port to serve on.

    Args:
        host: Address to listen on.
        wanted: The port of the settings.
        explicit: Whether the operator set it; then no other port will do.

    Returns:
        (port, a sentence for the operator; empty when `wanted` was free).

    Raises:
        PortTaken: When an explicit port is taken, or the next ports are too.
    """
    if is_free(host, wanted):
        return wanted, ""
    by = holder(wanted) or "another process"
    if explicit:
        raise PortTaken(f"port {wanted} is taken by {by}: end it, or set NEUROSIGHT_WEB_PORT to another port")
    for port in range(wanted + 1, min(wanted + 1 + PORTS_TRIED, 65536)):
        if is_free(host, port):
            return port, f"port {wanted} is taken by {by}; using {port} instead"
    raise PortTaken(f"port {wanted} is taken by {by}, and so are the next {PORTS_TRIED}: set NEUROSIGHT_WEB_PORT")


def holder(port: int) -> str:
    """Who listens on a port, as `process 4711 (python3)`; empty when that cannot be seen."""
    pid = _holder_by_proc(port) if Path("/proc/net/tcp").exists() else _holder_by_lsof(port)
    if pid is None:
        return ""
    name = _name(pid)
    return f"process {pid} ({name})" if name else f"process {pid}"


def _holder_by_proc(port: int) -> int | None:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # gone, or another user's
    return None


def _holder_by_lsof(port: int) -> int | None:
    if not shutil.which("lsof"):
        return None
    found = subprocess.run(
        ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"], capture_output=True, text=True, timeout=10, check=False
    ).stdout.split()
    return int(found[0]) if found else None


def _name(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()).name
