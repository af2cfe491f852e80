"""Which images belong together: from inspected files to studies and series.

Owns the rules: a DICOM image with a Study Instance UID belongs to that study; all other images of one folder are one
study, named by the digest of its images, so that the same folder sent twice is the same study. Folders named after a
plane (`axial`, `coronal`, `sagittal`) are series of the folder that holds them.

Refuses to read files and to guess a plane from pixels.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from db.queries.intake import FileLine, PlannedFile, PlannedSeries, PlannedSlice, PlannedStudy
from imaging.frames import DicomFacts, Identity, ImageInfo
from imaging.geometry import anatomical_key
from imaging.sequence import guess

PLANE_FOLDERS = {
    "axial": "axial", "ax": "axial", "transverse": "axial", "transversal": "axial", "tra": "axial",
    "coronal": "coronal", "cor": "coronal",
    "sagittal": "sagittal", "sag": "sagittal",
}  # fmt: skip

LOCALIZER = "localizer"
"""Stands where others have their plane: a scout's plane is beside the point."""

_FRAMES_A_NUMBER = 10_000


@dataclass(frozen=True)
class FoundImage:
    """One accepted file and what its header says."""

    line: FileLine
    sha256: str
    info: ImageInfo
    text_risk: str = ""
    """Why a name may be written into its pixels, a value of `imaging.text_risk.TextRisk`; empty: no sign of it."""


def plan(images: Sequence[FoundImage], default_title: str) -> list[PlannedStudy]:
    """Groups images into studies and series and puts their slices in order.

    Args:
        images: Accepted files, in the order of the receipt.
        default_title: Title of a study whose images lie in no folder and have no description.

    Returns:
        Studies in the order of their keys (workers that write the same studies then wait for each other in the same
        order), series in the order of their numbers.
    """
    by_uid: dict[str, list[FoundImage]] = {}
    by_folder: dict[str, list[FoundImage]] = {}
    for image in images:
        uid = image.info.dicom.study_instance_uid if image.info.dicom else None
        if uid:
            by_uid.setdefault(uid, []).append(image)
        else:
            by_folder.setdefault(_study_folder(image.line.path), []).append(image)
    studies = [_dicom_study(uid, group) for uid, group in by_uid.items()]
    studies += [_folder_study(folder, group, default_title) for folder, group in by_folder.items()]
    return sorted(_merged(studies), key=lambda study: study.key)


def _merged(studies: Iterable[PlannedStudy]) -> list[PlannedStudy]:
    """Two folders with the same images are one study, whose second folder holds duplicates."""
    merged: dict[str, PlannedStudy] = {}
    for study in studies:
        before = merged.get(study.key)
        if before is None:
            merged[study.key] = study
            continue
        merged[study.key] = PlannedStudy(
            before.key,
            before.study_instance_uid,
            before.study_date,
            before.description,
            before.title,
            before.identity,
            before.series + study.series,
        )
    return list(merged.values())


def _dicom_study(uid: str, images: Sequence[FoundImage]) -> PlannedStudy:
    facts = [image.info.dicom for image in images if image.info.dicom]
    identities = [image.info.identity for image in images if image.info.identity]
    description = _cut(_first(fact.study_description for fact in facts), 200)
    groups: dict[str, list[FoundImage]] = {}
    for image in images:
        series_uid = image.info.dicom.series_instance_uid if image.info.dicom else None
        key = f"dicom:{series_uid}" if series_uid else _folder_key(_folder(image.line.path))
        groups.setdefault(key, []).append(image)
    return PlannedStudy(
        key=f"dicom:{uid}",
        study_instance_uid=uid,
        study_date=_date(_first(identity.study_date for identity in identities)),
        description=description,
        title=description or _cut(_name(_study_folder(images[0].line.path)), 200),
        identity=_identity(identities),
        series=_in_order(_series(key, group) for key, group in groups.items()),
    )


def _folder_study(folder: str, images: Sequence[FoundImage], default_title: str) -> PlannedStudy:
    digest = hashlib.sha256("\n".join(sorted({image.sha256 for image in images})).encode()).hexdigest()
    groups: dict[str, list[FoundImage]] = {}
    for image in images:
        groups.setdefault(_folder(image.line.path), []).append(image)
    identities = [image.info.identity for image in images if image.info.identity]
    facts = [image.info.dicom for image in images if image.info.dicom]
    description = _cut(_first(fact.study_description for fact in facts), 200)
    # The key of a series must not change with the place of the folder, or the same study would not be recognised.
    series = [_series(_folder_key(name.removeprefix(folder)), group) for name, group in groups.items()]
    return PlannedStudy(
        key=f"files:{digest}",
        study_instance_uid=None,
        study_date=_date(_first(identity.study_date for identity in identities)),
        description=description,
        title=description or _cut(_name(folder) or default_title, 200),
        identity=_identity(identities),
        series=_in_order(series),
    )


def _series(key: str, images: Sequence[FoundImage]) -> PlannedSeries:
    folder_plane = PLANE_FOLDERS.get(_name(_folder(images[0].line.path)).casefold())
    facts = next((image.info.dicom for image in images if image.info.dicom), None)
    order = _sort_keys(images)
    files = tuple(
        PlannedFile(
            line=image.line,
            sha256=image.sha256,
            size_bytes=image.info.size_bytes,
            kind=image.info.kind.value,
            sop_instance_uid=image.info.dicom.sop_instance_uid if image.info.dicom else None,
            instance_number=_number(image.info.dicom.instance_number if image.info.dicom else None),
            text_risk=image.text_risk,
            slices=tuple(
                PlannedSlice(
                    frame_index=frame,
                    rows=image.info.rows,
                    columns=image.info.columns,
                    plane=LOCALIZER if _is_localizer(image) else geometry.plane or folder_plane,
                    position_mm=geometry.position_mm,
                    sort_key=order[place, frame],
                )
                for frame, geometry in enumerate(image.info.geometry)
            ),
        )
        for place, image in enumerate(images)
    )
    planes = Counter(piece.plane for file in files for piece in file.slices if piece.plane)
    return PlannedSeries(
        key=key,
        series_instance_uid=facts.series_instance_uid if facts else None,
        number=_number(facts.series_number if facts else None),
        description=_cut(
            (facts.series_description or facts.protocol_name if facts else None) or _name(_folder(images[0].line.path)),
            200,
        ),
        modality=_cut(facts.modality if facts else None, 16),
        plane=planes.most_common(1)[0][0] if planes else None,
        facts=_facts(facts) | _spacing(images),
        files=files,
    )


def _sort_keys(images: Sequence[FoundImage]) -> dict[tuple[int, int], float]:
    """A number a slice by which a series is in anatomical order, also when more of it is sent later.

    Positions along the normal when every slice has one; else instance numbers; else the order of names.
    """
    slices = [(place, frame) for place, image in enumerate(images) for frame in range(len(image.info.geometry))]
    positions = {(place, frame): images[place].info.geometry[frame].position_mm for place, frame in slices}
    if all(position is not None for position in positions.values()):
        return {key: float(position) for key, position in positions.items() if position is not None}
    numbers = [image.info.dicom.instance_number if image.info.dicom else None for image in images]
    if all(number is not None and abs(number) < 2**31 for number in numbers):
        return {(place, frame): (numbers[place] or 0) + frame / _FRAMES_A_NUMBER for place, frame in slices}
    ordered = sorted(
        slices,
        key=lambda key: anatomical_key(
            images[key[0]].info.geometry[key[1]], numbers[key[0]], key[1], images[key[0]].line.path
        ),
    )
    return {key: float(rank) for rank, key in enumerate(ordered)}


def _in_order(series: Iterable[PlannedSeries]) -> tuple[PlannedSeries, ...]:
    return tuple(sorted(series, key=lambda one: (one.number is None, one.number or 0, one.key)))


def _identity(identities: Sequence[Identity]) -> dict[str, str]:
    def of(name: str, longest: int) -> str:
        return _cut(_first(getattr(identity, name) for identity in identities), longest)

    return {
        "patient_name": of("patient_name", 320),
        "patient_id": of("patient_id", 128),
        "birth_date": _date(of("patient_birth_date", 8)),
        "sex": of("patient_sex", 16),
        "accession_number": of("accession_number", 64),
    }


def _facts(facts: DicomFacts | None) -> dict[str, Any]:
    """Acquisition facts worth showing; nothing that names a person or a place."""
    if facts is None:
        return {}
    wanted = {
        "manufacturer": facts.manufacturer,
        "manufacturer_model": facts.manufacturer_model,
        "field_strength_tesla": facts.field_strength_tesla,
        "echo_time_ms": facts.echo_time_ms,
        "repetition_time_ms": facts.repetition_time_ms,
        "inversion_time_ms": facts.inversion_time_ms,
        "slice_thickness_mm": facts.slice_thickness_mm,
        "protocol_name": facts.protocol_name,
        "body_part": facts.body_part,
        "image_type": list(facts.image_type) or None,
        "localizer": facts.localizer or None,
        "contrast_agent": facts.contrast_agent or None,
        "scanning_sequence": list(facts.scanning_sequence) or None,
        "sequence": guess(facts),
        "burned_in_annotation": facts.burned_in_annotation,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _is_localizer(image: FoundImage) -> bool:
    """Whether it is a scout picture: taken to plan the others by, in several planes and thick slices."""
    return image.info.dicom is not None and image.info.dicom.localizer


def _spacing(images: Sequence[FoundImage]) -> dict[str, Any]:
    """Distances in a series, millimetres: of pixels (between rows, between columns), and of neighbouring slices."""
    geometry = [one for image in images for one in image.info.geometry]
    found: dict[str, Any] = {}
    pixels = next((one.spacing_mm for one in geometry if one.spacing_mm is not None), None)
    if pixels is not None:
        found["pixel_spacing_mm"] = [round(distance, 4) for distance in pixels]
    positions = sorted({round(one.position_mm, 3) for one in geometry if one.position_mm is not None})
    if len(positions) > 1 and len({one.plane for one in geometry}) == 1:
        found["slice_spacing_mm"] = round(median(b - a for a, b in pairwise(positions)), 3)
    return found


def _folder(path: str) -> str:
    """The folder of a display path, with its closing slash; empty for none."""
    return path[: path.rfind("/") + 1]


def _name(folder: str) -> str:
    """The last part of a folder's path."""
    return folder.rstrip("/").rpartition("/")[2]


def _study_folder(path: str) -> str:
    """The folder that makes the study: the image's own, or the one above a folder named after a plane."""
    folder = _folder(path)
    if _name(folder).casefold() in PLANE_FOLDERS:
        return _folder(folder.rstrip("/"))
    return folder


def _folder_key(folder: str) -> str:
    return "folder:" + hashlib.sha256(folder.encode("utf-8", "replace")).hexdigest()[:32]


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _cut(text: str | None, longest: int) -> str:
    return (text or "").replace("\0", "")[:longest]


def _date(text: str | None) -> str:
    return text if text and re.fullmatch(r"\d{8}", text) else ""


def _number(number: int | None) -> int | None:
    """A number that fits the database's integers; an absurd one is no number."""
    return number if number is not None and -(2**31) <= number < 2**31 else None
