"""Names as they are shown, sentences behind codes, the multipart reader on cut-up bodies."""

import hashlib
import io
import re
import string
import tempfile
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from db.blobs import BlobStore
from db.queries.submissions import title_of
from imaging.outcomes import SENTENCES, Reason
from web import reception
from web.problems import Problem
from web.reception import clean_path
from web.sentences import FURTHER, UNKNOWN, english, template_of


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/b.dcm", "a/b.dcm"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\scans\\x.dcm", "scans/x.dcm"),
        ("a//./b/../c", "a/b/c"),
        ("a\x00b\r\nc", "ab c"),
        ("\u202egnp.exe", "gnp.exe"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("  ", "unnamed"),
        ("x" * 300 + "/y", "x" * 255 + "/y"),
    ],
)
def test_names_are_cleaned(name: str, shown: str) -> None:
    assert clean_path(name) == shown


@given(st.text(max_size=3000))
def test_a_clean_name_is_safe_whatever_came(name: str) -> None:
    shown = clean_path(name)
    assert 0 < len(shown) <= 1024
    assert not shown.startswith("/")
    assert "\\" not in shown
    assert not {"", ".", ".."} & set(shown.split("/"))
    assert all(character.isprintable() or character == " " for character in shown if ord(character) < 128)
    shown.encode()


@pytest.mark.parametrize(
    ("paths", "title"),
    [
        (["s/a", "s/b"], "s"),
        (["s/a", "t/b"], "a + 1"),
        (["a.zip"], "a.zip"),
        (["a", "b", "c"], "a + 2"),
        (["s/x/a"], "s"),
    ],
)
def test_a_title_is_found(paths: list[str], title: str) -> None:
    assert title_of(paths) == title


def test_every_code_has_a_sentence_that_fills_itself() -> None:
    for reason in Reason:
        detail = dict.fromkeys(re.findall(r"%\((\w+)\)", SENTENCES[reason]), 1)
        assert "%(" not in english(reason.value, detail)
        assert template_of(reason.value, detail)[0] == SENTENCES[reason]
    for code in FURTHER:
        assert english(code).endswith(".")
    assert english("") == ""
    assert english("never_heard_of") == UNKNOWN % {"code": "never_heard_of"}
    assert english(Reason.FILE_BYTES.value, {}) == UNKNOWN % {"code": "file_bytes"}, "facts are missing: no crash"


def test_a_problem_fills_its_sentence() -> None:
    problem = Problem(413, "too_large", "at most %(limit)s bytes", facts={"limit": 5})
    assert (problem.detail, problem.template, problem.title) == (
        "at most 5 bytes",
        "at most %(limit)s bytes",
        "Too large",
    )
    assert Problem(400, "x", "100 % sure").detail == "100 % sure"


class _Trickle(io.RawIOBase):
    """A body that arrives in pieces of given sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes = io.BytesIO(data), sizes

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._sizes.pop(0) if self._sizes else size
        return self._data.read(max(1, min(wanted, size)) if size > 0 else wanted)


NAMES = st.text(string.ascii_letters + string.digits + " ._-", min_size=1, max_size=12).filter(lambda n: n.strip(" ."))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("a", b"x")], [1] * 700)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=3000) | st.just(b"\r\n--bou") | st.just(b"\r\n" * 40)), max_size=5),
    st.lists(st.integers(1, 700), max_size=60),
)
def test_whatever_was_sent_arrives_however_it_was_cut(files: list[tuple[str, bytes]], sizes: list[int]) -> None:
    body = b"".join(
        b'--boundary\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in files
    )
    body += b'--boundary\r\nContent-Disposition: form-data; name="title"\r\n\r\nT\r\n--boundary--\r\n'
    app = Flask("unit")

    class Parts:
        """What the reader asks of the application."""

        class settings:  # noqa: N801 - stands for an attribute
            max_upload_files = 100

    app.extensions["neurosight"] = Parts
    with tempfile.TemporaryDirectory() as folder, app.app_context(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reception, "services", lambda: Parts)
        store = BlobStore(f"file://{folder}/blobs")
        place = Path(folder) / "spool"
        place.mkdir()
        workspace = reception._Workspace(place, store, 100, 10_000)
        received = reception._parse_form(_Trickle(body, list(sizes)), "boundary", workspace)  # type: ignore[arg-type]
        assert received.fields == {"title": "T"}
        expected = [(clean_path(name), hashlib.sha256(data).hexdigest(), len(data)) for name, data in files]
        assert [(one.path, one.sha256, one.size_bytes) for one in received.files] == expected
        assert [one.place.read_bytes() for one in received.files] == [data for _, data in files]
