"""One hostile file through the doors that intake and classification use, and what must hold then.

Owns the judgement: a file is read or refused with a plain reason, in bounded time and memory, and what is read is a
grey picture that can be prepared for a network. A decoder that crashed, ran out of time or out of memory is a finding
although it cost only that file.
"""

import tempfile
import time
from pathlib import Path
from typing import Self

import numpy as np

from db.queries.intake import FileLine
from imaging.collect import collect
from imaging.decoders import Decoders
from imaging.dicom_uids import NoUids, read_uids
from imaging.frames import ImageInfo
from imaging.limits import MIB, Allowance, Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.preprocess import Preprocessing, prepare
from imaging.pseudonyms import KEY_BYTES
from worker.grouping import FoundImage, plan

LIMITS = Limits(max_file_bytes=8 * MIB, modalities=frozenset({"MR", "OT", "SC", "CT", "NM", "US", "XA", "CR"}))
ALLOWANCE = Allowance(memory_bytes=768 * MIB, cpu_s=3, wall_s=20.0)
SHARED_MEMORY = Path("/dev/shm")
KEY = b"k" * KEY_BYTES
DOOR_CPU_S = 1.0
FINDINGS = (Reason.DECODER_CRASHED, Reason.DECODER_TIME, Reason.DECODER_MEMORY)


class Finding(AssertionError):
    """Something that must not happen, named so that the same one is recognised."""


class Target:
    """Decoders with a small allowance, and a folder for the files; use as a context manager."""

    def __init__(self) -> None:
        self._decoders = Decoders(LIMITS, ALLOWANCE, lanes=1)
        # In memory where there is such a folder: removing many small files from a disk takes most of the time.
        self._folder = tempfile.TemporaryDirectory(
            prefix="fuzz-", dir=SHARED_MEMORY if SHARED_MEMORY.exists() else None
        )
        self._path, self._workdir = Path(self._folder.name) / "file", Path(self._folder.name) / "work"
        self._workdir.mkdir()

    def __enter__(self) -> Self:
        """Starts the decoders."""
        self._decoders.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends them and removes the folder."""
        self._decoders.close()
        self._folder.cleanup()

    def read(self, data: bytes) -> None:
        """Takes one file in and reads its first and last frame.

        Raises:
            Finding: Something happened that must not.
        """
        self._path.write_bytes(data)
        _check_door(self._path)
        for one in collect([("file", self._path)], LIMITS, self._workdir):
            if one.local_path is None:
                continue
            try:
                info = self._decoders.inspect(one.local_path)
                _check_info(info)
                for index in {0, info.frames - 1}:
                    _check_frame(self._decoders, one.local_path, index, info)
                self._check_without_identity(one.local_path)
            except RejectedFile as rejection:
                if rejection.reason in FINDINGS:
                    raise Finding(f"{rejection.reason} {rejection.detail}") from rejection
            finally:
                one.local_path.unlink()

    def _check_without_identity(self, path: Path) -> None:
        """What is de-identified can be read, or is refused, under a pseudonym."""
        new = self._workdir / "without"
        new.write_bytes(self._decoders.without_identity(path, KEY))
        try:
            info = self._decoders.inspect(new)
            self._decoders.read_frame(new, 0)
            if info.identity is not None and info.identity.patient_name != info.identity.patient_id:
                raise Finding("a name that is no pseudonym")
        finally:
            new.unlink()


def _check_door(path: Path) -> None:
    """The UIDs are read in the process that answers the network: quickly, or not at all."""
    started = time.process_time()
    try:
        read_uids(path)
    except NoUids:
        pass
    except Exception as error:
        raise Finding(f"read_uids: {type(error).__name__}") from error
    if time.process_time() - started > DOOR_CPU_S:
        raise Finding(f"read_uids took {time.process_time() - started:.1f} s")


def _check_info(info: ImageInfo) -> None:
    if not (info.rows > 0 and info.columns > 0 and len(info.geometry) == info.frames > 0):
        raise Finding("an impossible description")
    line = FileLine(
        sequence=1, path="a/b", size_bytes=1, sha256="0" * 64, outcome="accepted", reason="accepted", detail={}
    )
    (study,) = plan([FoundImage(line, "0" * 64, info)], "title")
    for series in study.series:
        for value in (study.title, study.description, series.description, *(study.identity or {}).values()):
            value.encode("utf-8")
            if "\0" in value:
                raise Finding("a text that a database refuses")


def _check_frame(decoders: Decoders, path: Path, index: int, info: ImageInfo) -> None:
    frame = decoders.read_frame(path, index)
    if frame.pixels.shape != (info.rows, info.columns) and info.frames == 1:
        raise Finding("a frame of another size than described")
    if not np.isfinite(frame.pixels).all() or frame.pixels.min() < 0 or frame.pixels.max() > 1:
        raise Finding("a pixel outside [0, 1]")
    (pixels,) = decoders.read_pixels([(path, index)])
    if isinstance(pixels, RejectedFile) or not np.array_equal(pixels, frame.pixels):
        raise Finding("the short way gives other pixels than the long one")
    prepare(frame.pixels, Preprocessing())
