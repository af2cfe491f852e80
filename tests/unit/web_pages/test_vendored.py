"""The vendored front-end files are the ones that VENDORED.md names, and nothing else lies beside them."""

import hashlib
import re

from config.settings import ROOT
from ops.vendor import PACKAGES

FOLDER = ROOT / "web" / "static" / "vendor"
ROW = re.compile(
    r"^\| (?P<file>\S+) \| (?P<package>\S+) \| (?P<version>\S+) \| (?P<licence>\S+) \| `(?P<digest>\w+)` \|$"
)


def rows() -> dict[str, dict[str, str]]:
    lines = (FOLDER / "VENDORED.md").read_text(encoding="utf-8").splitlines()
    return {found["file"]: found.groupdict() for line in lines if (found := ROW.match(line))}


def test_every_file_has_the_digest_of_the_list() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.iterdir()}
    del found["VENDORED.md"]
    assert found == {name: row["digest"] for name, row in rows().items()}


def test_the_list_is_what_make_vendor_would_fetch() -> None:
    wanted = {
        name: (package.name, package.version, package.licence) for package in PACKAGES for _, name in package.files
    }
    assert {name: (row["package"], row["version"], row["licence"]) for name, row in rows().items()} == wanted


def test_every_library_brings_its_licence() -> None:
    for package in PACKAGES:
        assert any(name.endswith(".LICENSE") for _, name in package.files), package.name
