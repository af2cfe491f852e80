"""Writes the lock files: every package of every requirements file, pinned and with the hashes of its files.

Owns `make lock`. One set of versions for all of them: the largest set is resolved first and constrains the others, so
that an environment made for running can be completed for testing without changing what runs. The files name no index:
packages come from wherever the machine's pip is told to look, and the hashes decide whether they are the right ones.

Refuses to upgrade by itself: versions already locked stay unless `--upgrade` is given.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FLOOR = "3.11"

LOCKS: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    # name, the lock that constrains it, further arguments
    ("requirements-dev", None, ("--universal",)),
    ("requirements-train", "requirements-dev", ("--universal",)),
    ("requirements", "requirements-dev", ("--universal",)),
    ("requirements-containers", "requirements", ("--universal",)),
    # CUDA wheels exist for one platform, that of the image.
    ("requirements-gpu", "requirements-containers", ("--python-platform", "x86_64-manylinux_2_34")),
)

HEADER = """\
# {name}.in, pinned, with the hashes of every file. Made by `make lock`; do not edit.
# Install with: pip install --require-hashes -r {name}.lock
"""


def compile_lock(name: str, constrained_by: str | None, arguments: tuple[str, ...], *, upgrade: bool) -> None:
    """Resolves `name`.in and writes `name`.lock in place."""
    target = ROOT / f"{name}.lock"
    # Both images of the containers run one Python; everything else is to work on any that is supported.
    python = PYTHON_FLOOR if "--universal" in arguments else "3.12"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / target.name
        if target.exists() and not upgrade:
            output.write_text(target.read_text())  # uv keeps the versions it finds in its output file
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--generate-hashes",
            "--no-emit-index-url", "--no-config", "--python-version", python, *arguments,
            f"{name}.in", "--output-file", str(output),
        ]  # fmt: skip
        if constrained_by:
            command += ["--constraints", f"{constrained_by}.lock"]
        subprocess.run(command, cwd=ROOT, check=True)
        body = output.read_text()
    target.write_text(HEADER.format(name=name) + _without_machine_paths(body))
    print(f"{target.name}: {sum(line[:1].isalnum() for line in body.splitlines())} packages")


def _without_machine_paths(body: str) -> str:
    # The origin comments of a constraint carry no information and may carry a path.
    return "".join(
        line for line in body.splitlines(keepends=True) if not line.strip().startswith(("#   -c ", "# via -c "))
    )


def main() -> int:
    """Writes all lock files."""
    parser = argparse.ArgumentParser(prog="python -m ops.lock", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of the locked ones")
    wanted = parser.parse_args()
    for name, constrained_by, arguments in LOCKS:
        compile_lock(name, constrained_by, arguments, upgrade=wanted.upgrade)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
