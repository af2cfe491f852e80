"""Which files are sent, what refusals say, and what is shown."""

import io
from pathlib import Path
from typing import Any

import pytest

from client.api import Sending
from client.console import Console, summary
from client.files import gather
from client.transport import Refused, Transport


def test_a_folder_keeps_its_name_and_order(tmp_path: Path) -> None:
    top = tmp_path / "study"
    for name in ("b/2.dcm", "b/1.dcm", "a.png"):
        place = top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode())
    (top / "link").symlink_to(top / "a.png")
    (top / "loop").symlink_to(top)
    files = gather([top])
    assert [file.name for file in files] == ["study/a.png", "study/b/1.dcm", "study/b/2.dcm"]
    assert files[0].size_bytes == 5
    assert len({file.sha256 for file in files}) == 3


def test_equal_names_of_different_folders_stay_apart(tmp_path: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side / "s").mkdir(parents=True)
        (tmp_path / side / "s" / "x").write_text(side)
    files = gather([tmp_path / "left" / "s", tmp_path / "right" / "s", tmp_path / "left" / "s"])
    assert [file.name for file in files] == ["s/x", "2/s/x"]


def test_nothing_and_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file in"):
        gather([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"there is no .*missing"):
        gather([tmp_path / "missing"])


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "http://"])
def test_urls_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="expected https://HOST or http://HOST:PORT"):
        Transport(url, "token")


def test_a_refusal_says_what_the_server_said() -> None:
    refused = Refused(413, {"detail": "Too many bytes.", "code": "too_large"})
    assert str(refused) == "Too many bytes. (413 too_large)"
    assert refused.code == "too_large"


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    console = Console(out)
    console.sending(Sending(2, 2048, 0, 0))
    console.sending(Sending(2, 2048, 1, 1024))  # too soon for another line
    console.sending(Sending(2, 2048, 1, 1024, 0, "the connection broke; trying again in 0.5 s"))
    console.sending(Sending(2, 2048, 2, 2048))
    lines = out.getvalue().splitlines()
    assert lines[0] == "  0 % sending 0/2 files, 0 B of 2.0 kB"
    assert "the connection broke" in lines[1]
    assert lines[-1] == "100 % sending 2/2 files, 2.0 kB of 2.0 kB"
    assert len(lines) == 3
    assert "\r" not in out.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal() -> None:
    out = _Terminal()
    Console(out).sending(Sending(2, 2000, 2, 2000))
    assert "[##############################] sending 2/2 files" in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_the_summary_names_failures_and_the_notice() -> None:
    job: dict[str, Any] = {
        "id": "J",
        "state": "partial",
        "files": {"outcomes": {"accepted": 2, "not_an_image": 1}},
        "slices": {"total": 2, "done": 1, "failed": 1, "cancelled": 0},
        "failure": None,
        "duplicate_of": "K",
    }
    support = [{"class_name": "glioma", "slices": 1}]
    study = {"title": "S", "summary": {"finding": "tumour", "support": support}, "notice": "Research use only."}
    text = summary(job, [study])
    assert "Job J: partial" in text
    assert "3 looked at, 2 accepted, 1 not an image" in text
    assert "1 failed" in text
    assert "job K" in text
    assert "study S: tumour (glioma on 1 slices)" in text
    assert text.endswith("Research use only.")
