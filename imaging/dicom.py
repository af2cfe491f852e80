"""Opening DICOM files without trusting them, and reading their headers.

This module owns the way from bytes to a checked :class:`Header`: the file meta group is read first by a small parser
of our own, so that deflated data sets are unpacked under a cap and the transfer syntax is checked against an allow-list
before pydicom sees anything; then pydicom reads up to the pixels, and the size that the header announces is held
against the limits and against the bytes that are there. It refuses to decode pixels (`imaging.dicom_pixels`) and to
use any UID or name as a path.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.quiet import silence_decoders

TRANSFER_SYNTAXES: frozenset[str] = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000Lossless,
        JPEG2000,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        HTJ2K,
    }
)

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
UNDEFINED_LENGTH = 0xFFFFFFFF

# What pydicom raises for malformed files; anything else is our own fault and must be seen.
MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    NotImplementedError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)

LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_READ_WHOLE_BYTES = 16 * 1024 * 1024
MAX_META_BYTES = 1024 * 1024


@dataclass(slots=True)
class Header:
    """An opened DICOM file, read up to its pixels.

    Attributes:
        dataset: Everything in front of the pixels.
        stream: The file, positioned anywhere.
        transfer_syntax: The one the rest of `stream` is in (explicit little endian for a deflated file).
        stated_transfer_syntax: The one the file names; None when it names none.
        pixels_at: Position in `stream` of the pixel data element; the end of the stream when there is none.
        size_bytes: Size of the file as received.
        stream_bytes: Size of `stream`, which is larger for a deflated file.
        little_endian: Whether the elements are little endian.
    """

    dataset: FileDataset
    stream: BinaryIO
    transfer_syntax: UID
    stated_transfer_syntax: str | None
    pixels_at: int
    size_bytes: int
    stream_bytes: int
    little_endian: bool

    def close(self) -> None:
        """Close the file."""
        self.stream.close()


class _ClippedFile(io.BufferedReader):
    """A file whose reads never ask for more than is left, so that a lying length cannot reserve gigabytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "rb"))
        self.size_bytes = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size_bytes - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def open_header(source: Path | bytes, limits: Limits) -> Header:
    """Open a DICOM file and read it up to its pixels.

    Args:
        source: The file, or its bytes.
        limits: Bounds.

    Returns:
        The header; the caller closes it.

    Raises:
        RejectedFile: Malformed, a DICOMDIR, in a transfer syntax that is not read, or over a limit.
    """
    silence_decoders()
    stream, size_bytes = _stream_of(source)
    try:
        head = stream.read(MAX_META_BYTES)
        meta = file_meta(head)
        stated = meta.transfer_syntax
        if meta.media_storage == MEDIA_DIRECTORY:
            raise RejectedFile(Reason.DICOMDIR)
        if stated is not None and stated not in TRANSFER_SYNTAXES:
            raise RejectedFile(Reason.TRANSFER_SYNTAX, found=uid_words(stated, "of an unknown kind"))
        stream_bytes = size_bytes
        if stated == DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            inflated = _inflated(stream.read(), meta, limits)
            stream.close()
            stream, stream_bytes = io.BytesIO(inflated), len(inflated)
        stream.seek(0)
        dataset = dcmread(stream, stop_before_pixels=True, force=True)
        pixels_at = stream.tell()
        if len(dataset) == 0:
            raise RejectedFile(Reason.DICOM_MALFORMED)
        _check_depth(dataset, limits)
    except RecursionError as error:
        stream.close()
        raise RejectedFile(Reason.SEQUENCE_DEPTH, limit=limits.max_sequence_depth) from error
    except MemoryError as error:
        stream.close()
        raise RejectedFile(Reason.MEMORY) from error
    except MALFORMED as error:
        stream.close()
        raise RejectedFile(Reason.DICOM_MALFORMED) from error
    except RejectedFile:
        stream.close()
        raise
    implicit_vr, little_endian = (flag is not False for flag in dataset.original_encoding)
    return Header(
        dataset=dataset,
        stream=stream,
        transfer_syntax=_effective_syntax(stated, implicit_vr, little_endian),
        stated_transfer_syntax=stated,
        pixels_at=pixels_at,
        size_bytes=size_bytes,
        stream_bytes=stream_bytes,
        little_endian=little_endian,
    )


def uid_words(uid: str, otherwise: str) -> str:
    """Name a registered UID in words, and say nothing of one that the file made up.

    Args:
        uid: A UID from a file.
        otherwise: What to say when it is not in the standard's registry.

    Returns:
        Its registered name, or `otherwise`.
    """
    name = UID(uid).name
    return otherwise if name == uid else name


@dataclass(slots=True)
class FileMeta:
    """What the file meta group says; None where it does not.

    Attributes:
        transfer_syntax: UID of the encoding of what follows.
        transfer_syntax_at: Position and length of that value.
        media_storage: SOP class of the object.
        media_instance: SOP instance UID of the object.
        end: Where the data set begins, in bytes from the start of the file.
    """

    transfer_syntax: str | None = None
    transfer_syntax_at: tuple[int, int] = (0, 0)
    media_storage: str | None = None
    media_instance: str | None = None
    end: int = 0


def _stream_of(source: Path | bytes) -> tuple[BinaryIO, int]:
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    file = _ClippedFile(source)
    if file.size_bytes > _READ_WHOLE_BYTES:
        return cast("BinaryIO", file), file.size_bytes
    with file:
        data = file.read()
    return io.BytesIO(data), len(data)


def file_meta(head: bytes) -> FileMeta:
    """Walk the file meta group (PS3.10 7.1), which is always explicit little endian.

    Args:
        head: The first bytes of the file.

    Returns:
        What was found; the walk ends at the first thing that is not a group 2 element, without complaint, because
        pydicom mends more files than this does.

    Raises:
        ValueError: The group does not end within the bytes given.
    """
    meta = FileMeta()
    position = 132 if head[128:132] == b"DICM" else 0
    while position + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, position)
        if group != 2 or not vr.isalpha():
            break
        start = position + 8
        if vr in LONG_VRS:
            if position + 12 > len(head):
                break
            length, start = struct.unpack_from("<I", head, position + 8)[0], position + 12
        if start + length > len(head):
            raise ValueError("the file meta group runs past its bound")
        value = head[start : start + length].rstrip(b"\x00 ").decode("ascii", "replace")
        if element == 0x0010:
            meta.transfer_syntax, meta.transfer_syntax_at = value, (start, length)
        elif element == 0x0002:
            meta.media_storage = value
        elif element == 0x0003:
            meta.media_instance = value
        position = start + length
    meta.end = position
    return meta


def _inflated(data: bytes, meta: FileMeta, limits: Limits) -> bytes:
    """Unpack a deflated data set (PS3.5 A.5) under a cap, and call the result what it is.

    Raises:
        RejectedFile: It unpacks to more than one file may have.
        zlib.error: The stream is broken.
    """
    cap = min(limits.max_file_bytes, limits.max_decoded_bytes)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    body = unpacker.decompress(data[meta.end :], cap + 1)
    if len(body) > cap:
        raise RejectedFile(Reason.INFLATED_BYTES, limit=cap)
    start, length = meta.transfer_syntax_at
    plain_syntax = ExplicitVRLittleEndian.encode("ascii").ljust(length, b"\x00")
    return data[:start] + plain_syntax + data[start + length : meta.end] + body


def _effective_syntax(stated: str | None, implicit_vr: bool, little_endian: bool) -> UID:
    if stated is not None and stated != DeflatedExplicitVRLittleEndian:
        return UID(stated)
    if implicit_vr:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _check_depth(dataset: Dataset, limits: Limits) -> None:
    """Bound the nesting of the sequences that were read; the others are raw bytes that nobody looks into.

    Raises:
        RejectedFile: They are nested too deep.
    """
    level: list[Dataset] = [dataset]
    depth = 0
    while level:
        if depth > limits.max_sequence_depth:
            raise RejectedFile(Reason.SEQUENCE_DEPTH, limit=limits.max_sequence_depth)
        level = [
            item
            for parent in level
            for element in parent.values()
            if isinstance(element, DataElement) and element.VR == "SQ"
            for item in element.value
        ]
        depth += 1
