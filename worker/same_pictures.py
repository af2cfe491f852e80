"""Instances that come a second time as another file: by another way, in another encoding, with another preamble.

Owns finding them: a file whose SOP Instance UID the study has already, and whose pictures are the same to the last bit,
is the instance that is there (PS3.3 C.12.1.1.1: the UID identifies it), and is not analysed again. Refuses to judge
files without a UID, and to take for the same what looks different or cannot be decoded: that is a conflict, and both
are analysed.
"""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from db.blobs import BlobMissing
from db.queries import intake as rows
from db.queries.intake import PlannedFile
from imaging.outcomes import RejectedFile
from worker.context import Context

FRAMES_AT_ONCE = 32


def as_known(
    context: Context, study_id: uuid.UUID, files: Sequence[PlannedFile]
) -> tuple[list[PlannedFile], dict[str, str]]:
    """Puts what is there already in place of files that hold the same.

    Args:
        context: Store, blobs, decoders.
        study_id: Their study.
        files: Some files of one series.

    Returns:
        The files, those that are there already with the digest and size of what is there; and which digest stands for
        which.
    """
    uids = sorted({file.sop_instance_uid for file in files if file.sop_instance_uid})
    with context.database.read() as session:
        known = rows.instances_by_uid(session, study_id, uids)
    found: list[PlannedFile] = []
    stands_for: dict[str, str] = {}
    for file in files:
        uid = file.sop_instance_uid
        own = (file.sha256, file.size_bytes, len(file.slices))
        there = known.setdefault(uid, own) if uid else own
        if there[0] != file.sha256 and there[2] == own[2] and _same(context, there[0], file.sha256, own[2]):
            stands_for[file.sha256] = there[0]
            file = replace(file, sha256=there[0], size_bytes=there[1])
        found.append(file)
    return found, stands_for


def _same(context: Context, one: str, other: str, frames: int) -> bool:
    with ExitStack() as held:
        try:
            paths = [held.enter_context(context.blobs.local_path(digest)) for digest in (one, other)]
        except BlobMissing:
            return False
        for start in range(0, frames, FRAMES_AT_ONCE):
            wanted = range(start, min(frames, start + FRAMES_AT_ONCE))
            first, second = (context.decoders.read_pixels([(path, index) for index in wanted]) for path in paths)
            for a, b in zip(first, second, strict=True):
                if isinstance(a, RejectedFile) or isinstance(b, RejectedFile) or not np.array_equal(a, b):
                    return False
    return True
