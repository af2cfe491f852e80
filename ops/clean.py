"""Deletes the local state: `make clean-state`.

Owns asking first and naming what goes. Refuses while a launcher runs, and refuses a folder that is not a state folder.
"""

import shutil
import sys

from ops import groups, local

KNOWN = frozenset(
    {"neurosight.env", "neurosight.db", "blobs", "broker", "log", "run", "secrets", "backups", "launcher.lock"}
)


def run(*, ask: bool) -> int:
    """Deletes `var/` after a yes; returns the exit status."""
    var_dir = local.var_folder()
    present = sorted(path.name for path in var_dir.iterdir())
    if not present:
        print(f"neurosight: {var_dir} is empty already")
        return 0
    if not KNOWN & set(present):
        print(
            f"neurosight: {var_dir} does not look like our state ({', '.join(present[:5])}); not touched.",
            file=sys.stderr,
        )
        return 1
    with local.only_launcher(var_dir):
        if ask:
            print(f"This deletes {var_dir} with everything in it: {', '.join(present)}.")
            print("All studies, results and accounts of this machine are lost. Models and examples stay.")
            try:
                answer = input("Type 'delete' to go on: ")
            except EOFError:
                answer = ""
            if answer.strip() != "delete":
                print("neurosight: nothing was deleted")
                return 1
        groups.end(groups.left_over(var_dir / "run"), 20.0)
        for path in var_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "launcher.lock":
                path.unlink()
    (var_dir / "launcher.lock").unlink(missing_ok=True)
    print(f"neurosight: {var_dir} is empty")
    return 0
