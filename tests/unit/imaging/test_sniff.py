"""Formats are told by content; names matter only for files that systems leave behind."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from imaging.frames import Kind
from imaging.outcomes import Outcome, Reason
from imaging.sniff import ZIP, jpeg_size, sniff, stated_size
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes


def picture(form: str, size: tuple[int, int] = (7, 5)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, 9).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "kind"), [("PNG", Kind.PNG), ("JPEG", Kind.JPEG), ("TIFF", Kind.TIFF), ("BMP", Kind.BMP)]
)
def test_pictures_are_known_whatever_their_name(form: str, kind: Kind) -> None:
    for name in ("a.png", "Thumbs.db", "x.jpg.html", ""):
        assert sniff(picture(form), name).kind is kind


def test_dicom_is_known_with_and_without_preamble() -> None:
    data = to_bytes(mr(ramp()))
    assert sniff(data).kind is Kind.DICOM
    assert sniff(data[132:]).kind is Kind.DICOM, "file meta group first"
    bare = data[data.index(b"\x08\x00\x16\x00UI") :]
    assert sniff(bare).kind is Kind.DICOM, "data set first"
    implicit = b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100\x08\x00\x16\x00"
    assert sniff(implicit).kind is Kind.DICOM
    assert sniff(b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100").kind is Kind.DICOM, "big endian"


@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"PK\x05\x06"])
def test_zip_is_known(magic: bytes) -> None:
    assert sniff(magic + b"\x00" * 30).kind == ZIP


@pytest.mark.parametrize(
    ("head", "reason", "found"),
    [
        (b"GIF89a" + b"\x00" * 20, Reason.IMAGE_FORMAT, "GIF"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", Reason.IMAGE_FORMAT, "WebP"),
        (b"8BPS\x00\x01", Reason.IMAGE_FORMAT, "Photoshop"),
        (b"SIMPLE  =                    T", Reason.IMAGE_FORMAT, "FITS"),
        (b"%PDF-1.7\n", Reason.OTHER_FORMAT, "a PDF document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.IMAGE_FORMAT, "SVG"),
        (b"<?xml version='1.0'?><!-- x --><svg/>", Reason.IMAGE_FORMAT, "SVG"),
        (b"<!DOCTYPE html><script>alert(1)</script>", Reason.OTHER_FORMAT, "a web page"),
        (b"<html>\x89PNG\r\n\x1a\n", Reason.OTHER_FORMAT, "a web page"),
        (b"\x7fELF\x02\x01", Reason.OTHER_FORMAT, "a program"),
        (b"MZ\x90\x00", Reason.OTHER_FORMAT, "a program"),
        (b"\x1f\x8b\x08\x00", Reason.ARCHIVE_FORMAT, "gzip"),
        (b"7z\xbc\xaf\x27\x1c", Reason.ARCHIVE_FORMAT, "7-Zip"),
        (b"Rar!\x1a\x07\x01\x00", Reason.ARCHIVE_FORMAT, "RAR"),
    ],
)
def test_other_formats_are_named(head: bytes, reason: Reason, found: str) -> None:
    rejection = sniff(head, "picture.png").rejection
    assert rejection is not None
    assert (rejection.reason, rejection.detail["found"]) == (reason, found)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", Reason.EMPTY_FILE),
        (b"plain words\n", Reason.TEXT),
        ("Grüße aus Köln".encode(), Reason.TEXT),
        ("naïve".encode("latin-1"), Reason.TEXT),
        (bytes(range(256)) * 4, Reason.UNKNOWN_CONTENT),
        (b"\x00", Reason.UNKNOWN_CONTENT),
        (b"\x00" * 4096, Reason.UNKNOWN_CONTENT),
    ],
)
def test_what_is_no_image_is_said_plainly(head: bytes, reason: Reason) -> None:
    rejection = sniff(head, "slice.png").rejection
    assert rejection is not None
    assert rejection.reason is reason


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a/Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("a/.DS_Store", b"\x00\x00\x00\x01Bud1"),
        ("__MACOSX/a/._1.dcm", b"\x00\x05\x16\x07"),
        ("a/desktop.ini", b"[.ShellClassInfo]"),
        ("a/.localized", b""),
    ],
)
def test_what_systems_leave_behind_is_ignored(name: str, head: bytes) -> None:
    rejection = sniff(head, name).rejection
    assert rejection is not None
    assert rejection.outcome is Outcome.IGNORED


@pytest.mark.parametrize("preamble", [b"MZ", b"\x7fELF", b"%PDF-1.4", b"PK\x03\x04", b"<html>", b"\xff\xd8\xff"])
def test_dicom_disguised_as_something_else_is_refused(preamble: bytes) -> None:
    data = preamble.ljust(128, b"\x00") + to_bytes(mr(ramp()))[128:]
    rejection = sniff(data).rejection
    assert rejection is not None
    assert rejection.reason is Reason.DISGUISED


def test_a_tiff_preamble_is_legal() -> None:
    assert sniff(b"II*\x00".ljust(128, b"\x00") + to_bytes(mr(ramp()))[128:]).kind is Kind.DICOM


@pytest.mark.parametrize(("form", "kind"), [("PNG", Kind.PNG), ("JPEG", Kind.JPEG), ("BMP", Kind.BMP)])
def test_the_stated_size_is_read_without_decoding(form: str, kind: Kind) -> None:
    assert stated_size(kind, picture(form, (123, 45))) == (123, 45)


def test_jpeg_size_skips_segments_and_fill_bytes() -> None:
    data = picture("JPEG", (60, 40))
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 6) + b"\xff\xc0no!\x00"
    assert jpeg_size(data[:2] + comment + b"\xff" + data[2:]) == (60, 40)
    assert jpeg_size(data[:20]) is None
    assert jpeg_size(b"\xff\xd8" + b"\xff\xfe\x00\x00" * 10) is None, "a length of zero must not loop"
