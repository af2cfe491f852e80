"""The house's import rules, and that its packages are the repository's own."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.settings import ROOT

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


def test_imports_point_down_the_house() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_cover_every_package_of_the_repository() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {
        "tests",
        "benchmarks",
        "examples",
        "migrations",
    }
    assert found == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_resolves_inside_the_repository(package: str) -> None:
    """A name such as `config` could come from anywhere on the path; ours has to win."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT), f"{package} comes from {spec.origin}"


def test_a_forbidden_import_is_found(tmp_path: Path) -> None:
    """The check can fail: the same rules refuse a web that imports a network."""
    house = tmp_path / "house"
    for package in PACKAGES:
        (house / package).mkdir(parents=True)
        (house / package / "__init__.py").write_text("")
    (house / "web" / "__init__.py").write_text("import inference\n")
    (house / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=house, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "web -> inference" in done.stdout


@pytest.mark.parametrize("package", ["web", "worker", "gateway", "ops", "client"])
def test_importing_does_nothing_heavy(package: str) -> None:
    """What every process imports first must not pull in a network library."""
    heavy = "{'tensorflow', 'keras', 'openvino'}"
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}, sys; print(sorted({heavy} & set(sys.modules)))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
