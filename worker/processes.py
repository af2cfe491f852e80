"""Names of worker processes, by which a dead one can be told from a living one.

Owns the form `ROLE@HOST.BOOT.NAMESPACE#PID.START`: enough for another process on the same machine to know for sure
that the process which holds a lease is gone, without waiting for the lease to run out. Refuses to judge processes of
other machines or containers: for those, the lease decides.
"""

import os
import re
import socket
from pathlib import Path

_NAME = re.compile(r"\A[a-z]+@(?P<place>[^#]+)#(?P<pid>\d+)\.(?P<start>\d+)\Z")
MIB = 1024 * 1024


def worker_name(role: str) -> str:
    """The name of this process; at most 128 characters."""
    pid = os.getpid()
    return f"{role}@{_place()}#{pid}.{_start_ticks(pid) or 0}"


def is_known_dead(name: str) -> bool:
    """Whether the process of this name ran on this machine and runs no more."""
    found = _NAME.match(name)
    if found is None or found["place"] != _place():
        return False
    started = _start_ticks(int(found["pid"]))
    # Another start time: the number was given to a new process.
    return started is None or started != int(found["start"])


def resident_bytes() -> int:
    """Resident memory of this process, bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _place() -> str:
    """Host, boot and PID namespace: two processes with the same place can see each other's PIDs."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:40] or "host"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return host
    return f"{host}.{boot}.{namespace}"


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is none, or only its zombie."""
    try:
        # The second field is the program's name in brackets and may hold anything: read from the last bracket on.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
