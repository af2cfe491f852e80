"""The pointer to the default model."""

import shutil
from pathlib import Path

import pytest

from inference.artefact import load
from inference.errors import ArtefactError, ArtefactNotFoundError, DigestMismatchError
from inference.shipped import default_model
from tests.tiny_artefact import TINY_ARTEFACT, tiny_digest


def test_points_to_a_file_and_its_digest(tmp_path: Path) -> None:
    shutil.copy(TINY_ARTEFACT, tmp_path / "a.neurosight")
    (tmp_path / "DEFAULT").write_text(f"{tiny_digest()}  a.neurosight\n")

    path, digest = default_model(tmp_path)

    assert load(path, digest).digest == tiny_digest()
    path.write_bytes(b"replaced")
    with pytest.raises(DigestMismatchError, match="not the promoted model"):
        load(*default_model(tmp_path))


def test_no_pointer(tmp_path: Path) -> None:
    shutil.copy(TINY_ARTEFACT, tmp_path / "a.neurosight")
    with pytest.raises(ArtefactNotFoundError, match=r"there is no default model: .*DEFAULT is missing\. Name a model"):
        default_model(tmp_path)


def test_pointer_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "DEFAULT").write_text(f"{'0' * 64}  a.neurosight\n")
    with pytest.raises(ArtefactNotFoundError, match=r"names a\.neurosight, which is not in"):
        default_model(tmp_path)


@pytest.mark.parametrize(
    "line", ["", "a.neurosight", f"{'0' * 64}  ../a.neurosight", f"{'0' * 64}  a.keras", f"{'0' * 63}  a.neurosight"]
)
def test_pointer_of_another_form(tmp_path: Path, line: str) -> None:
    (tmp_path / "DEFAULT").write_text(line)
    with pytest.raises(ArtefactError, match=r"expected one line: SHA-256, two spaces, the name of a \.neurosight file"):
        default_model(tmp_path)
