"""The artefact: written whole or not at all, loaded only when every byte is the promised one."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference import artefact as artefacts
from inference.errors import ArtefactError, ArtefactNotFoundError, DigestMismatchError
from tests.tiny_artefact import TINY_ARTEFACT, tiny_digest


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def resealed(members: dict[str, bytes]) -> bytes:
    """Packs altered members under a manifest with their right checksums: only what they hold is wrong then."""
    manifest = json.loads(members["manifest.json"])
    for name, facts in manifest["members"].items():
        facts["sha256"] = hashlib.sha256(members[name]).hexdigest()
        facts["size_bytes"] = len(members[name])
    return packed(members | {"manifest.json": json.dumps(manifest).encode()})


@pytest.fixture
def tiny() -> artefacts.Artefact:
    return artefacts.load(TINY_ARTEFACT)


def write_again(path: Path, tiny: artefacts.Artefact) -> str:
    return artefacts.write(path, tiny.manifest, tiny.weights(), tiny.openvino_xml, tiny.openvino_bin, tiny.model_card)


def test_round_trip_keeps_everything_and_gives_the_same_bytes(tmp_path: Path, tiny: artefacts.Artefact) -> None:
    digest = write_again(tmp_path / "a.neurosight", tiny)

    assert digest == tiny_digest(), "the same content must give the same file"
    again = artefacts.load(tmp_path / "a.neurosight", digest)
    assert again == tiny
    assert again.manifest.class_names == ("glioma", "meningioma", "pituitary", "no_tumor")
    assert set(again.weights()) == set(tiny.weights())
    assert all(np.array_equal(array, tiny.weights()[path]) for path, array in again.weights().items())


def test_file_is_readable_by_others_and_nothing_else_is_left(tmp_path: Path, tiny: artefacts.Artefact) -> None:
    write_again(tmp_path / "models" / "a.neurosight", tiny)

    (only,) = (tmp_path / "models").iterdir()
    assert only.name == "a.neurosight"
    assert stat.S_IMODE(only.stat().st_mode) == 0o644


def test_holds_no_path_of_the_machine_that_made_it(tiny: artefacts.Artefact) -> None:
    text = tiny.openvino_xml.decode()

    assert "tmp" not in text
    assert str(Path.cwd()) not in text


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, tiny: artefacts.Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.neurosight"
    write_again(path, tiny)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        artefacts.write(path, replace(tiny.manifest, temperature=2.0), tiny.weights(), b"<net/>", b"", "# Card")

    assert [entry.name for entry in tmp_path.iterdir()] == ["a.neurosight"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tiny_digest()


def test_weights_with_nan_are_never_written(tmp_path: Path, tiny: artefacts.Artefact) -> None:
    weights = tiny.weights()
    weights["head_scores/bias"] = np.array([0, np.nan, 0, 0], np.float32)

    with pytest.raises(ArtefactError, match=r"head_scores/bias holds NaN or infinity; the training diverged"):
        artefacts.write(tmp_path / "a.neurosight", tiny.manifest, weights, b"<net/>", b"", "# Card")
    assert list(tmp_path.iterdir()) == []


def test_name_must_have_the_suffix(tmp_path: Path, tiny: artefacts.Artefact) -> None:
    with pytest.raises(ArtefactError, match=r"ends in \.neurosight; received 'a\.zip'"):
        write_again(tmp_path / "a.zip", tiny)


def test_another_digest_than_the_promoted_one_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.neurosight"
    path.write_bytes(b"no zip at all")

    with pytest.raises(DigestMismatchError, match=r"a\.neurosight has SHA-256 \w{64}; expected 0{64}\. .* promoted"):
        artefacts.load(path, "0" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactNotFoundError, match=r"no model artefact 'gone\.neurosight' in "):
        artefacts.load(tmp_path / "gone.neurosight")
    with pytest.raises(ArtefactNotFoundError, match="no model artefact"):
        artefacts.load(tmp_path)


def change_size(content: bytes, name: str, size: int) -> bytes:
    """Lies about a member's unpacked size in the table of contents."""
    data = bytearray(content)
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    data[at + 24 : at + 28] = size.to_bytes(4, "little")
    return bytes(data)


def flip(content: bytes, name: str) -> bytes:
    """Damages one byte in the middle of a member."""
    data = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = archive.getinfo(name)
    data[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 0xFF
    return bytes(data)


TINY = TINY_ARTEFACT.read_bytes()
MEMBERS = members_of(TINY)
ZEROS = bytes(40 * 1024 * 1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "not a readable model artefact"),
        (lambda: TINY[: len(TINY) // 2], "not a readable model artefact"),
        (lambda: flip(TINY, "openvino.bin"), "not a readable model artefact"),
        (lambda: flip(TINY, "weights.npz"), "not a readable model artefact"),
        (lambda: packed({name: MEMBERS[name] for name in MEMBERS if name != "openvino.bin"}), "expected exactly"),
        (lambda: packed(MEMBERS | {"setup.py": b"print()"}), "expected exactly"),
        (lambda: packed(MEMBERS | {"../evil": b""}), "expected exactly"),
        (lambda: packed({f"member{number}": b"" for number in range(5000)}), "expected exactly"),
        (lambda: packed(MEMBERS, zipfile.ZIP_BZIP2), "packed in a way this software never uses"),
        (lambda: packed(MEMBERS | {"openvino.bin": ZEROS}), "unpacks from .* to 41943040 bytes; at most"),
        (lambda: packed(MEMBERS | {"model_card.md": os.urandom(5 << 20)}), "at most 4194304 bytes"),
        (lambda: change_size(TINY, "openvino.xml", 10), "not a readable model artefact|another size"),
        (lambda: change_size(TINY, "openvino.xml", 10**6), "another size than it says"),
        (lambda: packed(MEMBERS | {"openvino.xml": b"<net/>"}), "openvino.xml is not the one that manifest.json"),
        (lambda: resealed(MEMBERS | {"model_card.md": b"\xff\xfe"}), "not UTF-8"),
        (lambda: packed(MEMBERS | {"manifest.json": b"{}"}), "format version None; this software reads versions 1"),
    ],
    ids=[
        "empty", "cut", "damaged-graph", "damaged-weights", "missing", "extra", "escaping", "many", "bzip2", "bomb",
        "large-card", "says-smaller", "says-larger", "altered", "card-no-text", "no-manifest",
    ],
)  # fmt: skip
def test_hostile_and_damaged_files_are_refused(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "hostile.neurosight"
    path.write_bytes(content())

    with pytest.raises(ArtefactError, match=message):
        artefacts.load(path)


def test_a_member_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.neurosight"
    path.write_bytes(TINY)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("openvino.xml", b"<net/>")

    with pytest.raises(ArtefactError, match="expected exactly"):
        artefacts.load(path)


def test_bad_weights_in_a_sealed_artefact_are_found_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "bad.neurosight"
    path.write_bytes(resealed(MEMBERS | {"weights.npz": b"\x80\x04N."}))

    with pytest.raises(ArtefactError, match=r"weights\.npz is not a readable archive"):
        artefacts.load(path).weights()


def test_loading_needs_no_tensorflow() -> None:
    code = (
        "import sys; from pathlib import Path; from inference.predictor import open_predictor\n"
        f"open_predictor(Path({str(TINY_ARTEFACT)!r})).close()\n"
        "assert not {'tensorflow', 'keras', 'pickle5', 'joblib'} & set(sys.modules), 'imported too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
