"""The UIDs of a DICOM file, found without decoding it.

This module owns the answer to "which object of which study is this", for a door that has to answer at once: it walks
the top level of the data set (PS3.5 7.1) up to StudyInstanceUID, steps over values and nested sequences without
building anything, and so costs microseconds and no memory, whatever the file holds. It refuses to judge the file: what
is wrong beyond these three UIDs is said by :mod:`imaging.reading`.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from imaging.dicom import LONG_VRS, MAX_META_BYTES, UNDEFINED_LENGTH, file_meta

UID: Final = re.compile(r"\A(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*\Z")
"""PS3.5 9.1, of which at most 64 characters are allowed."""

_SOP_CLASS, _SOP_INSTANCE, _STUDY = 0x00080016, 0x00080018, 0x0020000D
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MAX_ELEMENTS: Final = 100_000
_MAX_DEPTH: Final = 64
_INFLATED_BYTES: Final = 1024 * 1024
_LONGEST_UID: Final = 66


class NoUids(Exception):
    """The file does not say what it is; the message names what is missing and holds nothing from the file."""


@dataclass(frozen=True, slots=True)
class Uids:
    """What a DICOM object is.

    Attributes:
        sop_class: SOPClassUID.
        sop_instance: SOPInstanceUID.
        study: StudyInstanceUID.
        transfer_syntax: Of the file, as its meta group states it.
    """

    sop_class: str
    sop_instance: str
    study: str
    transfer_syntax: str


def is_uid(text: str) -> bool:
    """Whether a text has the form of a UID."""
    return len(text) <= 64 and UID.match(text) is not None


def read_uids(path: Path) -> Uids:
    """Finds the UIDs of a file with a file meta group (PS3.10).

    Args:
        path: A local file.

    Returns:
        All of them, each of the right form.

    Raises:
        NoUids: It is no such file, one of them is missing or malformed, or the way there is.
    """
    with path.open("rb") as file:
        head = file.read(MAX_META_BYTES)
        if head[128:132] != b"DICM":
            raise NoUids("no DICOM file: the letters DICM are not at byte 128")
        try:
            meta = file_meta(head)
        except ValueError:
            raise NoUids("the file meta group is malformed") from None
        syntax = meta.transfer_syntax or ""
        stream: BinaryIO = file
        if syntax == DeflatedExplicitVRLittleEndian:
            try:
                body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[meta.end :], _INFLATED_BYTES)
            except zlib.error:
                raise NoUids("the deflated data set is malformed") from None
            stream = io.BytesIO(body)
        else:
            file.seek(meta.end)
        # Ask the bytes, not the transfer syntax, whether VRs are there: some files are not in the one they name.
        start = stream.tell()
        implicit = not stream.read(6)[4:].isalpha()
        stream.seek(start)
        try:
            found = _Walk(stream, implicit=implicit, big=syntax == ExplicitVRBigEndian).find()
        except (struct.error, ValueError, OverflowError, OSError):
            raise NoUids("the data set is malformed in front of StudyInstanceUID") from None
    for keyword, tag in (("SOPClassUID", _SOP_CLASS), ("SOPInstanceUID", _SOP_INSTANCE), ("StudyInstanceUID", _STUDY)):
        if not is_uid(found.get(tag, "")):
            raise NoUids(f"{keyword} is {'malformed' if found.get(tag) else 'missing'}")
    return Uids(found[_SOP_CLASS], found[_SOP_INSTANCE], found[_STUDY], syntax)


class _Walk:
    """Steps over the elements of a data set."""

    def __init__(self, stream: BinaryIO, *, implicit: bool, big: bool) -> None:
        self._stream, self._implicit = stream, implicit
        order = ">" if big else "<"
        self._tag, self._short, self._long = (struct.Struct(order + form) for form in ("HH", "H", "I"))
        self._steps = 0

    def find(self) -> dict[int, str]:
        """Values of the wanted elements of the top level, as text."""
        found: dict[int, str] = {}
        while (element := self._next(self._implicit)) is not None:
            tag, length, implicit = element
            if tag > _STUDY:
                break
            if tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY):
                if length > _LONGEST_UID:
                    raise ValueError("a UID is too long")
                found[tag] = self._stream.read(length).rstrip(b"\0 ").decode("ascii", "replace")
            else:
                self._skip(length, implicit)
        return found

    def _next(self, implicit: bool) -> tuple[int, int, bool] | None:
        """(tag, length of the value, whether what is nested in it is implicit VR); None at the end."""
        self._steps += 1
        if self._steps > _MAX_ELEMENTS:
            raise ValueError("too many elements")
        head = self._stream.read(8)
        if not head:
            return None
        group, element = self._tag.unpack_from(head)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, self._long.unpack_from(head, 4)[0], implicit
        vr = head[4:6]
        if vr in LONG_VRS:
            # PS3.5 6.2.2: what is nested in UN of undefined length is implicit VR.
            return tag, self._long.unpack(self._stream.read(4))[0], vr == b"UN"
        if not vr.isalpha():
            raise ValueError("no value representation")
        return tag, self._short.unpack_from(head, 6)[0], implicit

    def _skip(self, length: int, implicit: bool) -> None:
        """Steps over a value; one of undefined length is a sequence, whose items are walked to its end."""
        if length != UNDEFINED_LENGTH:
            self._stream.seek(length, io.SEEK_CUR)
            return
        inside = [implicit]  # one entry for each sequence or item that is open
        while inside:
            element = self._next(inside[-1])
            if element is None:
                raise ValueError("a sequence does not end")
            tag, length, nested = element
            if tag in (_ITEM_END, _SEQUENCE_END):
                inside.pop()
            elif length != UNDEFINED_LENGTH:
                self._stream.seek(length, io.SEEK_CUR)
            elif len(inside) < _MAX_DEPTH:
                inside.append(nested)
            else:
                raise ValueError("sequences are nested too deep")
