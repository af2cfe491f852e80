"""What every DICOM object that we make has in common: whose study it is of, what a slice's result was, and its UIDs.

Owns these plain values and the derivation of UIDs: the same result always gets the same UID, so that a file that is
downloaded and stored twice is one object in the archive. Refuses to know where the values come from.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

MARK: Final = "AI - NOT REVIEWED - RESEARCH USE ONLY"
"""Stands in every object's series description, and burned into every picture."""
MANUFACTURER: Final = "NeuroSight"
IMPLEMENTATION_UID: Final = "2.25.151480513226453418862405386498342018893"
_NAMESPACE: Final = uuid.UUID("71f5cf9e-24b4-4f0a-9c0a-6f3a5a1f0d6d")


def derived_uid(*parts: str) -> str:
    """Derives a UID from texts (PS3.5 B.2: `2.25.` and a UUID as a number, here of version 5).

    Args:
        *parts: What the object is; the same parts give the same UID.

    Returns:
        A UID of at most 44 characters.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}"


@dataclass(frozen=True, slots=True)
class StudyOfResults:
    """The study to which the objects belong.

    Attributes:
        study_instance_uid: Of the study as received, or one derived for pictures without a DICOM origin.
        study_date: YYYYMMDD, or empty.
        study_time: HHMMSS with fraction, or empty.
        birth_date: YYYYMMDD, or empty.
        made_uid: Whether the UID is one of ours, because the study had none.
    """

    study_instance_uid: str
    made_uid: bool
    study_date: str = ""
    study_time: str = ""
    study_id: str = ""
    description: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    patient_name: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image in an archive: the one that was classified, or a capture made of it.

    Attributes:
        frame: Counted from 0; None for an object of one frame.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class SliceResult:
    """What a model said of one slice.

    Attributes:
        key: Names this result for ever, e.g. the number of the prediction.
        name: What people call the slice; no file name, which may tell who it is of.
        image: The image in the archive; None for a slice that is in none.
        probability: Calibrated probability of `class_name`, in [0, 1].
        created_at: When the result was made, UTC.
    """

    key: str
    name: str
    image: ImageRef | None
    class_name: str
    probability: float
    engine: str
    code_version: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The model.

    Attributes:
        digest: SHA-256 of its artefact, hexadecimal.
    """

    name: str
    digest: str
    network: str


def report_uid(study: StudyOfResults, algorithm: Algorithm, results: Sequence[SliceResult]) -> str:
    """The SOP Instance UID of the report on these results, now and whenever it is made again."""
    keys = sorted(result.key for result in results)
    return derived_uid("report", study.study_instance_uid, algorithm.digest, *keys)


def percent(probability: float) -> str:
    """A probability for people, never rounded up to certainty: `97.3 %`, at most `99.9 %`."""
    return f"{min(probability, 0.999) * 100:.1f} %"
