"""Text from outside, made fit to show.

This module owns what is taken out of names and DICOM text before they go anywhere: control characters, characters that
turn the writing direction, halves of surrogate pairs, and excess length. It refuses to escape for HTML or CSV: that
belongs to whoever writes those.
"""

from __future__ import annotations

import unicodedata

_DROPPED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn"})
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\u2028\u2029")


def plain(text: str, max_length: int) -> str:
    """Strip what must not be shown.

    Args:
        text: Anything.
        max_length: Longest result, in characters.

    Returns:
        The text without control and direction characters, white space runs made single blanks, cut to length.
    """
    text = text[: max_length * 4]
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            character if character not in "\t\r\n\f\v" else " "
            for character in text
            if character in "\t\r\n\f\v"
            or (character not in _DIRECTION and unicodedata.category(character) not in _DROPPED_CATEGORIES)
        )
    return " ".join(text.split())[:max_length]
