"""The program in which files from outside are read: `python -m imaging.decoder_host FD`.

This module owns two kinds of process. The *host* loads the decoding libraries once, then forks a *decoder* whenever its
owner asks for one, and tells how each of them ended. A decoder reads one file after another under limits that the
operating system keeps: address space, processor time and time on the clock for each file, no files written, no core
dumps. When a library crashes, hangs or asks for too much memory, that decoder ends and nothing else does.

Both end with their owner: the host when its channel closes, the decoders when the host is gone. They refuse signals
that are meant for a person's whole session, since their owner decides when work ends, and they know no settings and no
secrets. This contains accidents and resource attacks; it is no jail for code that has taken over a decoder.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pylibjpeg

from imaging import decoder_wire as wire
from imaging.dicom_plain import read_plain
from imaging.frames import Frame, Pixels
from imaging.limits import Allowance, Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.pseudonyms import KEY_BYTES
from imaging.quiet import silence_decoders
from imaging.reading import inspect, iter_frames, read_unwindowed, without_identity

_MAX_CONFIGURATION_BYTES = 64 * 1024
_GONE_WITHIN_S = 2.0
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 800
_MAX_OPEN_FILES = 64


def main(argv: list[str] | None = None) -> int:
    """Run a host until its owner is gone.

    Args:
        argv: The number of the file descriptor of the owner's channel; None: the process's arguments.
    """
    arguments = sys.argv[1:] if argv is None else argv
    # The owner ends its work in its own time; a Ctrl-C or a stopped service must not take the files from under it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # An owner that ends while this one starts is no accident either.
    with suppress(ConnectionError), socket.socket(fileno=int(arguments[0])) as channel:
        limits, allowance = wire.configured(channel.recv(_MAX_CONFIGURATION_BYTES))
        _load()
        channel.sendall(wire.READY)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # what native libraries print may quote the file
        os.close(nowhere)
        _obey(channel, limits, allowance)
    return 0


def _load() -> None:
    """Make ready what every decoder needs, so that a fork has it at once."""
    cv2.setNumThreads(0)  # a fork keeps no threads
    silence_decoders()
    assert pylibjpeg  # noqa: S101 - imported for its plug-ins, which pydicom looks up by name
    gc.collect()
    gc.freeze()  # shared pages stay shared


def _obey(channel: socket.socket, limits: Limits, allowance: Allowance) -> None:
    children: set[int] = set()
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, wire.COMMAND.size, 2)
        if len(data) < wire.COMMAND.size:
            break
        command, pid = wire.COMMAND.unpack(data)
        if command == wire.Command.START:
            lane, memory = descriptors
            pid = _fork(channel, lane, memory, limits, allowance)
            os.close(lane)
            os.close(memory)
            if pid:
                children.add(pid)
            channel.sendall(wire.ANSWER.pack(pid, 0))
        elif pid in children:
            channel.sendall(wire.ANSWER.pack(pid, _end(pid, 0.0 if command == wire.Command.KILL else _GONE_WITHIN_S)))
            children.discard(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _end(pid: int, patience_s: float) -> int:
    """Wait for a decoder that is ending, not for ever; returns its wait status."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _fork(channel: socket.socket, lane: int, memory: int, limits: Limits, allowance: Allowance) -> int:
    host = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        return 0
    if pid == 0:
        channel.close()
        _decoder(host, lane, memory, limits, allowance)
    return pid


def _decoder(host: int, lane: int, memory: int, limits: Limits, allowance: Allowance) -> NoReturn:
    """Be a decoder until the owner closes the lane."""
    status = 1
    try:
        _die_with(host)
        with socket.socket(fileno=lane) as owner, mmap.mmap(memory, 0) as shared:
            os.close(memory)
            _bind(allowance)
            _serve(owner, shared, limits, allowance)
        status = 0
    finally:
        os._exit(status)


def _die_with(host: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            # When the machine runs out of memory, this process should go and not the worker or the database.
            Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    if os.getppid() != host:
        os._exit(1)


def _bind(allowance: Allowance) -> None:
    """Set the limits that hold for the decoder's whole life."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the patient's picture
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return  # no Linux: the system would not keep a limit on address space either
    most = pages * os.sysconf("SC_PAGE_SIZE") + allowance.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _serve(owner: socket.socket, memory: mmap.mmap, limits: Limits, allowance: Allowance) -> None:
    requests, pixels, last = wire.Stream(owner), _Pixels(memory), LastFile(limits)
    while True:
        try:
            wanted, first, index, length = wire.REQUEST.unpack(requests.take(wire.REQUEST.size))
            name = requests.take(length)
        except ConnectionError:
            return
        if first:
            pixels.begin()
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = int(used.ru_utime + used.ru_stime) + 1 + allowance.cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
        # Neither signal has a handler: the system ends this process, whatever the library is doing.
        signal.setitimer(signal.ITIMER_REAL, allowance.wall_s)
        key, name = (name[:KEY_BYTES], name[KEY_BYTES:]) if wanted == wire.Wanted.WITHOUT_IDENTITY else (b"", name)
        path = Path(os.fsdecode(name))
        reply = (
            wire.later_reply() if pixels.full else _answer(wanted, path, index, last, pixels, limits, allowance, key)
        )
        signal.setitimer(signal.ITIMER_REAL, 0)
        owner.sendall(reply)


class _Pixels:
    """The memory shared with the owner, filled by one frame after another of those asked for together."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = 0
        self.full = False

    def begin(self) -> None:
        self._used, self.full = 0, False

    def put(self, values: Pixels, reply: bytes) -> bytes:
        """Write a frame; gives the reply, which is another when there is no room."""
        rows, columns = values.shape
        size = wire.room_for(rows, columns)
        if self._used and self._used + size > len(self._memory):
            self.full = True
            return wire.later_reply()
        np.ndarray((rows, columns), np.float32, self._memory, self._used)[:] = values
        self._used += size
        return reply

    def put_bytes(self, data: bytes, limits: Limits) -> bytes:
        """Write a file; gives the reply. One that is longer than a file may be is refused."""
        if self._used + len(data) + wire.PIXEL_BYTES > len(self._memory):
            self.full = self._used > 0
            if self.full:
                return wire.later_reply()
            raise RejectedFile(Reason.FILE_BYTES, found=len(data), limit=limits.max_file_bytes)
        self._memory[self._used : self._used + len(data)] = data
        reply = wire.bytes_reply(len(data))
        self._used += wire.room_for(1, -(-len(data) // wire.PIXEL_BYTES))
        return reply


class LastFile:
    """The file that was read last, kept open: the frames of one file are mostly asked for one after another.

    Args:
        limits: Bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._key: tuple[int, ...] | None = None
        self._frames: Iterator[Frame] = iter(())
        self._index = 0

    def frame(self, path: Path, index: int) -> Frame:
        """Decode a frame, as :func:`imaging.reading.read_frame` does."""
        key = _key_of(path)
        if key is None or key != self._key:
            self._close()
            self._frames = iter_frames(path, self._limits, self._wanted())
        self._key, self._index = key, index
        try:
            return next(self._frames)
        except BaseException:
            self._close()
            raise

    def _wanted(self) -> Iterator[int]:
        while True:
            yield self._index

    def _close(self) -> None:
        self._key, self._frames = None, iter(())  # what it was goes, and closes its file


def _key_of(path: Path) -> tuple[int, ...] | None:
    """What a file keeps for as long as it is the same; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _answer(
    wanted: int,
    path: Path,
    index: int,
    last: LastFile,
    pixels: _Pixels,
    limits: Limits,
    allowance: Allowance,
    key: bytes,
) -> bytes:
    try:
        if wanted == wire.Wanted.INFO:
            return wire.info_reply(inspect(path, limits))
        if wanted == wire.Wanted.PIXELS:
            plain = read_plain(path, limits) if index == 0 else None
            values = last.frame(path, index).pixels if plain is None else plain
            return pixels.put(values, wire.pixels_reply(*values.shape))
        if wanted == wire.Wanted.WITHOUT_IDENTITY:
            return pixels.put_bytes(without_identity(path, key, limits), limits)
        if wanted == wire.Wanted.UNWINDOWED:
            found = read_unwindowed(path, index, limits)
            return pixels.put(found.values, wire.unwindowed_reply(found))
        frame = last.frame(path, index)
        return pixels.put(frame.pixels, wire.frame_reply(frame))
    except RejectedFile as rejection:
        if rejection.reason is Reason.MEMORY:
            return _too_much(allowance)
        return wire.rejected_reply(rejection)
    except MemoryError:
        return _too_much(allowance)
    except Exception as error:  # the edge of this process: one file's fault or ours, but never the others'
        return wire.fault_reply(error, _place(error))


def _too_much(allowance: Allowance) -> bytes:
    return wire.rejected_reply(RejectedFile(Reason.DECODER_MEMORY, limit=allowance.memory_bytes))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


if __name__ == "__main__":
    sys.exit(main())
