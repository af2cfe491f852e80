"""Deleting a study for good, for pages and API alike.

Owns the change with its audit row in one transaction. Bytes are removed by housekeeping: no web process waits for a
disk, and nothing is forgotten when it is killed. Refuses to undo anything.
"""

import uuid

from db.queries import erasure
from db.queries.erasure import EraseReason, Extent
from web.access import actor
from web.objects import find_study
from web.problems import Problem
from web.services import services

REASONS = (EraseReason.REQUESTED, EraseReason.MISTAKE, EraseReason.TEST, EraseReason.OTHER)
"""Those that a person may give."""


def erase_study(study_id: uuid.UUID, reason: EraseReason) -> Extent:
    """Deletes a study for good; committed.

    Returns:
        What went with it.

    Raises:
        Problem: 404 when there is none, 409 while a job works on it.
    """
    with services().database.write() as db:
        find_study(db, study_id)
        try:
            return erasure.erase(db, study_id, by=actor(), reason=reason)
        except erasure.StudyInUse as used:
            raise Problem(
                409,
                "study_in_use",
                "A job still works on this study. Wait until it has ended, or cancel it, and delete the study then.",
                facts={"job_id": str(used.job_id)},
            ) from used
