"""Makes the virtual environment from a lock file, or finds that it is already there.

Owns `.venv`: created with `python3 -m venv`, filled by pip with every hash checked, and marked with a stamp that names
the lock file's digest and the Python version. A half-made environment, an interrupted installation or a changed lock
file has no fitting stamp, and is mended on the next run. Two runs at the same moment wait for each other.

Standard library only: it runs before anything is installed. Refuses to remove a folder that is not an environment.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    # what is wanted: the lock files that satisfy it, the one to install first
    "runtime": ("requirements.lock", "requirements-train.lock", "requirements-dev.lock"),
    "train": ("requirements-train.lock", "requirements-dev.lock"),
    "dev": ("requirements-dev.lock",),
}
STAMP_PREFIX = ".neurosight-installed-"
TAIL_LINES = 15
NEWEST_TRIED = (3, 13)


class EnvironmentFailed(Exception):
    """The environment could not be made; the message says why and what to do."""


def stamp_of(lock: Path) -> str:
    """What the stamp of an environment installed from `lock` by this Python says."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest} python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}\n"


def is_ready(folder: Path, lock: Path) -> bool:
    """Whether `folder` holds a working environment made from exactly this lock file."""
    stamp = folder / (STAMP_PREFIX + lock.name)
    try:
        # The environment's link to the interpreter breaks when Python is removed or replaced.
        return stamp.read_text() == stamp_of(lock) and os.access(folder / "bin" / "python", os.X_OK)
    except OSError:
        return False


def ensure(folder: Path, kind: str) -> bool:
    """Makes `folder` an environment of `kind`.

    Returns:
        Whether anything had to be done.

    Raises:
        EnvironmentFailed: When it could not be made.
    """
    locks = [ROOT / name for name in KINDS[kind]]
    if any(is_ready(folder, lock) for lock in locks):
        return False
    with _one_at_a_time(folder) as held:
        if any(is_ready(folder, lock) for lock in locks):
            return False
        if not _is_usable(folder):
            _create(folder)
        lock = locks[0]
        for old in folder.glob(STAMP_PREFIX + "*"):
            old.unlink()  # while packages change, nobody may believe the environment
        _install(folder, lock, held)
        stamp = folder / (STAMP_PREFIX + lock.name)
        temporary = stamp.with_suffix(".new")
        temporary.write_text(stamp_of(lock))
        temporary.replace(stamp)
    return True


def _is_usable(folder: Path) -> bool:
    """Whether pip of an environment in `folder` runs, under the Python that runs us."""
    question = "import pip, sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        answer = subprocess.run(
            [str(folder / "bin" / "python"), "-I", "-c", question],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


def _create(folder: Path) -> None:
    if folder.exists():
        if (
            any(folder.iterdir())
            and not (folder / "pyvenv.cfg").exists()
            and not (folder / "bin" / "python").is_symlink()
        ):
            raise EnvironmentFailed(
                f"{folder} exists and is not a virtual environment; move it away, or set VENV to another folder"
            )
        print(f"neurosight: {folder.name} is not usable with this Python; making it anew", flush=True)
        shutil.rmtree(folder)
    print(f"neurosight: making the virtual environment {folder.name} (Python {sys.version.split()[0]})", flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        said = (done.stdout + done.stderr).strip()
        if "ensurepip" in said:
            raise EnvironmentFailed(
                f"{sys.executable} comes without the venv module's parts; on Debian or Ubuntu: "
                f"apt install python3-venv, then run the same command again"
            )
        raise EnvironmentFailed(f"{sys.executable} -m venv failed:\n{said}")


def _install(folder: Path, lock: Path, held: int) -> None:
    total = len(re.findall(r"(?m)^[A-Za-z0-9][^\n]*==", lock.read_text()))
    print(f"neurosight: installing {total} packages of {lock.name}, every hash checked", flush=True)
    command = [
        str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:",
        "--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "-r", str(lock),
    ]  # fmt: skip
    started = time.monotonic()
    lines: list[str] = []
    # pip inherits the lock: should this process be killed, the next run waits until that pip has ended too.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=(held,))
    assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
    seen = 0
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            seen += 1
            _progress(seen, total, line.split()[1].partition("=")[0])
        elif line.startswith("Installing collected packages"):
            _progress(total, total, "unpacking")
    code = process.wait()
    _progress_end()
    if code != 0:
        tail = "\n  ".join(lines[-TAIL_LINES:])
        if sys.version_info[:2] > NEWEST_TRIED:
            tail += (
                f"\nNot every package has a wheel for Python {sys.version_info.major}.{sys.version_info.minor} yet: "
                "use 3.11 to 3.13 (PYTHON=python3.13 make ...)."
            )
        raise EnvironmentFailed(
            f"pip could not install {lock.name}:\n  {tail}\n"
            "Is the network, or the index that pip is configured for, reachable? The next run goes on from here"
        )
    print(f"neurosight: environment ready after {time.monotonic() - started:.0f} s", flush=True)


def _progress(done: int, total: int, what: str) -> None:
    if sys.stdout.isatty():
        width = 30
        filled = width * min(done, total) // max(total, 1)
        sys.stdout.write(f"\r  [{'#' * filled}{'.' * (width - filled)}] {min(done, total)}/{total} {what[:30]:<30}")
        sys.stdout.flush()


def _progress_end() -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r" + " " * 78 + "\r")
        sys.stdout.flush()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[int]:
    path = folder.with_name(folder.name + ".lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"neurosight: another run is making {folder.name}; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def main() -> int:
    """Command line: `environment.py runtime|train|dev`; the folder is `$VENV` or `.venv`."""
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in KINDS:
        print(f"environment.py: received {sys.argv[1:]}; expected one of: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    folder = ROOT / os.environ.get("VENV", ".venv")
    try:
        ensure(folder, kind)
    except EnvironmentFailed as error:
        print(f"neurosight: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nneurosight: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
