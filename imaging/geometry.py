"""Where a slice lies in the patient, from the two DICOM attributes that say so.

This module owns the arithmetic on ImageOrientationPatient (six direction cosines: along a row, then along a column)
and ImagePositionPatient (centre of the first pixel, millimetres), in DICOM's patient axes: x grows to the patient's
left, y to the back, z to the head (PS3.3 C.7.6.2.1.1). It refuses absurd geometry by answering "unknown", never by
guessing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from imaging.frames import FrameGeometry, Plane

OBLIQUE_BEYOND_DEG = 30.0
"""A plane is named after an axis when its normal lies within this angle of it. Clinical axial brain slices are tilted
by up to about 25 degrees (along the line between the commissures, or to spare the eyes) and are still called axial."""

_UNIT_TOLERANCE = 0.01
_MAX_POSITION_MM = 100_000.0
_MAX_SPACING_MM = 1_000.0
_PLANE_OF_AXIS: tuple[Plane, Plane, Plane] = ("sagittal", "coronal", "axial")


def numbers(values: object, count: int) -> tuple[float, ...] | None:
    """Read a fixed number of finite numbers from an attribute's value.

    Args:
        values: Whatever stood in the file.
        count: How many numbers are wanted.

    Returns:
        The numbers, or None when there are more or fewer, or one is not a finite number.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        return None
    if len(values) != count:
        return None
    try:
        result = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if all(math.isfinite(value) for value in result) else None


def normal_of(orientation: Sequence[float]) -> tuple[float, float, float] | None:
    """Give the unit normal of a slice, pointing to the left, the back or the head.

    Args:
        orientation: Six direction cosines.

    Returns:
        The normal, its largest component positive, so that slices of one series are ordered the same way whichever way
        round the scanner wrote them; None when the cosines are not two orthogonal unit vectors.
    """
    row, column = orientation[:3], orientation[3:]
    if abs(math.hypot(*row) - 1) > _UNIT_TOLERANCE or abs(math.hypot(*column) - 1) > _UNIT_TOLERANCE:
        return None
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > _UNIT_TOLERANCE:
        return None
    cross = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    largest = max(cross, key=abs)
    length = math.copysign(math.hypot(*cross), largest)
    return cross[0] / length, cross[1] / length, cross[2] / length


def plane_of(normal: Sequence[float], oblique_beyond_deg: float = OBLIQUE_BEYOND_DEG) -> Plane:
    """Name the anatomical plane of a slice by the axis nearest to its normal.

    Args:
        normal: Unit normal.
        oblique_beyond_deg: Largest angle between normal and axis, in degrees, for the plane to be named.

    Returns:
        The plane; "oblique" when no axis is near enough.
    """
    axis = max(range(3), key=lambda index: abs(normal[index]))
    angle_deg = math.degrees(math.acos(min(1.0, abs(normal[axis]))))
    return _PLANE_OF_AXIS[axis] if angle_deg <= oblique_beyond_deg else "oblique"


def locate(orientation: object, position: object, spacing: object) -> FrameGeometry:
    """Work out a frame's geometry from raw attribute values.

    Args:
        orientation: Value of ImageOrientationPatient, or None.
        position: Value of ImagePositionPatient, or None.
        spacing: Value of PixelSpacing, or None.

    Returns:
        The geometry; each part that is missing or absurd is None.
    """
    cosines = numbers(orientation, 6)
    normal = normal_of(cosines) if cosines is not None else None
    corner = numbers(position, 3)
    position_mm = None
    if normal is not None and corner is not None and all(abs(value) <= _MAX_POSITION_MM for value in corner):
        position_mm = sum(a * b for a, b in zip(normal, corner, strict=True))
    distances = numbers(spacing, 2)
    spacing_mm = None
    if distances is not None and all(0 < value <= _MAX_SPACING_MM for value in distances):
        spacing_mm = distances[0], distances[1]
    return FrameGeometry(
        plane=plane_of(normal) if normal is not None else None, position_mm=position_mm, spacing_mm=spacing_mm
    )


def anatomical_key(geometry: FrameGeometry, instance_number: int | None, frame: int, name: str) -> tuple[object, ...]:
    """Give the key by which the slices of one series are put in anatomical order.

    Slices with a position come first, along the normal; the others follow by instance number, then by name with
    numbers counted as numbers (`slice 2` before `slice 10`).

    Args:
        geometry: Where the frame lies.
        instance_number: The instance's number in its series, if it has one.
        frame: Frame number in its file.
        name: The file's display path.

    Returns:
        A key that sorts against the keys of other slices.
    """
    return (
        geometry.position_mm is None,
        geometry.position_mm or 0.0,
        instance_number is None,
        instance_number or 0,
        natural_key(name),
        frame,
    )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Give a sorting key that counts runs of ASCII digits as numbers.

    Args:
        name: A file name or path.

    Returns:
        A key; names that differ only in case or leading zeros still differ by their last part.
    """
    parts: list[tuple[int, int, str]] = []
    for run in _RUNS.findall(name.casefold()):
        # A run of more than 18 digits is a UID or a hash, not a count: compare it as text.
        counts = run[0] in _DIGITS and len(run) <= _LONGEST_COUNT
        parts.append((1, int(run), "") if counts else (2, 0, run))
    return (*parts, (0, 0, name))


_RUNS = re.compile(r"[0-9]+|[^0-9]+")
_DIGITS = frozenset("0123456789")
_LONGEST_COUNT = 18
