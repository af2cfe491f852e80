"""Fetches the front-end libraries from the npm registry into web/static/vendor, once, for the repository.

Owns which versions are vendored and the list of their digests (VENDORED.md). Pages load nothing from anywhere else:
hospital networks are closed. Run with `make vendor` after changing a version; needs npm.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from config.settings import ROOT

FOLDER = ROOT / "web" / "static" / "vendor"


@dataclass(frozen=True)
class Package:
    """One npm package and the files taken from it."""

    name: str
    version: str
    licence: str
    files: tuple[tuple[str, str], ...]
    """(path in the package, file name here)."""


PACKAGES = (
    Package("htmx.org", "2.0.11", "0BSD", (("dist/htmx.min.js", "htmx.min.js"), ("LICENSE", "htmx.LICENSE"))),
    Package("@picocss/pico", "2.1.1", "MIT", (("css/pico.min.css", "pico.min.css"), ("LICENSE.md", "pico.LICENSE"))),
)


def fetch(package: Package) -> dict[str, bytes]:
    """Downloads one package and returns the wanted files by their name here.

    Raises:
        subprocess.CalledProcessError: When npm fails; its message is on standard error.
        KeyError: When the package has no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", f"{package.name}@{package.version}"], cwd=folder, check=True, capture_output=True
        )
        archive = next(Path(folder).glob("*.tgz")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        contents = {}
        for source, name in package.files:
            member = tar.extractfile(f"package/{source}")
            if member is None:
                raise KeyError(f"{package.name} {package.version} has no file {source}")
            contents[name] = member.read()
    return contents


def table(contents: dict[str, bytes]) -> str:
    """The text of VENDORED.md for these files."""
    lines = [
        "# Vendored front-end files",
        "",
        "Written by `make vendor`; a test compares the digests. Each licence stands beside its file.",
        "",
        "| file | package | version | licence | SHA-256 |",
        "|---|---|---|---|---|",
    ]
    for package in PACKAGES:
        for _, name in package.files:
            digest = hashlib.sha256(contents[name]).hexdigest()
            lines.append(f"| {name} | {package.name} | {package.version} | {package.licence} | `{digest}` |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Fetches all packages and writes files and table."""
    contents: dict[str, bytes] = {}
    for package in PACKAGES:
        contents |= fetch(package)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (FOLDER / name).write_bytes(data)
    (FOLDER / "VENDORED.md").write_text(table(contents), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
