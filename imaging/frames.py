"""The plain values that leave `imaging`: one frame, and what is known of a file before its pixels are decoded.

This module owns the shapes and units of those values. It refuses to read files and to carry identity together with
pixels: who the patient is stands in :class:`Identity` alone, so that a caller can store it apart or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = Literal["axial", "coronal", "sagittal", "oblique"]
Pixels = NDArray[np.float32]


class Kind(StrEnum):
    """The formats that can be read."""

    DICOM = "dicom"
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"
    BMP = "bmp"


class Intensity(StrEnum):
    """The rule by which stored values became displayed grey.

    * `full_range`: 8-bit pictures and 8-bit DICOM without a window, value / 255.
    * `min_max`: darkest value to brightest value of the frame (16-bit and float pictures; deep DICOM without a window).
    * `window`: the first window centre and width of the DICOM header.
    * `voi_lut`: the first VOI look-up table of the DICOM header.
    """

    FULL_RANGE = "full_range"
    MIN_MAX = "min_max"
    WINDOW = "window"
    VOI_LUT = "voi_lut"


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Where one frame lies in the patient, as far as the file says so.

    Attributes:
        plane: Anatomical plane, or None when the file has no orientation.
        position_mm: Position along the slice normal in millimetres, growing from feet to head (axial), from front to
            back (coronal) or from the patient's right to the left (sagittal); None when unknown.
        spacing_mm: Distance of pixel centres as (between rows, between columns), in millimetres; None when unknown.
    """

    plane: Plane | None = None
    position_mm: float | None = None
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One grey picture, ready to be prepared for a network or shown.

    Attributes:
        pixels: float32, shape (rows, columns), displayed grey in [0, 1]: 0 is black, 1 is white. Linear in the
            displayed intensity after modality scaling, window and MONOCHROME1 inversion.
        index: Frame or page number in its file, counted from 0.
        plane: See :class:`FrameGeometry`.
        position_mm: See :class:`FrameGeometry`.
        spacing_mm: See :class:`FrameGeometry`.
        intensity: The rule by which `pixels` was made.
    """

    pixels: Pixels
    index: int = 0
    plane: Plane | None = None
    position_mm: float | None = None
    spacing_mm: tuple[float, float] | None = None
    intensity: Intensity = Intensity.FULL_RANGE


@dataclass(frozen=True, slots=True, eq=False)
class Unwindowed:
    """One grey picture at the depth it was acquired with, for a reader who sets the window.

    Shown as clip((values - centre) / width + 0.5, 0, 1), turned round when `inverted`, it is `Frame.pixels`; only a
    sigmoid window (PS3.3 C.11.2.1.3.1) is given as the straight line of the same centre and width.

    Attributes:
        values: float32, shape (rows, columns), after the modality transformation and before the window; of files
            without such values the displayed grey, in steps of 1/255 (8 bits) or 1/65535. Padding has a value that
            is shown black.
        centre: Of the window, in the unit of `values`.
        width: Of the window, above 0.
        inverted: Whether low values are bright (MONOCHROME1).
    """

    values: Pixels
    centre: float
    width: float
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class DicomFacts:
    """What a DICOM header says of study, series and instance, without identity.

    UIDs are checked (digits and dots, at most 64 characters) or None. Text is decoded by the file's character set,
    freed of control characters, and cut to `Limits.max_text_length`.

    Attributes:
        burned_in_annotation: True or False as the header says; None when it does not say, which does not mean clean.
        conversion_type: How a secondary capture was made (`WSD`, `SD`, ...); None for what a scanner made itself.
        localizer: True when the image type names a localizer (scout) picture.
        contrast_agent: True when the header names a contrast agent.
        scanning_sequence: `SE`, `IR`, `GR`, `EP`, `RM`, as the header says (an enhanced object's words turned into
            these).
    """

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    transfer_syntax_uid: str | None = None
    modality: str | None = None
    series_number: int | None = None
    instance_number: int | None = None
    study_description: str | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    body_part: str | None = None
    image_type: tuple[str, ...] = ()
    localizer: bool = False
    contrast_agent: bool = False
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion_time_ms: float | None = None
    scanning_sequence: tuple[str, ...] = ()
    slice_thickness_mm: float | None = None
    field_strength_tesla: float | None = None
    manufacturer: str | None = None
    manufacturer_model: str | None = None
    photometric_interpretation: str | None = None
    bits_stored: int | None = None
    burned_in_annotation: bool | None = None
    conversion_type: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a DICOM header says of the person and the visit: store it apart, show it by role, log none of it.

    `repr` shows no value, so that an identity that strays into a message or a traceback says nothing.
    """

    patient_name: str | None = None
    patient_id: str | None = None
    patient_birth_date: str | None = None
    patient_sex: str | None = None
    accession_number: str | None = None
    study_date: str | None = None
    study_time: str | None = None
    study_id: str | None = None
    institution_name: str | None = None
    referring_physician: str | None = None

    def __repr__(self) -> str:
        """Say only which fields are filled."""
        filled = [name for name in self.__slots__ if getattr(self, name) is not None]
        return f"Identity(<{len(filled)} fields withheld>)"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of a readable file before its pixels are decoded.

    Attributes:
        kind: The format, told by content.
        rows: Height in pixels, as displayed (after EXIF rotation).
        columns: Width in pixels, as displayed.
        frames: Number of frames or pages.
        size_bytes: Size of the file.
        bits: Bits a sample, as stored: 1, 8, 16 or 32.
        colour: True when the file stores colour; it is read as grey all the same.
        geometry: One entry a frame, in the file's order.
        dicom: Header facts; None for other formats.
        identity: Person and visit; None for other formats.
    """

    kind: Kind
    rows: int
    columns: int
    frames: int
    size_bytes: int
    bits: int
    colour: bool
    geometry: tuple[FrameGeometry, ...]
    dicom: DicomFacts | None = None
    identity: Identity | None = None
