"""Reading files from outside in processes that may die of them.

This module owns the pool of decoder processes of one worker, web server or command (:mod:`imaging.decoder_host` is the
program they run): it starts them when they are first needed, hands out a few files at a time, copies pixels out of
shared memory, and turns the end of a decoder into the reason why its file is refused. A decoder that crashes or runs
out of memory is believed only when it was fresh; one that had read other files before may have been their victim, or
the operating system's, and the file gets a second, fresh one. It refuses to read any file in its own process, however
plain it looks: what a file is, only reading it tells.
"""

from __future__ import annotations

import logging
import mmap
import os
import queue
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import numpy as np

from imaging import decoder_wire as wire
from imaging.decoder_processes import Host, HostGone, Hosts, pixel_memory
from imaging.frames import Frame, ImageInfo, Pixels, Unwindowed
from imaging.limits import Allowance, Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.pseudonyms import KEY_BYTES

T = TypeVar("T")

log = logging.getLogger(__name__)

FILES_A_LIFE: Final = 1000
"""After so many files a decoder is replaced, so that what libraries leak stays small."""

GRACE_S = 5.0
"""So long after its time a decoder that did not end by itself is ended."""

_TRIES = 3
_TOGETHER = 16
_KEPT_BYTES = 16 * 1024 * 1024
_TOO_LONG = frozenset({signal.SIGALRM, signal.SIGXCPU})


class DecodersUnavailable(Exception):
    """The decoder processes cannot be started, or do not stay: nothing is wrong with the file."""


class Decoders:
    """A pool of decoder processes; to be used from any thread, and closed, best by `with`.

    Processes are started when the first file is read, and end with this process however it ends.

    Args:
        limits: Bounds of reading.
        allowance: What one file may cost.
        lanes: How many files are read at once; 0: one a core.
    """

    def __init__(self, limits: Limits, allowance: Allowance, lanes: int = 0) -> None:
        self.limits, self.allowance = limits, allowance
        self._hosts = Hosts(limits, allowance)
        self._lanes: queue.LifoQueue[_Lane] = queue.LifoQueue()
        self._closed = False
        self._count = lanes or len(os.sched_getaffinity(0))
        for _ in range(self._count):
            self._lanes.put(_Lane(self._hosts, allowance))

    def start(self) -> None:
        """Begin to start the processes now instead of with the first file; does not wait for them."""
        self._hosts.current()

    def inspect(self, path: Path) -> ImageInfo:
        """Describe a file, as :func:`imaging.reading.inspect` does.

        Args:
            path: A local file.

        Raises:
            RejectedFile: The file is no readable image, or its decoder ended because of it.
            DecodersUnavailable: There is no decoder to ask.
        """
        return _only(self._asked(_Question(wire.Wanted.INFO, wire.Kinds.INFO, _info), [(path, 0)]))

    def read_frame(self, path: Path, index: int) -> Frame:
        """Decode one frame, as :func:`imaging.reading.read_frame` does.

        Args:
            path: A local file.
            index: Frame number, counted from 0.

        Raises:
            RejectedFile: The file is no readable image, has no such frame, or its decoder ended because of it.
            DecodersUnavailable: There is no decoder to ask.
        """
        return _only(self._asked(_Question(wire.Wanted.FRAME, wire.Kinds.FRAME, wire.frame_of), [(path, index)]))

    def read_unwindowed(self, path: Path, index: int) -> Unwindowed:
        """Decode one frame without a window, as :func:`imaging.reading.read_unwindowed` does.

        Args:
            path: A local file.
            index: Frame number, counted from 0.

        Raises:
            RejectedFile: The file is no readable image, has no such frame, or its decoder ended because of it.
            DecodersUnavailable: There is no decoder to ask.
        """
        question = _Question(wire.Wanted.UNWINDOWED, wire.Kinds.UNWINDOWED, wire.unwindowed_of)
        return _only(self._asked(question, [(path, index)]))

    def read_pixels(self, files: Sequence[tuple[Path, int]]) -> list[Pixels | RejectedFile]:
        """Decode the pixels of several frames, which is all that a network or a picture needs, in one go.

        A decoder that is asked for one slice at a time is woken for each, with cold caches: that costs as much as
        reading a plain slice.

        Args:
            files: Local files, each with a frame number, counted from 0.

        Returns:
            For each the pixels of :meth:`read_frame`, or why there are none; a file that ends its decoder is refused
            alone.

        Raises:
            DecodersUnavailable: There is no decoder to ask.
        """
        return self._asked(_Question(wire.Wanted.PIXELS, wire.Kinds.PIXELS, _pixels), files)

    def without_identity(self, path: Path, key: bytes) -> bytes:
        """Write a file anew without what says whose it is, as :func:`imaging.reading.without_identity` does.

        Args:
            path: A local file.
            key: Secret of the pseudonyms, `imaging.pseudonyms.KEY_BYTES` long.

        Returns:
            The new file.

        Raises:
            RejectedFile: The file is no readable image, cannot be de-identified, or its decoder ended because of it.
            DecodersUnavailable: There is no decoder to ask.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"received a key of {len(key)} bytes; expected {KEY_BYTES}")
        question = _Question(wire.Wanted.WITHOUT_IDENTITY, wire.Kinds.BYTES, wire.bytes_of, key)
        return _only(self._asked(question, [(path, 0)]))

    def close(self) -> None:
        """End the processes; waits for files that are being read."""
        self._closed = True
        lanes = [self._lanes.get() for _ in range(self._count)]
        for lane in lanes:
            lane.close()
            self._lanes.put(lane)  # whoever waits for one is told that there is none
        self._hosts.close()

    def __enter__(self) -> Self:
        """The pool itself, its processes starting."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _asked(self, question: _Question[T], files: Sequence[tuple[Path, int]]) -> list[T | RejectedFile]:
        lane = self._lanes.get()
        try:
            if self._closed:
                raise DecodersUnavailable("the decoders are closed; expected to be asked before that")
            return lane.ask(question, files)
        finally:
            self._lanes.put(lane)


@dataclass(frozen=True, slots=True)
class _Question(Generic[T]):
    """What is wanted, what the answer is called, and how it is read from its JSON and the pixels."""

    wanted: wire.Wanted
    expected: wire.Kinds
    read: Callable[[bytes, Pixels], T]
    key: bytes = b""


def _info(body: bytes, _: Pixels) -> ImageInfo:
    return wire.info_of(body)


def _pixels(_: bytes, pixels: Pixels) -> Pixels:
    return pixels


def _only(answers: list[T | RejectedFile]) -> T:
    (answer,) = answers
    if isinstance(answer, RejectedFile):
        raise answer
    return answer


class _Lane:
    """A place for one decoder process, which is started when needed and replaced when it ended."""

    def __init__(self, hosts: Hosts, allowance: Allowance) -> None:
        self._hosts, self._allowance = hosts, allowance
        self._memory_file: int | None = None
        self._memory: mmap.mmap | None = None
        self._host: Host | None = None
        self._socket: socket.socket | None = None
        self._pid = self._served = 0

    def ask(self, question: _Question[T], files: Sequence[tuple[Path, int]]) -> list[T | RejectedFile]:
        answers: list[T | RejectedFile] = []
        hosts_lost = 0
        while len(answers) < len(files):
            try:
                self._some(question, files[len(answers) :][:_TOGETHER], answers)
            except HostGone:
                self._forget_host()
                hosts_lost += 1
                if hosts_lost == _TRIES:
                    raise DecodersUnavailable(
                        "the processes that read files do not start or do not stay; see the log above"
                    ) from None
        return answers

    def _some(self, question: _Question[T], files: Sequence[tuple[Path, int]], answers: list[T | RejectedFile]) -> None:
        """Ask one decoder for these and add its answers; when it ends over one, the others are for the next decoder."""
        owner = self._opened()
        fresh = self._served == 0
        try:
            owner.sendall(wire.requests(question.wanted, files, question.key))
            used = 0
            for number in range(len(files)):
                fresh = self._served == 0
                kind, body, pixels = self._reply(used)
                if kind == wire.Kinds.LATER and number:
                    for _ in range(number + 1, len(files)):
                        self._reply(0)
                    break
                answer = question.read(body, pixels) if kind == question.expected else self._refusal(kind, body)
                if isinstance(answer, RejectedFile) and answer.reason is Reason.DECODER_MEMORY:
                    self._end(now=True)
                    if fresh:
                        answers.append(answer)
                    return
                answers.append(answer)
                self._served += 1
                used += wire.room_for(*pixels.shape)
            self._give_back(used)
            return
        except wire.WireError:
            self._end(now=True)
            rejection = RejectedFile(Reason.DECODER_CRASHED, found="a garbled answer")
        except BlockingIOError:  # the socket's time is over
            self._end(now=True)
            rejection = RejectedFile(Reason.DECODER_TIME, limit=self._allowance.wall_s)
        except OSError:
            rejection = self._verdict(self._end(now=False))
        except BaseException:
            self._end(now=True)  # interrupted: the answers still to come would be taken for those of other files
            raise
        if fresh or rejection.reason is Reason.DECODER_TIME:
            answers.append(rejection)

    def close(self) -> None:
        with suppress(HostGone):
            self._end(now=True)
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._memory_file is not None:
            os.close(self._memory_file)
            self._memory_file = None

    def _opened(self) -> socket.socket:
        if self._socket is not None and self._served < FILES_A_LIFE:
            return self._socket
        self._end(now=True)
        if self._memory_file is None:
            self._memory_file = pixel_memory(self._hosts.pixel_bytes)
            self._memory = mmap.mmap(self._memory_file, self._hosts.pixel_bytes)
        self._host = self._hosts.current()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._pid = self._host.start(theirs, self._memory_file)
        # The system's own timeout, because Python's makes two calls of each.
        _set_timeout(self._socket, self._allowance.wall_s + GRACE_S)
        self._replies = wire.Stream(self._socket)
        return self._socket

    def _reply(self, used: int) -> tuple[int, bytes, Pixels]:
        """Read the next reply; its pixels are copied, so that from then on the decoder cannot change them."""
        kind, rows, columns, length = wire.REPLY.unpack(self._replies.take(wire.REPLY.size))
        assert self._memory is not None  # noqa: S101 - mapped before the decoder was started
        if length > wire.MAX_JSON_BYTES or used + wire.room_for(rows, columns) > len(self._memory):
            raise wire.WireError("a reply is too long")
        body = self._replies.take(length)
        return kind, body, np.ndarray((rows, columns), np.float32, self._memory, used).copy()

    def _give_back(self, used: int) -> None:
        """Give memory back to the system after large frames."""
        if used > _KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            assert self._memory is not None  # noqa: S101 - it was just read
            self._memory.madvise(mmap.MADV_REMOVE)

    def _refusal(self, kind: int, body: bytes) -> RejectedFile:
        if kind == wire.Kinds.REJECTED:
            return wire.rejection_of(body)
        if kind == wire.Kinds.FAULT:
            name, place = wire.fault_of(body)
            log.error("decoder_fault: %s at %s", name, place)
            return RejectedFile(Reason.DECODER_CRASHED, found=name)
        raise wire.WireError("a reply of an unknown kind")

    def _verdict(self, status: int) -> RejectedFile:
        """Tell from its wait status why a decoder ended in the middle of a file."""
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in _TOO_LONG:
                limit = self._allowance.cpu_s if number == signal.SIGXCPU else self._allowance.wall_s
                return RejectedFile(Reason.DECODER_TIME, limit=limit)
            found = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        else:
            found = f"exit status {os.waitstatus_to_exitcode(status)}"
        log.error("decoder_crashed: %s", found)
        return RejectedFile(Reason.DECODER_CRASHED, found=found)

    def _end(self, *, now: bool) -> int:
        """End the decoder, if there is one; returns its wait status."""
        owner, self._socket, self._served = self._socket, None, 0
        if owner is None or self._host is None:
            return 0
        owner.close()
        return self._host.end(self._pid, now=now)

    def _forget_host(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._host is not None:
            self._hosts.give_up(self._host)
            self._host = None


def _set_timeout(owner: socket.socket, seconds: float) -> None:
    whole = int(seconds)
    owner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, int((seconds - whole) * 1e6)))
