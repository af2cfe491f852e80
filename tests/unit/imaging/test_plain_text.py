"""Text from outside is made fit to show."""

from __future__ import annotations

import pytest

from imaging.plain_text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("EXAMPLE^ONE", "EXAMPLE^ONE"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("two\r\nlines\tand  blanks ", "two lines and blanks"),
        ("gnp.\u202exe", "gnp.xe"),
        ("山田^太郎", "山田^太郎"),
        ("brain 🧠", "brain 🧠"),
        ("\ud800 half a pair", "half a pair"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("", ""),
    ],
)
def test_what_must_not_be_shown_is_taken_out(text: str, shown: str) -> None:
    assert plain(text, 100) == shown


def test_long_text_is_cut() -> None:
    assert plain("x" * 65_536, 64) == "x" * 64
