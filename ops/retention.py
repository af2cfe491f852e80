"""`python -m ops retention`: which studies are older than wished, and on demand their deletion for good.

Owns the counts and the question. Without `--delete` nothing is changed. The same steps as housekeeping's are used, so
that it matters to nobody who deletes.
"""

import sys

from config.settings import Settings
from db import retention
from db.blobs import BlobStore
from db.queries import erasure
from db.session import Database


def run(settings: Settings, *, days: int | None, delete: bool) -> int:
    """Counts, and deletes when asked to; returns 0, or 2 when there is no number of days to go by."""
    keep_days = settings.retention_days if days is None else days
    if keep_days < 1:
        print(
            "neurosight: received no number of days to keep studies; expected --days N of at least 1, or "
            "NEUROSIGHT_RETENTION_DAYS in the settings.",
            file=sys.stderr,
        )
        return 2
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            counts = erasure.outdated_counts(session, keep_days)
        print(f"Last sent more than {keep_days} days ago: studies {counts['studies']}, slices {counts['slices']}.")
        print(f"As old, of which nothing could be used: jobs {counts['empty_jobs']}.")
        if counts["waiting"]:
            print(f"As old, but left alone, since a job works on them: studies {counts['waiting']}.")
        if not delete:
            print("Nothing was changed. With --delete they are deleted for good, which cannot be undone.")
            return 0
        while retention.retain(database, keep_days):
            pass
        removed = retention.remove_bytes(database, BlobStore(settings.resolved_blob_url))
        print(f"They were deleted for good, and {removed} stored files removed; housekeeping removes newer ones soon.")
        return 0
    finally:
        database.close()
