"""Which version of the code this is, for receipts and logs.

Owns the answer to "what code made this result". Refuses to run git: the commit is read from the files of a checkout,
and a copy without them (a container image) names its version alone or the commit given at build time.
"""

import os
import re
from functools import cache

from config.settings import ROOT

COMMIT = re.compile(r"\A[0-9a-f]{40}\Z")


@cache
def code_version() -> str:
    """`VERSION+COMMIT` (12 digits), or `VERSION` where the commit is not known; at most 64 characters."""
    commit = os.environ.get("NEUROSIGHT_COMMIT", "") or _commit()
    version = _declared_version()
    return f"{version}+{commit[:12]}" if COMMIT.match(commit) else version


def _declared_version() -> str:
    try:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r'^version = "([0-9A-Za-z.+-]{1,40})"$', text, re.MULTILINE)
    return found.group(1) if found else "unknown"


def _commit() -> str:
    folder = ROOT / ".git"
    try:
        if folder.is_file():  # a linked work tree: "gitdir: PATH"
            folder = (ROOT / folder.read_text(encoding="utf-8").partition(":")[2].strip()).resolve()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.partition(":")[2].strip()
        common = folder / "commondir"
        shared = (folder / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else folder
        loose = shared / name
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^([0-9a-f]{{40}}) {re.escape(name)}$", packed, re.MULTILINE)
    return found.group(1) if found else ""
