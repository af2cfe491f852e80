"""`python -m ops audit`: whether any row of the audit trail was altered, removed or put in.

Owns the verdict in words and the exit status. It prints the end of the chain: kept elsewhere (in a letter, in another
system's log) and given back later with `--expect`, it also shows a chain that somebody made anew from the start.
"""

import re
import sys

from config.settings import Settings
from db import audit_chain
from db.session import Database

KEPT = re.compile(r"([1-9][0-9]{0,14}):([0-9a-f]{64})")


def run(settings: Settings, *, expected: list[str]) -> int:
    """Verifies the chain; returns 0 when it holds, 1 when it does not, 2 when an argument is not usable."""
    kept: dict[int, str] = {}
    for text in expected:
        found = KEPT.fullmatch(text)
        if found is None:
            print(
                f"neurosight: received --expect {text!r}; expected NUMBER:SHA256 as this command prints it.",
                file=sys.stderr,
            )
            return 2
        kept[int(found[1])] = found[2]
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            verdict = audit_chain.verify(session, kept)
    finally:
        database.close()
    for fault in verdict.faults:
        print(f"FAULT {fault.kind}: {fault.text}.")
    if verdict.faults:
        print("The audit trail does not hold. Compare with a backup, and ask who may write to the database.")
        return 1
    print(f"The audit trail holds: {verdict.rows} rows, each as it was written.")
    if verdict.rows:
        print(f"Its end, to be kept elsewhere: {verdict.last_number}:{verdict.last_sha256}")
    return 0
