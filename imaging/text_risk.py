"""Whether a name may be written into a picture's pixels, as far as its header tells.

This module owns the signs. It refuses to look at pixels itself, and to call a picture clean: a header that says nothing
is no proof.
"""

from __future__ import annotations

from enum import StrEnum

from imaging.dicom_facts import SECONDARY_CAPTURE_CLASSES
from imaging.frames import ImageInfo


class TextRisk(StrEnum):
    """Why text in the pixels is likely."""

    DECLARED = "declared"
    """Burned In Annotation (0028,0301) says so."""
    CAPTURE = "capture"
    """A secondary capture, a scanned film or a picture of a screen."""
    SEEN = "seen"
    """Letters were seen in the pixels (`imaging.text_seen`)."""


_SCREENS = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE"})


def text_risk(info: ImageInfo) -> TextRisk | None:
    """Judge a file by its header.

    Args:
        info: What is known of it.

    Returns:
        The sign; None when there is none, or when the header says that nothing is burned in.
    """
    facts = info.dicom
    if facts is None or facts.burned_in_annotation is False:
        return None
    if facts.burned_in_annotation:
        return TextRisk.DECLARED
    if facts.sop_class_uid in SECONDARY_CAPTURE_CLASSES or facts.conversion_type or _SCREENS & set(facts.image_type):
        return TextRisk.CAPTURE
    return None
