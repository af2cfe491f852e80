"""The slices of a list of files and folders, one after another.

Owns: opening folders and archives through `imaging.collect`, counting the frames of each file, and naming each slice
(`path`, or `path#frame` for files of several frames, counted from 0). Refuses: to decode pixels before somebody asks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imaging.collect import Collected, collect
from imaging.decoders import Decoders
from imaging.frames import Kind, Pixels
from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason, RejectedFile

_SEVERAL_FRAMES = (Kind.DICOM, Kind.TIFF)


@dataclass(slots=True)
class SliceSource:
    """One slice to be, or one file that gives none.

    Attributes:
        name: For people: display path, with `#frame` where the file has several.
        local_path: Where to read it.
        index: Frame number, counted from 0.
        rejection: Why there is no slice.
        last_of_file: Whether the file is done with after this slice.
        pixels: The decoded slice (h, w), float32 in [0, 1], kept only when asked for.
    """

    name: str
    local_path: Path | None
    index: int = 0
    rejection: RejectedFile | None = None
    last_of_file: bool = True
    pixels: Pixels | None = field(default=None, repr=False)


@dataclass(slots=True)
class Found:
    """What lies at the given paths.

    Attributes:
        files: Those that make rows, readable or not, in natural order.
        ignored: Display paths of files that are no images by nature (DICOMDIR, Thumbs.db, ...).
    """

    files: list[Collected]
    ignored: list[str]


def find(paths: Iterable[str], limits: Limits, workdir: Path) -> Found:
    """Walks files, folders and archives.

    Args:
        paths: As given by a person.
        limits: Bounds.
        workdir: Existing folder for what is unpacked.

    Raises:
        OSError: If the work folder cannot be written.
    """
    found = Found([], [])
    for item in collect(paths, limits, workdir):
        if item.outcome is Outcome.IGNORED:
            found.ignored.append(item.display_path)
        else:
            found.files.append(item)
    return found


def slices(found: Found, decoders: Decoders) -> Iterator[SliceSource]:
    """The slices of each file, in order; a file that cannot be opened gives one source with its rejection.

    A DICOMDIR shows itself only when its header is read: it then moves to `found.ignored`.
    """
    for file in found.files:
        path = file.local_path
        if path is None:
            yield SliceSource(file.display_path, None, rejection=file.rejection)
            continue
        try:
            frames = decoders.inspect(path).frames if file.kind in _SEVERAL_FRAMES else 1
        except RejectedFile as rejection:
            if rejection.outcome is Outcome.IGNORED:
                found.ignored.append(file.display_path)
                continue
            yield SliceSource(file.display_path, path, rejection=rejection)
            continue
        for index in range(frames):
            name = file.display_path if frames == 1 else f"{file.display_path}#{index}"
            yield SliceSource(name, path, index, last_of_file=index == frames - 1)


def read(sources: Sequence[SliceSource], decoders: Decoders, *, keep: bool = False) -> list[Pixels | RejectedFile]:
    """Decodes a few slices; may run in any thread.

    Args:
        sources: Of `slices`.
        decoders: Where files are read.
        keep: Whether the pixels shall stay in `SliceSource.pixels`, for drawing.

    Returns:
        For each its pixels, or why it cannot be decoded.
    """
    asked = [(source, source.local_path) for source in sources if source.local_path and not source.rejection]
    answers = iter(decoders.read_pixels([(path, source.index) for source, path in asked]))
    found: list[Pixels | RejectedFile] = []
    for source in sources:
        if source.local_path is None or source.rejection is not None:
            found.append(source.rejection or RejectedFile(Reason.FILE_MISSING))
            continue
        pixels = next(answers)
        if keep and not isinstance(pixels, RejectedFile):
            source.pixels = pixels
        found.append(pixels)
    return found
