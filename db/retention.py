"""What is deleted for good in bounded steps: studies too old to be kept, and bytes that nobody needs any more.

Owns one step of each, with a transaction for each study, for housekeeping's rounds and for `python -m ops retention`.
Refuses to decide what goes with a study: `db.queries.erasure` does.
"""

import time
from pathlib import Path

from db.blobs import BlobStore
from db.jobs import Job
from db.queries import audit, erasure, originals
from db.queries.erasure import EraseReason
from db.session import Database

STUDIES_A_STEP = 20
BLOBS_A_STEP = 2000
UNUSED_S = 600.0
"""Bytes stored within this time may be about to be named by a row; longer than any upload takes to write its rows."""


def retain(database: Database, keep_days: int) -> int:
    """Deletes some studies, and some submissions without one, older than `keep_days`; 0 keeps all.

    Returns:
        How many went; 0: there is nothing left to do.
    """
    if keep_days < 1:
        return 0
    with database.read() as session:
        study_ids = erasure.outdated(session, keep_days, limit=STUDIES_A_STEP)
    done = 0
    for study_id in study_ids:
        try:
            with database.write() as session:
                erasure.erase(session, study_id, by=audit.SYSTEM, reason=EraseReason.RETENTION)
        except (erasure.StudyInUse, erasure.NoSuchStudy):
            continue  # somebody was faster
        done += 1
    with database.write() as session:
        return done + erasure.forget_empty_jobs(session, keep_days, limit=STUDIES_A_STEP)


def remove_copies(folder: Path, keep_days: int) -> int:
    """Removes copies of the database older than `keep_days`, which hold what was deleted since; 0 keeps all.

    Args:
        folder: Where the launcher puts a copy before it migrates.
        keep_days: Age in days.

    Returns:
        How many were removed.
    """
    oldest = time.time() - keep_days * 86_400
    old = [path for path in folder.glob("neurosight-*.db") if path.stat().st_mtime < oldest] if keep_days else []
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def forget_originals(database: Database, *, deidentify: bool) -> int:
    """Forgets what was sent with some jobs that ended before their files were de-identified; returns how many."""
    with database.write() as session:
        originals.forget_retrieved(session, Job.deidentified.is_(True))
        return originals.forget_ended(session, all_unopened=deidentify)


def remove_bytes(database: Database, blobs: BlobStore, unused_for_s: float = UNUSED_S) -> int:
    """Removes marked bytes that no row names; returns how many. What was stored just now stays for the next round."""
    with database.read() as session:
        free, named = erasure.unneeded(session, BLOBS_A_STEP)
    removed = sum(blobs.sweep(digest, unused_for_s=unused_for_s, now=time.time()) for digest in free)
    settled = [*named, *(digest for digest in free if not blobs.exists(digest))]
    if settled:
        with database.write() as session:
            erasure.settled(session, settled)
    return removed
