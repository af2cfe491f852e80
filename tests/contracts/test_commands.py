"""The commands a person types: make's targets, the environment's lock files, the settings page."""

import re
import subprocess
import sys
import tomllib

import pytest

from config.settings import ROOT
from ops import environment, settings_page

MAKEFILE = (ROOT / "Makefile").read_text()
STEPS = {"environment", "environment-dev"}
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)) - STEPS
LOCKS = ("requirements", "requirements-dev", "requirements-train", "requirements-containers", "requirements-gpu")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)(?: ; ([^\\]+?))? \\$", re.MULTILINE)


def pins(name: str) -> dict[tuple[str, str], str]:
    """Version by (package, environment marker)."""
    return {(package, marker): version for package, version, marker in PIN.findall((ROOT / f"{name}.lock").read_text())}


def test_make_alone_lists_every_command() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z-]+) ", done.stdout, re.MULTILINE)) == TARGETS
    assert {"demo", "up", "doctor", "test", "check", "bench", "clean-state"} <= TARGETS
    declared = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == TARGETS | STEPS, "a file of that name must not hide a command"
    assert "research use only" in done.stdout


def test_every_make_target_runs_something_that_exists() -> None:
    for target in sorted(TARGETS - {"help"}):
        plan = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for module in re.findall(r"-m (\S+)", plan):
            if module == "pytest":
                continue
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{target}: {module}"


def test_ops_commands_are_documented() -> None:
    done = subprocess.run([sys.executable, "-m", "ops", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in (
        "up",
        "demo",
        "doctor",
        "sweep",
        "dataset",
        "audit",
        "retention",
        "standings",
        "settings",
        "clean-state",
        "prepare",
        "worker-health",
    ):
        assert re.search(rf"^    {command} ", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_and_hash_everything_and_name_no_index(name: str) -> None:
    text = (ROOT / f"{name}.lock").read_text()
    entries = re.findall(r"^[A-Za-z0-9].*$", text, re.MULTILINE)
    assert len(entries) == len(PIN.findall(text))
    assert len(entries) > 50
    assert text.count("--hash=sha256:") >= len(entries)
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_everything_the_requirements_ask_for(name: str) -> None:
    locked = {package.lower().replace("_", "-") for package, _marker in pins(name)}
    wanted, files = set(), [f"{name}.in"]
    while files:
        for line in (ROOT / files.pop()).read_text().splitlines():
            if line.startswith("-r "):
                files.append(line[3:].strip())
            elif line.strip() and not line.startswith("#"):
                wanted.add(re.split(r"[\[ ;=<>]", line, maxsplit=1)[0].lower())
    assert wanted - locked == set()


def test_testing_installs_exactly_what_runs() -> None:
    """`make test` completes the environment of `make demo`; it must not change a version in it."""
    everything = pins("requirements-dev")
    for name in ("requirements", "requirements-train"):
        assert set(pins(name).items()) - set(everything.items()) == set(), name


def test_a_training_environment_runs_the_system_as_well() -> None:
    """`make environment-train` and `make up` share one environment, and neither undoes the other."""
    assert set(pins("requirements").items()) - set(pins("requirements-train").items()) == set()
    assert "requirements-train.lock" in environment.KINDS["runtime"]


def test_what_runs_needs_no_tensorflow() -> None:
    for name in ("requirements", "requirements-containers"):
        assert {package for package, _ in pins(name)} & {"tensorflow", "tensorflow-cpu", "keras"} == set()


def test_settings_page_is_current() -> None:
    assert settings_page.PAGE.read_text() == settings_page.render(), "run make docs"


def test_python_floor_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert "not (3, 11) <= sys.version_info[:2]" in (ROOT / "ops" / "python.sh").read_text()
