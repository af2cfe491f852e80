"""The quality gates that need no running system: `make check`.

Owns the list of gates and runs all of them, so that one run names everything that is wrong. Refuses to fix anything.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "db", "imaging", "inference", "exchange", "training", "worker", "web", "client", "ops")

ONE_HEAD = """
from alembic.script import ScriptDirectory
heads = ScriptDirectory("migrations").get_heads()
if len(heads) != 1:
    raise SystemExit(f"expected one migration head, found {len(heads)}: {', '.join(heads)}")
"""


def gates() -> list[tuple[str, list[str]]]:
    """Name and command of each gate."""
    tool = Path(sys.executable).parent
    typed = [name for name in (*PACKAGES, "tests", "benchmarks", "migrations") if any((ROOT / name).rglob("*.py"))]
    return [
        ("ruff check", [str(tool / "ruff"), "check", "."]),
        ("ruff format", [str(tool / "ruff"), "format", "--check", "."]),
        ("mypy --strict", [str(tool / "mypy"), *typed]),
        ("import rules", [str(tool / "lint-imports"), "--no-cache"]),
        ("one migration head", [sys.executable, "-c", ONE_HEAD]),
    ]


def main() -> int:
    """Runs every gate; 0 when all passed."""
    failed = []
    for name, command in gates():
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        verdict = "ok" if done.returncode == 0 else "FAIL"
        print(f"{verdict:<5} {name} ({time.monotonic() - started:.0f} s)", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print("      " + (done.stdout + done.stderr).strip().replace("\n", "\n      "), flush=True)
    if failed:
        print(f"{len(failed)} of {len(gates())} gates failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
