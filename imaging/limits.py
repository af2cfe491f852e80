"""How much one received file may cost.

This module owns the numbers that bound reading: bytes, pixels, frames, archive entries, nesting. It refuses to read
settings itself: callers build :class:`Limits` from theirs and hand it to every function of `imaging`. The defaults fit
a radiology department's studies with room to spare and keep the worst hostile file below about one gigabyte.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

MIB = 1024 * 1024
GIB = 1024 * MIB

MR_ONLY = frozenset({"MR"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for reading what somebody sent.

    Attributes:
        max_file_bytes: Largest single file, in bytes. The smaller of this and `max_decoded_bytes` is also the largest
            data set that a deflated DICOM file may unpack to.
        max_side: Largest number of rows or columns of one picture, in pixels.
        max_pixels: Largest number of pixels (rows x columns) of one picture.
        max_frames: Largest number of frames or pages in one file.
        max_decoded_bytes: Largest size of all frames of one file once decoded, in bytes, each pixel counted as it
            would be held in memory (at least four bytes).
        max_sequence_depth: Deepest nesting of DICOM sequences.
        max_text_length: DICOM text values are cut to this many characters.
        max_name_length: Longest name of an archive entry, in characters.
        modalities: DICOM modalities that are accepted. Secondary captures that name no modality of their own are
            accepted besides.
        zip_max_entries: Most entries of one archive, archives inside it included.
        zip_max_member_bytes: Largest single entry, in bytes actually unpacked.
        zip_max_total_bytes: Most bytes actually unpacked from one archive, archives inside it included.
        zip_max_ratio: Largest unpacked / packed size of one entry.
        zip_ratio_floor_bytes: The ratio counts once an entry has grown past this (empty pictures pack very well).
        zip_max_depth: How deep archives may lie inside an archive; 0 means no archive inside an archive.
        zip_max_directory_bytes: Largest table of contents of one archive, in bytes.
    """

    max_file_bytes: int = 256 * MIB
    max_side: int = 16_384
    max_pixels: int = 50_000_000
    max_frames: int = 2_000
    max_decoded_bytes: int = 512 * MIB
    max_sequence_depth: int = 32
    max_text_length: int = 256
    max_name_length: int = 1_024
    modalities: frozenset[str] = MR_ONLY
    zip_max_entries: int = 20_000
    zip_max_member_bytes: int = 50 * MIB
    zip_max_total_bytes: int = 4 * GIB
    zip_max_ratio: float = 200.0
    zip_ratio_floor_bytes: int = MIB
    zip_max_depth: int = 2
    zip_max_directory_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing or everything through.

        Raises:
            ValueError: A limit is not positive, or `modalities` is empty.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "modalities":
                if not value:
                    raise ValueError("Limits.modalities is empty: name at least one DICOM modality, e.g. {'MR'}.")
            elif not (value > 0 or (value == 0 and field.name == "zip_max_depth")):
                raise ValueError(f"Limits.{field.name} is {value!r}: it must be greater than zero.")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What reading one file may cost the process that reads it; the operating system ends whoever takes more.

    Attributes:
        memory_bytes: Address space beyond what a decoder has before its first file.
        cpu_s: Processor time, whole seconds (kept to within a second).
        wall_s: Time on the clock, seconds.
    """

    memory_bytes: int = 2 * GIB
    cpu_s: int = 20
    wall_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse an allowance under which nothing could be read.

        Raises:
            ValueError: A value is not positive.
        """
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"Allowance.{field.name} is {getattr(self, field.name)!r}: it must be greater than zero."
                )
