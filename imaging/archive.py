"""Unpacking zip archives that nobody vouches for.

This module owns reading an archive entry by entry into files of our own naming, while counting what is really
unpacked: the table of contents is walked by a small parser before `zipfile` loads it, every entry is checked for its
name, kind, encryption and overlap, and unpacking stops at the caps. A refused entry is one refusal, the others go on.
It refuses to use an entry's name as a path, and it knows nothing of images or of archives inside archives:
`imaging.collect` deals with those.

What attackers build, and the tests rebuild: path traversal (CWE-22), links, bombs by ratio (CWE-409), by overlapping
entries, by count, by nesting, and headers that lie about sizes.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.plain_text import plain

_CHUNK_BYTES = 256 * 1024
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL_HEADER_BYTES = 30
_MAX_COMMENT_BYTES = 65_535
_MAX_NAME_SHOWN = 400
_ENCRYPTED_FLAGS = 0x0001 | 0x0040 | 0x2000
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate"}
_METHOD_WORDS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz"}
_DRIVE = re.compile(r"[A-Za-z]:")

_BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(slots=True)
class Budget:
    """What one received archive may still cost, archives inside it included.

    Attributes:
        entries: Entries that may still be met.
        size_bytes: Bytes that may still be unpacked.
    """

    entries: int
    size_bytes: int

    @classmethod
    def of(cls, limits: Limits) -> Budget:
        """Give the budget of a fresh archive.

        Args:
            limits: Bounds.
        """
        return cls(entries=limits.zip_max_entries, size_bytes=limits.zip_max_total_bytes)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    Attributes:
        name: Its name made fit to show, parts separated by "/".
        path: Where it was unpacked; None when it was refused.
        size_bytes: Bytes unpacked; for a refused entry the size the archive states.
        sha256: Digest of its content in hexadecimal; empty when it was refused.
        rejection: Why it was refused; None when it was not.
    """

    name: str
    path: Path | None
    size_bytes: int
    sha256: str
    rejection: RejectedFile | None


def unpack(archive: Path, limits: Limits, workdir: Path, budget: Budget) -> Iterator[Member]:
    """Unpack an archive entry by entry.

    Args:
        archive: The zip file.
        limits: Bounds.
        workdir: Existing folder for the unpacked files; they get names of our own and stay until the caller removes
            them.
        budget: What may still be used up; shared by the archives of one upload.

    Yields:
        Every file of the archive, refused ones too; folders are passed over.

    Raises:
        RejectedFile: The archive as a whole is broken or over a limit. Nothing was yielded then.
        OSError: The disk failed or is full, which is not the archive's fault.
    """
    with archive.open("rb") as file:
        entries = _count_entries(file, limits, budget.entries)
        budget.entries -= entries
        try:
            opened = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise RejectedFile(Reason.ARCHIVE_DAMAGED) from error
        with opened:
            overlapping = _overlapping(opened.infolist())
            for number, info in enumerate(opened.infolist(), 1):
                if info.file_size == 0 and (info.orig_filename.endswith("/") or _kind(info) == stat.S_IFDIR):
                    continue  # a folder; one that claims content is a file like any other
                name = plain(info.orig_filename.replace("\\", "/"), _MAX_NAME_SHOWN) or f"entry {number}"
                try:
                    _check(info, limits)
                    if number - 1 in overlapping:
                        raise RejectedFile(Reason.OVERLAP)
                    path, size_bytes, digest = _unpack_one(opened, info, limits, workdir, budget)
                except RejectedFile as rejection:
                    yield Member(name, None, info.file_size, "", rejection)
                else:
                    yield Member(name, path, size_bytes, digest, None)


def check_name(name: str, limits: Limits) -> None:
    """Refuse names that would lead out of a folder or hide what they are.

    Args:
        name: The entry's name as the archive states it.
        limits: For the longest name.

    Raises:
        RejectedFile: The name is refused.
    """
    if len(name) > limits.max_name_length:
        raise RejectedFile(Reason.NAME_LENGTH, found=len(name), limit=limits.max_name_length)
    forward = name.replace("\\", "/")
    if forward.startswith("/") or _DRIVE.match(forward) or ".." in forward.split("/"):
        raise RejectedFile(Reason.NAME_ESCAPES)
    if "\\" in name or any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
        raise RejectedFile(Reason.NAME_CHARACTERS)


def _check(info: zipfile.ZipInfo, limits: Limits) -> None:
    check_name(info.orig_filename, limits)
    if info.flag_bits & _ENCRYPTED_FLAGS:
        raise RejectedFile(Reason.ENCRYPTED)
    kind = _kind(info)
    if kind == stat.S_IFLNK:
        raise RejectedFile(Reason.LINK)
    if kind not in (0, stat.S_IFREG):
        raise RejectedFile(Reason.SPECIAL_FILE)
    if info.compress_type not in _METHODS:
        raise RejectedFile(Reason.ZIP_METHOD, found=_METHOD_WORDS.get(info.compress_type, str(info.compress_type)))
    if info.file_size > limits.zip_max_member_bytes:
        raise RejectedFile(Reason.ZIP_MEMBER_BYTES, limit=limits.zip_max_member_bytes)


def _kind(info: zipfile.ZipInfo) -> int:
    """Give the Unix file type of an entry; 0 when the archive was not made on Unix."""
    return stat.S_IFMT(info.external_attr >> 16)


def _unpack_one(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, workdir: Path, budget: Budget
) -> tuple[Path, int, str]:
    path = workdir / uuid.uuid4().hex
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        with path.open("xb") as target:
            for chunk in _chunks(opened, info):
                size_bytes += len(chunk)
                budget.size_bytes -= len(chunk)
                _check_growth(size_bytes, info.compress_size, limits, budget)
                digest.update(chunk)
                target.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, size_bytes, digest.hexdigest()


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Read an entry piece by piece; what goes wrong here is the archive's fault, unlike what goes wrong in writing."""
    try:
        with opened.open(info) as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
    except _BROKEN as error:
        raise RejectedFile(Reason.ENTRY_DAMAGED) from error


def _check_growth(size_bytes: int, packed_bytes: int, limits: Limits, budget: Budget) -> None:
    if size_bytes > limits.zip_max_member_bytes:
        raise RejectedFile(Reason.ZIP_MEMBER_BYTES, limit=limits.zip_max_member_bytes)
    if size_bytes > limits.zip_ratio_floor_bytes and size_bytes > limits.zip_max_ratio * max(1, packed_bytes):
        raise RejectedFile(Reason.ZIP_RATIO, limit=limits.zip_max_ratio)
    if budget.size_bytes < 0:
        raise RejectedFile(Reason.ZIP_TOTAL_BYTES, limit=limits.zip_max_total_bytes)


def _overlapping(entries: list[zipfile.ZipInfo]) -> set[int]:
    """Find entries that start before an earlier one ends, which lets one packed byte count many times.

    Args:
        entries: The table of contents.

    Returns:
        Their numbers in the table, counted from 0.
    """
    found: set[int] = set()
    end = -1
    for number in sorted(range(len(entries)), key=lambda number: entries[number].header_offset):
        start = entries[number].header_offset
        if start < end:
            found.add(number)
        end = max(end, start + _LOCAL_HEADER_BYTES + entries[number].compress_size)
    return found


def _count_entries(file: BinaryIO, limits: Limits, allowed: int) -> int:
    """Count the table of contents without building it in memory.

    Raises:
        RejectedFile: There is none, it is broken, or it is over a limit.
    """
    size, location = _directory(file)
    if size > limits.zip_max_directory_bytes:
        raise RejectedFile(Reason.ZIP_DIRECTORY, found=size, limit=limits.zip_max_directory_bytes)
    file.seek(location)
    directory = file.read(size)
    file.seek(0)
    position = entries = 0
    while position < len(directory):
        if position + _ENTRY.size > len(directory) or directory[position : position + 4] != b"PK\x01\x02":
            raise RejectedFile(Reason.ARCHIVE_DAMAGED)
        fields = _ENTRY.unpack_from(directory, position)
        position += _ENTRY.size + fields[10] + fields[11] + fields[12]
        entries += 1
        if entries > allowed:
            raise RejectedFile(Reason.ZIP_ENTRIES, limit=limits.zip_max_entries)
    return entries


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Give size and position of the table of contents (APPNOTE 4.3.16, and 4.3.14 for zip64).

    Raises:
        RejectedFile: The archive has no end record, or one that does not fit it: it is cut off or no zip at all.
    """
    total = file.seek(0, io.SEEK_END)
    tail_at = max(0, total - _END.size - _MAX_COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise RejectedFile(Reason.ARCHIVE_DAMAGED)
    size, stated_at = (int(field) for field in _END.unpack_from(tail, found)[5:7])
    end_at = tail_at + found
    locator_at = end_at - _LOCATOR_64.size
    if locator_at >= _END_64.size:
        file.seek(locator_at)
        if file.read(4) == b"PK\x06\x07":
            file.seek(locator_at - _END_64.size)
            record = file.read(_END_64.size)
            if record.startswith(b"PK\x06\x06"):
                size, stated_at = (int(field) for field in _END_64.unpack(record)[8:10])
                end_at = locator_at - _END_64.size
    if stated_at != end_at - size:
        # Something was put in front or cut out; zipfile would guess where the entries are.
        raise RejectedFile(Reason.ARCHIVE_DAMAGED)
    return size, stated_at
