"""Text from outside, made fit to show.

This module owns what is taken out of names and DICOM text before they go anywhere: control characters, characters that
turn the writing direction or cannot be seen, halves of surrogate pairs, and excess length. It refuses to escape for
HTML or CSV: that belongs to whoever writes those.
"""

from __future__ import annotations

import unicodedata

# Controls, halves of pairs, private and unassigned characters, line and paragraph separators, and all that only format:
# they turn the writing direction, or are not seen at all. The two joiners are part of how some scripts spell.
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")


def plain(text: str, max_length: int) -> str:
    """Strip what must not be shown.

    Args:
        text: Anything.
        max_length: Longest result, in characters.

    Returns:
        The text without control and format characters, white space runs made single blanks, cut to length.
    """
    text = text[: max_length * 4]
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            character if character not in "\t\r\n\f\v" else " "
            for character in text
            if character in "\t\r\n\f\v"
            or character in _JOINERS
            or unicodedata.category(character) not in _DROPPED_CATEGORIES
        )
    return " ".join(text.split())[:max_length]
