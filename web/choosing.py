"""What a user may change about which slices of a study are classified: the series, and the planes left out.

Owns these steps for pages and API alike: the study must be his to see, and of its slices only those he sees are asked
for; the choice, the job that classifies what is missing, and the audit row are one transaction. The results come under
the model whose results the study shows.

Refuses a withdrawn model: its studies are classified again with the serving one.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_
from sqlalchemy.orm import Session

from db.checkpoints import Checkpoint
from db.queries import audit, reruns, selection
from db.queries.checkpoints import serving
from db.queries.shown import study_checkpoints
from db.queries.visibility import visible_instances
from db.studies import Series
from web.access import actor, the_user
from web.objects import find_study
from web.problems import Problem
from web.registry import ring_job
from web.services import services


@dataclass(frozen=True)
class Change:
    """What came of it.

    Attributes:
        job_id: The job that classifies what is missing; None when nothing is.
        slices: How many it asks for.
        chosen: Series that are classified from now on.
        left: Series that are not any more.
    """

    job_id: uuid.UUID | None
    slices: int = 0
    chosen: int = 0
    left: int = 0


def choose_series(
    study_id: uuid.UUID, chosen: Collection[uuid.UUID], among: Sequence[uuid.UUID] | None, wanted: str
) -> Change:
    """Chooses which series of a study are classified; what is missing of the newly chosen ones runs.

    Args:
        study_id: The study.
        chosen: The series to be classified.
        among: The series that were offered, others stay as they are; None: all.
        wanted: Digest of the checkpoint whose results are looked at, or empty.

    Raises:
        Problem: 404, 409 `no_model` or `model_withdrawn`, 422 `series_unknown`.
    """
    parts = services()
    with parts.database.write() as db:
        study = find_study(db, study_id)
        checkpoint = _checkpoint(db, study_id, wanted)
        mine = visible_instances(the_user().viewer)
        known = {row.series.id for row in selection.series_rows(db, study_id, checkpoint, mine)}
        offered = known if among is None else set(among)
        if not known >= offered or not offered.issuperset(chosen):
            raise Problem(422, "series_unknown", "A series that was named is not one of this study. Load it again.")
        changed = selection.choose(db, study_id, chosen, offered)
        if not changed:
            return Change(None)
        more = [series.id for series in changed if series.chosen]
        which = and_(Series.id.in_(more), selection.in_known_plane(checkpoint), mine)
        made = reruns.further(db, study, checkpoint, which, parts.settings, by=the_user().id) if more else None
        left = [series.id for series in changed if not series.chosen]
        detail = {
            "chosen": [str(series_id) for series_id in more],
            "left": [str(series_id) for series_id in left],
            "slices": made.slices if made else 0,
        }
        audit.record(db, actor(), "study.choose_series", object_kind="study", object_id=study_id, detail=detail)
    if made:
        ring_job(made.job_id)
    return Change(made.job_id if made else None, made.slices if made else 0, len(more), len(left))


def classify_left_out(study_id: uuid.UUID, wanted: str) -> Change:
    """Classifies the slices that were left out of the chosen series for their plane, because the user asks for it.

    Raises:
        Problem: 404, 409 `no_model` or `model_withdrawn`.
    """
    parts = services()
    with parts.database.write() as db:
        study = find_study(db, study_id)
        checkpoint = _checkpoint(db, study_id, wanted)
        which = and_(selection.left_out_of_chosen(checkpoint), visible_instances(the_user().viewer))
        planes = reruns.askable(db, study_id, checkpoint, which)
        made = reruns.further(db, study, checkpoint, which, parts.settings, by=the_user().id)
        if made is None:
            return Change(None)
        detail = {"planes": {plane or "unknown": count for plane, count in planes.items()}, "slices": made.slices}
        audit.record(db, actor(), "study.classify_left_out", object_kind="study", object_id=study_id, detail=detail)
    ring_job(made.job_id)
    return Change(made.job_id, made.slices)


def left_out(db: Session, study_id: uuid.UUID, checkpoint: Checkpoint | None) -> dict[str | None, int]:
    """Slices for which `classify_left_out` would ask, by plane; `checkpoint`: whose results the study shows."""
    checkpoint = checkpoint or serving(db)
    if checkpoint is None:
        return {}
    which = and_(selection.left_out_of_chosen(checkpoint), visible_instances(the_user().viewer))
    return reruns.askable(db, study_id, checkpoint, which)


def _checkpoint(db: Session, study_id: uuid.UUID, wanted: str) -> Checkpoint:
    """The checkpoint whose results the study shows; without results, the one that serves."""
    found = study_checkpoints(db, study_id)
    shown = next((item for item in found if item.checkpoint.digest == wanted), found[0] if found else None)
    if shown is None:
        serves = serving(db)
        if serves is None:
            raise Problem(409, "no_model", "No model is in service; an administrator has to promote one first.")
        return serves
    if shown.withdrawal is not None:
        raise Problem(
            409,
            "model_withdrawn",
            "The model behind these results was withdrawn. An administrator can classify the study again with the "
            "serving one.",
        )
    return shown.checkpoint
