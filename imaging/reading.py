"""The front door of reading: describe a file, or decode its frames, whatever its format.

This module owns choosing the reader by content and checking the file's size first. The functions are pure: path or
bytes plus limits in, plain values or :class:`imaging.outcomes.RejectedFile` out, so that a caller may run them in a
child process under the operating system's own limits. It refuses archives and folders: `imaging.collect` opens those.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from imaging.deidentify import deidentify
from imaging.deidentify_raster import strip_raster
from imaging.dicom import open_header
from imaging.dicom_facts import check_analysed, facts_of, geometry_of, identity_of
from imaging.dicom_layout import has_pixels, layout_of
from imaging.dicom_pixels import iter_dicom, unwindowed_dicom
from imaging.frames import Frame, ImageInfo, Kind, Unwindowed
from imaging.intensity import unwindowed
from imaging.limits import Limits
from imaging.outcomes import Reason, RejectedFile, access_rejection
from imaging.raster import inspect_raster, iter_raster
from imaging.sniff import HEAD_BYTES, sniff

_MAPPED_BEYOND_BYTES = 16 * 1024 * 1024

Source: TypeAlias = str | Path | bytes


def inspect(source: Source, limits: Limits) -> ImageInfo:
    """Describe a file without decoding its pixels.

    Args:
        source: Path of a file, or its bytes.
        limits: Bounds.

    Returns:
        Format, size, frames with their geometry, and for DICOM facts and identity.

    Raises:
        RejectedFile: The file is no readable image; the reason says why.
    """
    source, size_bytes, kind = _recognised(source, limits)
    if kind is not Kind.DICOM:
        return inspect_raster(kind, _mapped(source), limits)
    header = open_header(source, limits)
    with closing(header):
        pixels = has_pixels(header)
        check_analysed(header, limits, pixels)
        facts = facts_of(header, limits)
        layout = layout_of(header, limits)
        return ImageInfo(
            kind=kind,
            rows=layout.rows,
            columns=layout.columns,
            frames=layout.frames,
            size_bytes=size_bytes,
            bits=layout.bits_allocated,
            colour=layout.samples == 3 or layout.photometric == "PALETTE COLOR",
            geometry=tuple(geometry_of(header.dataset, index, layout.frames) for index in range(layout.frames)),
            dicom=facts,
            identity=identity_of(header, limits),
        )


def without_identity(source: Source, key: bytes, limits: Limits) -> bytes:
    """Write a file anew without what says whose it is; see `imaging.deidentify` and `imaging.deidentify_raster`.

    Args:
        source: Path of a file, or its bytes.
        key: Secret of the pseudonyms.
        limits: Bounds.

    Returns:
        The new file.

    Raises:
        RejectedFile: The file is no readable image, or cannot be de-identified.
    """
    source, _, kind = _recognised(source, limits)
    if kind is Kind.DICOM:
        return deidentify(source, key, limits)
    return strip_raster(kind, bytes(_mapped(source)), limits)


def iter_frames(source: Source, limits: Limits, indices: Iterable[int] | None = None) -> Iterator[Frame]:
    """Decode frames one by one, holding one at a time.

    Args:
        source: Path of a file, or its bytes.
        limits: Bounds.
        indices: Frames wanted, counted from 0; None for all. Each is asked for when its frame is, so that whoever
            reads one frame after another need not know the next one.

    Yields:
        Grey frames in the order asked for.

    Raises:
        RejectedFile: The file is no readable image, or a frame is not there.
    """
    source, _, kind = _recognised(source, limits)
    if kind is not Kind.DICOM:
        yield from iter_raster(kind, _mapped(source), limits, indices)
        return
    header = open_header(source, limits)
    with closing(header):
        check_analysed(header, limits, has_pixels(header))
        yield from iter_dicom(header, layout_of(header, limits), limits, indices)


def read_frames(source: Source, limits: Limits) -> list[Frame]:
    """Decode all frames.

    Args:
        source: Path of a file, or its bytes.
        limits: Bounds.

    Returns:
        Grey frames in the file's order, at least one.

    Raises:
        RejectedFile: The file is no readable image.
    """
    return list(iter_frames(source, limits))


def read_frame(source: Source, index: int, limits: Limits) -> Frame:
    """Decode one frame.

    Args:
        source: Path of a file, or its bytes.
        index: Frame number, counted from 0.
        limits: Bounds.

    Returns:
        The grey frame.

    Raises:
        RejectedFile: The file is no readable image, or has no such frame.
    """
    (frame,) = iter_frames(source, limits, (index,))
    return frame


def read_unwindowed(source: Source, index: int, limits: Limits) -> Unwindowed:
    """Decode one frame at the depth it was acquired with, without applying a window.

    Args:
        source: Path of a file, or its bytes.
        index: Frame number, counted from 0.
        limits: Bounds.

    Returns:
        Its values, and the window that shows them as :func:`read_frame` does.

    Raises:
        RejectedFile: The file is no readable image, or has no such frame.
    """
    source, _, kind = _recognised(source, limits)
    if kind is not Kind.DICOM:
        (frame,) = iter_raster(kind, _mapped(source), limits, (index,))
        return unwindowed(frame.pixels, frame.intensity)
    header = open_header(source, limits)
    with closing(header):
        check_analysed(header, limits, has_pixels(header))
        return unwindowed_dicom(header, layout_of(header, limits), limits, index)


def _recognised(source: Source, limits: Limits) -> tuple[Path | bytes, int, Kind]:
    """Check the size, tell the format, and give the bytes of a file that is not long, so that it is read once.

    Raises:
        RejectedFile: Too large, not there, or of no readable format.
    """
    if isinstance(source, bytes):
        size_bytes, head = len(source), source[:HEAD_BYTES]
    else:
        source = Path(source)
        try:
            with source.open("rb", buffering=0) as file:
                size_bytes = os.fstat(file.fileno()).st_size
                head = file.read(HEAD_BYTES if size_bytes > _MAPPED_BEYOND_BYTES else size_bytes)
        except OSError as error:
            raise access_rejection(error) from error
        if len(head) == size_bytes:
            source = head
    if size_bytes > limits.max_file_bytes:
        raise RejectedFile(Reason.FILE_BYTES, found=size_bytes, limit=limits.max_file_bytes)
    sniffed = sniff(head[:HEAD_BYTES])
    if sniffed.rejection is not None:
        raise sniffed.rejection
    if not isinstance(sniffed.kind, Kind):
        raise RejectedFile(Reason.OTHER_FORMAT, found="a zip archive")
    return source, size_bytes, sniffed.kind


def _mapped(source: Path | bytes) -> bytes | mmap.mmap:
    """Give a picture's bytes; those of a long file, which was not read, stay on the disk until they are asked for."""
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise access_rejection(error) from error
