"""A report is a PDF whatever its texts hold: markup is text, tables and pictures break over pages."""

import re

import cv2
import numpy as np

from web.report_layout import KeySlice, Report, Section, render


def a_report(rows: int, pictures: int, language: str = "en") -> Report:
    png = cv2.imencode(".png", np.zeros((40, 30), np.uint8))[1].tobytes()
    hostile = "<b>bold & <para> 京都 \x07 " + "long" * 200
    return Report(
        language=language,
        title="A <report> & more",
        subtitle=hostile,
        warning=hostile,
        mark="RESEARCH USE ONLY",
        foot="foot",
        page_of="Page %(page)s of %(pages)s",
        before=[Section("Facts", facts=[("name", hostile)], texts=[hostile], points=[hostile])],
        pictures_title="Pictures",
        pictures_note=hostile,
        captions=("one", "two"),
        pictures=[
            KeySlice("slice <1>", [hostile[:40]], png, png if number % 2 else None) for number in range(pictures)
        ],
        after=[Section("Table", table=[["a", "b"], *([str(row), "<i>"] for row in range(rows))])],
    )


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_a_report_of_any_length_is_a_pdf_in_its_language() -> None:
    short, long = render(a_report(0, 0)), render(a_report(200, 9, "id"))
    assert short.startswith(b"%PDF-1.")
    assert pages(short) == 1
    assert 6 <= pages(long) <= 12
    assert b"/Lang (id)" in long
