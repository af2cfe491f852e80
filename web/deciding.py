"""What a clinician decides about a slice: agreed, another class, not assessable, or taken back.

Owns these steps for pages and API alike: the slice must be his to see, the class one that is known, the decision before
his must be one he has seen; the row and its audit row are one transaction. Refuses to put a note into the audit trail.
"""

import uuid
from typing import Any

from db.queries import audit, reviews, standings
from db.queries.reviews import DecidedMeanwhile, NothingToUndo
from db.queries.views import SliceView, StudyView
from db.studies import Instance
from web.access import actor, the_user
from web.objects import find_slice
from web.problems import Problem
from web.services import services

KNOWN_CLASSES = ("glioma", "meningioma", "pituitary", "no_tumor")


def choices(view: StudyView) -> list[str]:
    """The classes that may be chosen: those of the model whose results are shown, then the others that are known."""
    own = list(view.checkpoint.class_names) if view.checkpoint else []
    return own + [name for name in KNOWN_CLASSES if name not in own]


def decide(
    slice_id: uuid.UUID, *, label: str | None, seen: uuid.UUID | None, note: str = "", allowed: list[str] | None = None
) -> tuple[Instance, int, int]:
    """Writes the user's decision, or takes the standing one back.

    Args:
        slice_id: The slice.
        label: A class name, `NOT_ASSESSABLE`, or None to take the standing decision back.
        seen: Id of the newest decision when he looked; None: there was none.
        note: Free text.
        allowed: Class names that may be chosen; None: any name that has the form of one.

    Returns:
        (the slice, version of the study's standing row before the decision, and after it).

    Raises:
        Problem: 404, 409 `decided_meanwhile` or `nothing_to_undo`, 422 `class_unknown`.
    """
    if label and (label not in allowed if allowed is not None else not _is_class_name(label)):
        raise Problem(422, "class_unknown", "Choose one of the offered classes.")
    try:
        with services().database.write() as db:
            found = find_slice(db, slice_id)
            before = reviews.newest_of(db, [slice_id]).get(slice_id)
            if label is None:
                row = reviews.undo(db, slice_id, by=the_user().id, seen=seen)
            else:
                row = reviews.decide(db, slice_id, label, by=the_user().id, seen=seen, note=note)
            detail = {"label": row.label or "not_assessable"}
            if before:
                detail["before"] = before.label or "not_assessable"
            action = "slice.undo" if label is None else "slice.decide"
            before_version, version = standings.decided(db, found.study_id)
            audit.record(db, actor(), action, object_kind="slice", object_id=slice_id, detail=detail)
    except DecidedMeanwhile as error:
        raise Problem(
            409,
            "decided_meanwhile",
            "%(who)s has decided about this slice since you opened it. Look at that decision, then decide again.",
            facts={"who": error.newest.by or "Somebody", "newest": str(error.newest.id)},
        ) from error
    except NothingToUndo as error:
        raise Problem(409, "nothing_to_undo", "There is no decision about this slice to take back.") from error
    return found, before_version, version


def decided(view: StudyView, chosen: SliceView | None) -> dict[str, Any]:
    """What a page needs to show decisions: the chosen slice's history, and the classes to choose from."""
    if chosen is None:
        return {"decisions": [], "choices": []}
    with services().database.read() as db:
        history = reviews.history(db, chosen.instance.id)
    return {"decisions": history, "choices": choices(view)}


def _is_class_name(label: str) -> bool:
    return len(label) <= 64 and label.replace("_", "").isalnum() and label == label.lower()
