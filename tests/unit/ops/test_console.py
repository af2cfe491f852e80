"""What the operator reads: log lines made short, tables that line up, bars to an eighth."""

import json

from ops.console import fraction_bar, shorten, table


def test_a_json_line_becomes_readable_and_loses_what_the_prefix_says() -> None:
    line = json.dumps({"event": "chunk_done", "level": "info", "timestamp": "2026-01-01", "slices": 32, "error": ""})
    assert shorten(line) == ("info", "chunk_done slices=32")


def test_a_warning_says_so() -> None:
    level, text = shorten(json.dumps({"event": "broker_unavailable", "level": "warning", "during": "send"}))
    assert (level, text) == ("warning", "WARNING: broker_unavailable during=send")


def test_a_long_value_is_cut_and_kept_on_one_line() -> None:
    _level, text = shorten(json.dumps({"event": "e", "what": "a\n" * 100}))
    assert "\n" not in text
    assert len(text) < 80


def test_other_lines_pass_as_they_are() -> None:
    assert shorten("Ready to accept connections tcp\n") == ("info", "Ready to accept connections tcp")
    assert shorten("Traceback (most recent call last):")[0] == "error"
    assert shorten("{not json")[1] == "{not json"


def test_a_bar_shows_eighths_and_keeps_its_width() -> None:
    assert fraction_bar(0.0, 4) == "    "
    assert fraction_bar(1.0, 4) == "████"
    assert fraction_bar(0.5, 3) == "█▌ "
    assert {len(fraction_bar(value / 100, 10)) for value in range(-20, 140)} == {10}


def test_columns_are_as_wide_as_needed_and_numbers_end_together() -> None:
    lines = table(("slice", "p"), [("1", "0.9"), ("100", "12.34")], right=frozenset({1}))
    assert lines == [
        "  slice      p",
        "  -----  -----",
        "  1        0.9",
        "  100    12.34",
    ]
