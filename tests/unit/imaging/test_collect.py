"""Files, folders and archives: everything is yielded once, and nothing gets out of its cage."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.collect import Collected, collect
from imaging.frames import Kind
from imaging.limits import Limits
from imaging.outcomes import Outcome, Reason
from imaging.reading import read_frame
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
MIB = 1024 * 1024
DICOM = to_bytes(mr(ramp()))


def png(value: int = 9) -> bytes:
    done, data = cv2.imencode(".png", np.full((4, 4), value, np.uint8))
    assert done
    return bytes(data.tobytes())


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def collected(path: Path, workdir: Path, limits: Limits = LIMITS, flag_duplicates: bool = False) -> list[Collected]:
    before = {one.name for one in workdir.parent.iterdir()}
    found = list(collect([("up", path)], limits, workdir, flag_duplicates=flag_duplicates))
    assert {one.name for one in workdir.parent.iterdir()} == before, "nothing is written outside the work folder"
    kept = {one.local_path for one in found if one.local_path is not None and one.local_path.parent == workdir}
    assert set(workdir.iterdir()) == kept, "only readable files stay in the work folder"
    for one in found:
        assert (one.local_path is None) == (one.rejection is not None)
    return found


def from_zip(data: bytes, workdir: Path, limits: Limits = LIMITS, flag_duplicates: bool = False) -> list[Collected]:
    path = workdir.parent / "up.zip"
    path.write_bytes(data)
    return collected(path, workdir, limits, flag_duplicates)


def reasons(found: list[Collected]) -> dict[str, Reason | Kind | None]:
    return {one.display_path: one.rejection.reason if one.rejection else one.kind for one in found}


def test_a_folder_is_walked_once_in_natural_order(tmp_path: Path, workdir: Path) -> None:
    top = tmp_path / "study"
    (top / "series 10").mkdir(parents=True)
    (top / "series 2").mkdir()
    (top / "empty").mkdir()
    for name in ("slice 10.png", "slice 9.png", "notes.txt"):
        (top / "series 2" / name).write_bytes(png(len(name)) if name.endswith("png") else b"notes")
    (top / "series 10" / "IM").write_bytes(DICOM)
    (top / "study.zip").write_bytes(zipped(("a/b.png", png(77))))
    found = collected(top, workdir)
    assert [(one.display_path, one.outcome) for one in found] == [
        ("up/series 2/notes.txt", Outcome.NOT_AN_IMAGE),
        ("up/series 2/slice 9.png", Outcome.ACCEPTED),
        ("up/series 2/slice 10.png", Outcome.ACCEPTED),
        ("up/series 10/IM", Outcome.ACCEPTED),
        ("up/study.zip/a/b.png", Outcome.ACCEPTED),
    ]
    assert found[3].kind is Kind.DICOM
    assert found[3].size_bytes == len(DICOM)
    assert len(found[3].sha256) == 64
    for one in found[1:]:
        assert one.local_path is not None
        assert read_frame(one.local_path, 0, LIMITS).pixels.size


def test_paths_given_keep_their_names(tmp_path: Path, workdir: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    found = list(collect([path, str(path), ("other/name.png", path)], LIMITS, workdir))
    assert [one.display_path for one in found] == [str(path), str(path), "other/name.png"]


def test_what_is_not_there_or_empty_is_said(tmp_path: Path, workdir: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "zero.dcm").write_bytes(b"")
    assert reasons(collected(tmp_path / "missing", workdir)) == {"up": Reason.FILE_MISSING}
    assert reasons(collected(tmp_path / "nothing", workdir)) == {"up": Reason.EMPTY_FOLDER}
    assert reasons(collected(tmp_path / "zero.dcm", workdir)) == {"up": Reason.EMPTY_FILE}
    assert reasons(from_zip(zipped(), workdir)) == {"up": Reason.EMPTY_ARCHIVE}
    assert reasons(from_zip(zipped(("folder/", b"")), workdir)) == {"up": Reason.EMPTY_ARCHIVE}


def test_links_and_pipes_are_neither_followed_nor_opened(tmp_path: Path, workdir: Path) -> None:
    top = tmp_path / "study"
    top.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (top / "link.png").symlink_to(tmp_path / "secret.png")
    (top / "loop").symlink_to(top)
    os.mkfifo(top / "pipe")
    assert reasons(collected(top, workdir)) == {
        "up/link.png": Reason.LINK,
        "up/loop": Reason.LINK,
        "up/pipe": Reason.SPECIAL_FILE,
    }


def test_names_that_are_no_unicode_are_shown_all_the_same(tmp_path: Path, workdir: Path) -> None:
    top = tmp_path / "study"
    top.mkdir()
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe\n.png")).write_bytes(png())
    (found,) = collected(top, workdir)
    assert found.outcome is Outcome.ACCEPTED
    assert found.display_path == "up/?? .png"


def test_duplicates_are_flagged_across_folders_and_archives(tmp_path: Path, workdir: Path) -> None:
    top = tmp_path / "study"
    top.mkdir()
    (top / "1.png").write_bytes(png())
    (top / "2.png").write_bytes(png())
    (top / "3.zip").write_bytes(zipped(("in.png", png()), ("other.png", png(3))))
    found = collected(top, workdir, flag_duplicates=True)
    assert [(one.outcome, one.duplicate_of) for one in found] == [
        (Outcome.ACCEPTED, None),
        (Outcome.DUPLICATE, "up/1.png"),
        (Outcome.DUPLICATE, "up/1.png"),
        (Outcome.ACCEPTED, None),
    ]
    assert [one.outcome for one in collected_again(top, tmp_path)] == [Outcome.ACCEPTED] * 4


def collected_again(top: Path, tmp_path: Path) -> list[Collected]:
    other = tmp_path / "other work"
    other.mkdir()
    return collected(top, other)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../app.py", Reason.NAME_ESCAPES),
        ("a/../../x.png", Reason.NAME_ESCAPES),
        ("..", Reason.NAME_ESCAPES),
        ("/etc/x", Reason.NAME_ESCAPES),
        ("C:\\x.png", Reason.NAME_ESCAPES),
        ("c:x.png", Reason.NAME_ESCAPES),
        ("\\\\server\\x", Reason.NAME_ESCAPES),
        ("a\\..\\b", Reason.NAME_ESCAPES),
        ("a\\b.png", Reason.NAME_CHARACTERS),
        ("a\x00.png", Reason.NAME_CHARACTERS),
        ("a\n.png", Reason.NAME_CHARACTERS),
        ("n" * 4_000, Reason.NAME_LENGTH),
    ],
)
def test_names_that_lead_astray_are_refused_one_by_one(name: str, reason: Reason, workdir: Path) -> None:
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    found = from_zip(zipped((entry, png(1)), ("good.png", png(2))), workdir)
    assert [one.outcome for one in found] == [Outcome.UNSAFE_NAME, Outcome.ACCEPTED]
    assert found[0].rejection is not None
    assert found[0].rejection.reason is reason
    assert len(found[0].display_path) <= 410
    assert not set(found[0].display_path) & {"\x00", "\n"}


def test_names_that_differ_in_case_or_unicode_form_are_different_files(workdir: Path) -> None:
    found = from_zip(
        zipped(("A.png", png(1)), ("a.png", png(2)), ("\u00e9.png", png(3)), ("e\u0301.png", png(4))), workdir
    )
    assert [one.outcome for one in found] == [Outcome.ACCEPTED] * 4


def test_links_in_archives_are_refused_and_nothing_goes_through_them(workdir: Path) -> None:
    link = zipfile.ZipInfo("folder")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    device = zipfile.ZipInfo("device")
    device.create_system, device.external_attr = 3, (stat.S_IFBLK | 0o666) << 16
    found = from_zip(zipped((link, b"/etc"), ("folder/x.png", png()), (device, b"")), workdir)
    assert reasons(found) == {
        "up/folder": Reason.LINK,
        "up/folder/x.png": Kind.PNG,
        "up/device": Reason.SPECIAL_FILE,
    }


def flagged(data: bytes, bit: int) -> bytes:
    """Set a general purpose bit in every local and central header."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(magic)
        while at >= 0:
            changed[at + offset] |= bit
            at = changed.find(magic, at + 4)
    return bytes(changed)


def test_encrypted_entries_are_refused(workdir: Path) -> None:
    found = from_zip(flagged(zipped(("a.png", png())), 1), workdir)
    assert [(one.outcome, str(one.rejection)) for one in found] == [
        (
            Outcome.ENCRYPTED,
            "This archive entry is protected by a password; pack the study as a zip without a password.",
        )
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused(method: int, workdir: Path) -> None:
    found = from_zip(zipped(("a.png", png()), method=method), workdir)
    assert reasons(found) == {"up/a.png": Reason.ZIP_METHOD}


def bomb(size_bytes: int) -> bytes:
    """One entry of zeros, made without holding them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros.dcm", "w") as entry:
        for _ in range(size_bytes // MIB):
            entry.write(bytes(MIB))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(zip_max_member_bytes=100 * MIB), Reason.ZIP_RATIO),
        (LIMITS, Reason.ZIP_MEMBER_BYTES),
        (Limits(zip_max_ratio=1e9, zip_max_member_bytes=10**9, zip_max_total_bytes=20 * MIB), Reason.ZIP_TOTAL_BYTES),
    ],
)
def test_bombs_are_stopped_by_what_is_really_unpacked(limits: Limits, reason: Reason, workdir: Path) -> None:
    data = bomb(60 * MIB)
    tracemalloc.start()
    started = time.perf_counter()
    found = from_zip(data, workdir, limits)
    assert time.perf_counter() - started < 3
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()
    assert reasons(found) == {"up/zeros.dcm": reason}


def lying(data: bytes, stated: int) -> bytes:
    """State another unpacked size in every header."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = changed.find(magic)
        while at >= 0:
            changed[at + offset : at + offset + 4] = struct.pack("<I", stated)
            at = changed.find(magic, at + 4)
    return bytes(changed)


def test_headers_that_lie_about_sizes(workdir: Path) -> None:
    found = from_zip(lying(zipped(("zeros", bytes(30 * MIB))), 100), workdir)
    assert reasons(found) == {"up/zeros": Reason.ENTRY_DAMAGED}
    found = from_zip(lying(zipped(("small.png", png())), 2**31), workdir)
    assert reasons(found) == {"up/small.png": Reason.ZIP_MEMBER_BYTES}


def test_a_damaged_entry_does_not_stop_the_others(workdir: Path) -> None:
    noise = np.random.default_rng(0).bytes(5_000)
    data = bytearray(zipped(("bad.png", png() + noise), ("good.png", png(3)), method=zipfile.ZIP_STORED))
    data[200] ^= 0xFF
    assert reasons(from_zip(bytes(data), workdir)) == {"up/bad.png": Reason.ENTRY_DAMAGED, "up/good.png": Kind.PNG}


def overlapping(copies: int) -> bytes:
    """Many table entries that all point at one packed kernel."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = kernel.compress(png() + bytes(900_000)) + kernel.flush()
    crc, size = zlib.crc32(png() + bytes(900_000)), len(png()) + 900_000
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0x21, crc, len(body), size, 1, 0) + b"a" + body
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0x21, crc, len(body), size, 1, 0, 0, 0, 0, 0, 0)
        + b"a"
        for _ in range(copies)
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(directory), len(local), 0)
    return local + directory + end


def test_overlapping_entries_count_once(workdir: Path) -> None:
    found = from_zip(overlapping(500), workdir)
    assert Counter(one.rejection.reason if one.rejection else one.kind for one in found) == {
        Kind.PNG: 1,
        Reason.OVERLAP: 499,
    }


def quoted(copies: int) -> bytes:
    """Entries of which each claims the headers of all that follow as its own bytes (Fifield 2019)."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    inner = kernel.compress(bytes(900_000)) + kernel.flush()
    crc = zlib.crc32(bytes(900_000))
    packed = [len(inner) + 31 * (copies - 1 - number) for number in range(copies)]
    body = b"".join(
        struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0x21, crc, size, 900_000, 1, 0) + b"a" for size in packed
    )
    directory = b"".join(
        struct.pack("<4s6H3L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0x21, crc, size, 900_000)
        + struct.pack("<5H2L", 1, 0, 0, 0, 0, 0, 31 * number)
        + b"a"
        for number, size in enumerate(packed)
    )
    body += inner
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(directory), len(body), 0)


def test_entries_that_quote_each_other_are_refused(workdir: Path) -> None:
    found = from_zip(quoted(50), workdir)
    assert len(found) == 50
    assert Counter(one.rejection.reason for one in found if one.rejection)[Reason.OVERLAP] == 49


def test_what_calls_itself_a_picture_is_told_by_its_content(workdir: Path) -> None:
    found = from_zip(
        zipped(
            ("a.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
            ("b.jpg", b"<?xml version='1.0'?><!-- --><svg onload='alert(1)'/>"),
            ("c.jpg", b"<!DOCTYPE html><script>alert(1)</script>"),
            ("d.jpg.html", png(1)),
            ("e.png", b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)"),
            ("f.png", b"%PDF-1.7 " + png(2)),
            ("g.png", png(3) + zipped(("inside.png", png(4)))),
            ("h.dcm", b"MZ" + DICOM[2:]),
        ),
        workdir,
    )
    assert {one.display_path: str(one.rejection)[:40] if one.rejection else one.kind for one in found} == {
        "up/a.jpg": "This is a picture in the format SVG, whi",
        "up/b.jpg": "This is a picture in the format SVG, whi",
        "up/c.jpg": "This is a web page, not an image that ca",
        "up/d.jpg.html": Kind.PNG,
        "up/e.png": "This is a picture in the format GIF, whi",
        "up/f.png": "This is a PDF document, not an image tha",
        "up/g.png": Kind.PNG,  # what hangs on behind is never unpacked
        "up/h.dcm": "This file is two things at once: a DICOM",
    }


def test_names_that_turn_around_or_hide_are_shown_plainly(workdir: Path) -> None:
    names = ["scan\u202egnp.exe", "a\u200f\u2066b.png", "x\ufeff.png", "\U000e0041.png", "n" * 900 + ".png"]
    found = from_zip(zipped(*((name, png(place)) for place, name in enumerate(names))), workdir)
    assert [one.outcome for one in found] == [Outcome.ACCEPTED] * 5
    assert [one.display_path for one in found][:3] == ["up/scangnp.exe", "up/ab.png", "up/x.png"]
    assert all(one.display_path.isprintable() for one in found)


def test_the_bytes_of_archives_inside_count_together(workdir: Path) -> None:
    noise = np.random.default_rng(3).bytes(600_000)
    inner = [zipped((f"{place}.png", png(place) + noise), method=zipfile.ZIP_STORED) for place in range(8)]
    data = zipped(*((f"{place}.zip", one) for place, one in enumerate(inner)))
    found = from_zip(data, workdir, Limits(zip_max_total_bytes=5 * MIB))
    # Each takes its bytes twice, as an archive and as what is in it.
    assert Counter(one.rejection.reason if one.rejection else one.kind for one in found) == {
        Kind.PNG: 4,
        Reason.ZIP_TOTAL_BYTES: 4,
    }


def many_empty_entries(count: int) -> bytes:
    """An archive of so many empty entries, written by hand because zipfile would take minutes."""
    names = [b"%07d" % number for number in range(count)]
    local = b"".join(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0x21, 0, 0, 0, 7, 0) + n for n in names)
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0x21, 0, 0, 0, 7, 0, 0, 0, 0, 0, 37 * number) + name
        for number, name in enumerate(names)
    )
    few = min(count, 3)  # the end record may say anything
    return local + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, few, few, len(directory), len(local), 0)


def test_a_million_empty_entries_are_refused_without_listing_them(workdir: Path) -> None:
    data = many_empty_entries(1_000_000)
    tracemalloc.start()
    started = time.perf_counter()
    found = from_zip(data, workdir)
    assert time.perf_counter() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    tracemalloc.stop()
    assert reasons(found) == {"up": Reason.ZIP_DIRECTORY}


def test_more_entries_than_allowed(workdir: Path) -> None:
    found = from_zip(many_empty_entries(20_001), workdir)
    assert reasons(found) == {"up": Reason.ZIP_ENTRIES}
    assert len(from_zip(many_empty_entries(300), workdir)) == 300


def inside(levels: int, innermost: bytes) -> bytes:
    data = innermost
    for level in range(levels):
        data = zipped((f"level{level}.zip" if level else "slice.png", data), method=zipfile.ZIP_STORED)
    return data


def test_archives_inside_archives_to_a_stated_depth(workdir: Path) -> None:
    (good,) = from_zip(inside(3, png()), workdir)
    assert good.outcome is Outcome.ACCEPTED
    assert good.display_path == "up/level2.zip/level1.zip/slice.png"


def test_archives_inside_archives_too_deep(workdir: Path) -> None:
    (refused,) = from_zip(inside(6, png()), workdir)
    assert refused.rejection is not None
    assert refused.rejection.reason is Reason.ZIP_DEPTH
    assert "more than the 2 levels" in str(refused.rejection)


def test_the_budget_is_shared_by_archives_inside(workdir: Path) -> None:
    inner = zipped(*((f"{number}.png", png(number)) for number in range(6)))
    data = zipped(("a.zip", inner), ("b.zip", inner))
    assert len(from_zip(data, workdir, Limits(zip_max_entries=14))) == 12
    for left in workdir.iterdir():
        left.unlink()
    found = from_zip(data, workdir, Limits(zip_max_entries=13))
    assert Counter(one.outcome for one in found) == {Outcome.ACCEPTED: 6, Outcome.OVER_LIMIT: 1}


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data[:-30],
        lambda data: data[: len(data) // 2],
        lambda data: data[:4] + bytes(100),
        lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x09"),
        lambda data: data[:-6] + b"\xff\xff\xff\xff\x00\x00",
        lambda data: data[:-10] + b"\xff\xff\xff\x01" + data[-6:],
    ],
)
def test_a_broken_archive_is_one_refusal(break_it: Callable[[bytes], bytes], workdir: Path) -> None:
    data = break_it(zipped(*((f"{number}.png", png(number)) for number in range(5))))
    found = from_zip(data, workdir)
    assert reasons(found) == {"up": Reason.ARCHIVE_DAMAGED}


def test_html_in_front_of_an_archive_is_html(workdir: Path) -> None:
    (found,) = from_zip(b"<html><script>1</script>" + zipped(("a.png", png())), workdir)
    assert found.rejection is not None
    assert found.rejection.detail == {"found": "a web page"}


def test_zip64_archives_are_read(workdir: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a.png", "w", force_zip64=True) as entry:
        entry.write(png())
    data = buffer.getvalue()
    end = data.rindex(b"PK\x05\x06")
    size, at = struct.unpack_from("<2L", data, end + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    masked = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert reasons(from_zip(data[:end] + record + locator + masked, workdir)) == {"up/a.png": Kind.PNG}


def test_a_mixed_archive_accounts_for_every_file(workdir: Path) -> None:
    data = zipped(
        ("a.dcm", DICOM),
        ("b.txt", b"words"),
        ("__MACOSX/._a.dcm", b"\x00\x05\x16\x07rest"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("c.svg", b"<svg onload='alert(1)'/>"),
        ("empty.dcm", b""),
        ("copy.dcm", DICOM),
    )
    found = from_zip(data, workdir, flag_duplicates=True)
    assert Counter(one.outcome for one in found) == {
        Outcome.ACCEPTED: 1,
        Outcome.NOT_AN_IMAGE: 1,
        Outcome.IGNORED: 2,
        Outcome.UNSUPPORTED: 1,
        Outcome.EMPTY: 1,
        Outcome.DUPLICATE: 1,
    }


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, workdir: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png() + bytes(10_000))
    assert reasons(collected(path, workdir, Limits(max_file_bytes=5_000))) == {"up": Reason.FILE_BYTES}


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    path = tmp_path / "up.zip"
    path.write_bytes(zipped(("a.png", png())))
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError, match="gone"):
        list(collect([path], LIMITS, gone))


def test_an_entry_without_a_name_and_a_folder_with_content(workdir: Path) -> None:
    data = zipped(("x", png(1)), ("folder/", png(2)), ("y.png", png(3)), method=zipfile.ZIP_STORED)
    at = data.index(b"PK\x01\x02")
    nameless = bytearray(data)
    # Let the first table entry's name be part of its comment instead.
    nameless[at + 28 : at + 34] = struct.pack("<3H", 0, 0, 1)
    assert reasons(from_zip(bytes(nameless), workdir)) == {
        "up/entry 1": Reason.ENTRY_DAMAGED,  # its two headers disagree
        "up/folder/": Reason.SPECIAL_FILE,
        "up/y.png": Kind.PNG,
    }


def test_random_damage_never_escapes_as_another_error(workdir: Path) -> None:
    random = np.random.default_rng(5)
    wholes = [zipped(("a.dcm", DICOM), ("b/c.png", png())), inside(3, png()), overlapping(4), many_empty_entries(9)]
    outcomes = Counter[Outcome]()
    for _ in range(400):
        data = bytearray(wholes[random.integers(len(wholes))])
        first = max(0, len(data) - 300) if random.random() < 0.5 else 4
        for at in random.integers(first, len(data), random.integers(1, 8)):
            data[at] = int(random.choice([0, 1, 255, int(random.integers(0, 256))]))
        found = from_zip(bytes(data), workdir)
        outcomes.update(one.outcome for one in found)
        for left in workdir.iterdir():
            left.unlink()
    assert outcomes[Outcome.UNREADABLE] > 50
    assert outcomes[Outcome.ACCEPTED] > 50
