"""A study's report on paper: sizes, fonts, tables and the lines that stand on every page.

Owns how a report looks; it is handed plain texts in the reader's language and pictures as PNG. "Research use only" is
drawn on each page by the page itself, so that no content can push it away. Refuses to know rows, and to take any text
for markup.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

INK, QUIET, LINE, BAD, SOFT = "#1b2730", "#51636f", "#c9d3d9", "#a11a24", "#f1f5f7"
PICTURE_MM: Final = 52.0
FRAME_PADDING: Final = 6
"""What the library leaves at either side of a page's frame, points."""
FONTS: Final = {"NeuroSight": "Vera.ttf", "NeuroSight-Bold": "VeraBd.ttf"}
"""Bitstream Vera, which comes with the library: letters of Western and Central Europe, and of Indonesian."""


@dataclass(frozen=True)
class KeySlice:
    """One slice with its pictures (PNG) and lines of text under its name."""

    name: str
    lines: Sequence[str]
    grey_png: bytes
    overlay_png: bytes | None


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        facts: (name, value) pairs.
        table: Rows; the first holds the headings.
        texts: Paragraphs.
        points: A list.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    table: Sequence[Sequence[str]] = ()
    texts: Sequence[str] = ()
    points: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a report says, in its order.

    Attributes:
        language: Code of the language that its texts are in.
        warning: Stands in a frame under the title; empty: none.
        mark: Stands on every page.
        foot: Stands at the foot of every page, before the page's number.
        page_of: With `%(page)s` and `%(pages)s`.
        before: Sections before the pictures.
        pictures_title: Their heading.
        pictures_note: What the heatmaps are and are not.
        captions: (of the grey picture, of the overlay).
        after: Sections after the pictures.
    """

    language: str
    title: str
    subtitle: str
    warning: str
    mark: str
    foot: str
    page_of: str
    before: Sequence[Section]
    pictures_title: str
    pictures_note: str
    captions: tuple[str, str]
    pictures: Sequence[KeySlice]
    after: Sequence[Section]


def render(report: Report) -> bytes:
    """The report as PDF, A4."""
    from reportlab.lib.pagesizes import A4  # the library is large, and few requests need it
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    _register_fonts()
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=24 * mm,
        bottomMargin=20 * mm,
        title=report.title,
        author="NeuroSight",
        subject=report.mark,
        lang=report.language,
    )
    inner = document.width - 2 * FRAME_PADDING
    document.build(_story(report, inner), canvasmaker=_numbered(report))
    return out.getvalue()


def _register_fonts() -> None:
    import reportlab
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(reportlab.__file__).parent / "fonts"
    for name, file in FONTS.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, folder / file))
    pdfmetrics.registerFontFamily("NeuroSight", normal="NeuroSight", bold="NeuroSight-Bold")


def _numbered(report: Report) -> type:
    """A canvas that knows how many pages there are when it draws what stands on each."""
    from reportlab.lib.colors import HexColor
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.pdfgen.canvas import Canvas

    width, height = A4

    class Numbered(Canvas):  # type: ignore[misc] # it has no types
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - the library's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                self._frame(number, len(self._pages))
                super().showPage()
            super().save()

        def _frame(self, number: int, pages: int) -> None:
            self.setFillColor(HexColor(BAD))
            self.rect(0, height - 12 * mm, width, 12 * mm, stroke=0, fill=1)
            self.setFillColor(HexColor("#ffffff"))
            self.setFont("NeuroSight-Bold", 9)
            self.drawCentredString(width / 2, height - 7.6 * mm, report.mark)
            self.setFillColor(HexColor(QUIET))
            self.setFont("NeuroSight", 7)
            self.drawString(18 * mm, 11 * mm, report.foot)
            self.drawRightString(width - 18 * mm, 11 * mm, report.page_of % {"page": number, "pages": pages})

    return Numbered


def _styles() -> dict[str, Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle

    plain = ParagraphStyle("plain", fontName="NeuroSight", fontSize=8.5, leading=12, textColor=HexColor(INK))
    return {
        "plain": plain,
        "quiet": ParagraphStyle("quiet", plain, textColor=HexColor(QUIET), fontSize=7.5, leading=10),
        "bold": ParagraphStyle("bold", plain, fontName="NeuroSight-Bold"),
        "title": ParagraphStyle("title", plain, fontName="NeuroSight-Bold", fontSize=16, leading=20),
        "heading": ParagraphStyle(
            "heading", plain, fontName="NeuroSight-Bold", fontSize=11, leading=14, spaceBefore=10, spaceAfter=4
        ),
        "warning": ParagraphStyle(
            "warning",
            plain,
            fontName="NeuroSight-Bold",
            textColor=HexColor(BAD),
            borderColor=HexColor(BAD),
            borderWidth=1,
            borderPadding=6,
            spaceBefore=12,
            spaceAfter=12,
        ),
    }


def _story(report: Report, width: float) -> list[Any]:
    from reportlab.platypus import Paragraph, Spacer

    styles = _styles()
    story: list[Any] = [
        Paragraph(escape(report.title), styles["title"]),
        Paragraph(escape(report.subtitle), styles["quiet"]),
        Spacer(1, 4),
    ]
    if report.warning:
        story.append(Paragraph(escape(report.warning), styles["warning"]))
    for section in report.before:
        story += _section(section, styles, width)
    if report.pictures:
        story += _pictures(report, styles, width)
    for section in report.after:
        story += _section(section, styles, width)
    return story


def _section(section: Section, styles: dict[str, Any], width: float) -> list[Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.units import mm
    from reportlab.platypus import CondPageBreak, Paragraph, Table, TableStyle

    story: list[Any] = [CondPageBreak(32 * mm), Paragraph(escape(section.title), styles["heading"])]
    tight = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
    rows = [("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
    if section.facts:
        cells = [
            [Paragraph(escape(name), styles["quiet"]), Paragraph(escape(value), styles["plain"])]
            for name, value in section.facts
        ]
        story.append(Table(cells, colWidths=[width * 0.27, width * 0.73], style=TableStyle(tight + rows)))
    story += [Paragraph(escape(text), styles["plain"]) for text in section.texts]
    if section.table:
        head, *body = section.table
        cells = [[Paragraph(escape(cell), styles["bold"]) for cell in head]]
        cells += [[Paragraph(escape(cell), styles["plain"]) for cell in row] for row in body]
        look = [*rows, ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LINE))]
        look.append(("BACKGROUND", (0, 0), (-1, 0), HexColor(SOFT)))
        widths = [width / len(head)] * len(head)
        story.append(Table(cells, colWidths=widths, repeatRows=1, style=TableStyle(look)))
    story += [Paragraph(escape(text), styles["plain"], bulletText="•") for text in section.points]
    return story


def _pictures(report: Report, styles: dict[str, Any], width: float) -> list[Any]:
    from reportlab.lib.units import mm
    from reportlab.platypus import CondPageBreak, Image, KeepTogether, Paragraph, Spacer, Table, TableStyle

    side = PICTURE_MM * mm
    # The heading stays with the first pair of pictures.
    story: list[Any] = [
        CondPageBreak(side + 40 * mm),
        Paragraph(escape(report.pictures_title), styles["heading"]),
        Paragraph(escape(report.pictures_note), styles["quiet"]),
        Spacer(1, 4),
    ]

    def picture(png: bytes, caption: str) -> list[Any]:
        image = Image(io.BytesIO(png))
        scale = side / max(image.imageWidth, image.imageHeight)
        image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
        image.hAlign = "LEFT"
        return [image, Paragraph(escape(caption), styles["quiet"])]

    for item in report.pictures:
        text = [Paragraph(escape(item.name), styles["bold"])]
        text += [Paragraph(escape(line), styles["plain"]) for line in item.lines]
        row = [picture(item.grey_png, report.captions[0])]
        row.append(picture(item.overlay_png, report.captions[1]) if item.overlay_png else [])
        row.append(text)
        gap = 3 * mm
        look = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (1, -1), 0)])
        table = Table([row], colWidths=[side + gap, side + gap, width - 2 * (side + gap)], style=look)
        story.append(KeepTogether([table, Spacer(1, 3 * mm)]))
    return story
