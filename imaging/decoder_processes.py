"""Starting and ending the processes in which files are read.

This module owns the one host of a pool (:mod:`imaging.decoder_host` is the program), the channel to it, what it gets of
the environment, and the memory that is shared with its decoders. It refuses to know what is read and why a decoder
ended; :mod:`imaging.decoders` does.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path

from imaging import decoder_wire as wire
from imaging.limits import Allowance, Limits

PROGRAM = "imaging.decoder_host"
"""Module that is run as the host; tests have one with decoders that die."""

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 60.0
_COMMAND_S = 15.0
_END_S = 5.0
_LONGER_BYTES = 1024 * 1024
# The decoders get no secrets: of the environment only what finding Python and its libraries needs.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_ENVIRONMENT_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_", "OPENBLAS_")


class Hosts:
    """The one host in use; a new one when it is gone.

    Args:
        limits: Bounds of reading.
        allowance: What one file may cost.

    Attributes:
        pixel_bytes: Size of the memory that each decoder shares with its owner.
    """

    def __init__(self, limits: Limits, allowance: Allowance) -> None:
        self._configuration = wire.configuration(limits, allowance)
        self._lock = threading.Lock()
        self._host: Host | None = None
        # Room for the largest frame, and the largest file, that the limits allow; the system gives memory only to what
        # is used of it. A de-identified file may be a little longer than it was.
        frame = wire.room_for(1, min(limits.max_pixels, limits.max_side**2))
        self.pixel_bytes = max(frame, wire.room_for(1, limits.max_file_bytes // wire.PIXEL_BYTES) + _LONGER_BYTES)

    def current(self) -> Host:
        """Give it, started if there is none."""
        with self._lock:
            if self._host is None:
                self._host = Host(self._configuration)
            return self._host

    def give_up(self, host: Host) -> None:
        """Forget a host that does not answer; the next one asked for is new."""
        with self._lock:
            if self._host is host:
                self._host = None
        host.close()

    def close(self) -> None:
        """End it, and its decoders with it."""
        with self._lock:
            host, self._host = self._host, None
        if host is not None:
            host.close()


class HostGone(Exception):
    """The host does not answer."""


class Host:
    """A running host process and the channel to it.

    Args:
        configuration: Of `decoder_wire.configuration`.

    Attributes:
        pid: Its process id.
        close: Ends it; done by itself when the object or this process ends.
    """

    def __init__(self, configuration: bytes) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._channel, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(theirs.fileno())],
                cwd=_ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.pid = process.pid
        self.close = weakref.finalize(self, _finish, process, self._channel)
        self._channel.settimeout(_START_S)
        try:
            self._channel.sendall(configuration)
        except OSError:
            return  # it ended at once: the first command says so

    def start(self, lane: socket.socket, memory: int) -> int:
        """Have a decoder forked; gives its process id.

        Args:
            lane: The decoder's end of its socket.
            memory: Descriptor of its pixel memory.

        Raises:
            HostGone: The host does not answer, or the system gives no process.
        """
        pid, _ = self._command(wire.Command.START, 0, (lane.fileno(), memory))
        if not pid:
            raise HostGone
        return pid

    def end(self, pid: int, *, now: bool) -> int:
        """Have a decoder ended, or its end told; gives its wait status.

        Args:
            pid: The decoder.
            now: Whether it is killed; otherwise it is thought to be ending and gets a moment.

        Raises:
            HostGone: The host does not answer.
        """
        return self._command(wire.Command.KILL if now else wire.Command.END, pid, ())[1]

    def _command(self, command: wire.Command, pid: int, descriptors: tuple[int, ...]) -> tuple[int, int]:
        with self._lock:
            try:
                if not self._ready:
                    if self._channel.recv(len(wire.READY)) != wire.READY:
                        raise HostGone
                    self._channel.settimeout(_COMMAND_S)
                    self._ready = True
                socket.send_fds(self._channel, [wire.COMMAND.pack(command, pid)], descriptors)
                answer = self._channel.recv(wire.ANSWER.size)
            except OSError:
                raise HostGone from None
        if len(answer) < wire.ANSWER.size:
            raise HostGone
        pid, status = wire.ANSWER.unpack(answer)
        return pid, status


def _finish(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    """End a host by closing the channel to it."""
    channel.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pixel_memory(size: int) -> int:
    """Make memory that can be shared by descriptor; a decoder cannot shrink it under our feet."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
        os.ftruncate(memory, size)
        return memory
    memory = os.memfd_create("neurosight-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


def environment() -> dict[str, str]:
    """Give the variables that the processes get."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
