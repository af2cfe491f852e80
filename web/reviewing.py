"""What a clinician decides about a study as a whole, and who shall read it, for pages and API alike.

Owns these steps: the study must be his to see, the class one that is offered, the version the one he looked at; the row
and its audit row are one transaction. Refuses to put a note into the audit trail.
"""

import uuid
from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.queries import audit, standings, study_decisions, worklist
from db.queries.study_decisions import ChangedSince, GivenBefore, NotDone, NotSigned, StudyOpinion
from db.queries.worklist import Taken
from db.reviews import NOT_ASSESSABLE, StudyDecision
from db.standings import StudyStanding
from db.states import Role
from db.users import User
from web.access import actor, the_user
from web.objects import find_study
from web.problems import Problem
from web.services import services


def fresh_standing(study_id: uuid.UUID) -> StudyStanding | None:
    """Where a study stands, for a page from which somebody may sign: written first when it was stale."""
    database = services().database
    with database.read() as db:
        row = db.get(StudyStanding, study_id)
        if row is None or not row.stale:
            return row
    with database.write() as db:
        standings.refresh(db, [study_id])
    with database.read() as db:
        return db.get(StudyStanding, study_id)


def reader_of(study_id: uuid.UUID) -> str:
    """To whom a study is assigned, for people; empty: to nobody."""
    with services().database.read() as db:
        user = db.scalar(
            select(User)
            .join(StudyStanding, StudyStanding.assigned_to_id == User.id)
            .where(StudyStanding.study_id == study_id)
        )
    return (user.display_name or user.username) if user else ""


def history(study_id: uuid.UUID) -> list[StudyOpinion]:
    """Every decision about a study, the newest first."""
    with services().database.read() as db:
        return study_decisions.history(db, study_id)


def give_opinion(study_id: uuid.UUID, *, label: str, note: str, allowed: Sequence[str]) -> None:
    """Commits the user's opinion. Raises Problem 404, 409 or 422."""
    _check(label, allowed)
    _write(
        study_id,
        "study.opinion",
        lambda db: study_decisions.give_opinion(db, study_id, label, by=the_user().id, note=note),
    )


def sign_off(study_id: uuid.UUID, *, label: str, note: str, version: int, allowed: Sequence[str]) -> None:
    """Signs a study off. Raises Problem 404, 409 or 422."""
    _check(label, allowed)
    _write(
        study_id,
        "study.sign_off",
        lambda db: study_decisions.sign_off(db, study_id, label, by=the_user().id, version=version, note=note),
    )


def reopen(study_id: uuid.UUID, *, note: str, version: int) -> None:
    """Takes a sign-off back. Raises Problem 404 or 409."""
    _write(
        study_id,
        "study.reopen",
        lambda db: study_decisions.reopen(db, study_id, by=the_user().id, version=version, note=note),
    )


def assign(study_ids: Sequence[uuid.UUID], to: uuid.UUID | None, *, only_free: bool) -> Taken:
    """Says who shall read studies; those of somebody else stay his when `only_free`.

    Raises:
        Problem: 422 when `to` is nobody who may read studies.
    """
    with services().database.write() as db:
        reader = db.get(User, to) if to else None
        if to and (reader is None or reader.disabled_at or not Role(reader.role).includes(Role.CLINICIAN)):
            raise Problem(422, "no_reader", "Studies can be assigned to clinicians with an open account only.")
        taken = worklist.assign(db, study_ids, to, only_free_for=the_user().id if only_free else None)
        for study_id in taken.studies:
            detail = {"to": reader.username if reader else ""}
            audit.record(db, actor(), "study.assign", object_kind="study", object_id=study_id, detail=detail)
    return taken


def _check(label: str, allowed: Sequence[str]) -> None:
    if label != NOT_ASSESSABLE and label not in allowed:
        raise Problem(422, "class_unknown", "Choose one of the offered classes.")


def _write(study_id: uuid.UUID, action: str, step: Callable[[Session], StudyDecision]) -> None:
    try:
        with services().database.write() as db:
            find_study(db, study_id)
            before = study_decisions.newest(db, study_id)
            row = step(db)
            detail = {"label": row.label or "not_assessable", "finding": row.results["finding"]}
            if before:
                detail["before"] = before.label or "not_assessable"
            audit.record(db, actor(), action, object_kind="study", object_id=study_id, detail=detail)
    except ChangedSince as error:
        raise Problem(
            409,
            "study_changed",
            "This study has changed since you opened it: another decision, or new results. Nothing was written; look "
            "at it again.",
            facts={"by": error.newest.by if error.newest else ""},
        ) from error
    except NotDone as error:
        raise Problem(
            409, "not_done", "Slices of this study are still being analysed. Sign it off when all have ended."
        ) from error
    except GivenBefore as error:
        raise Problem(409, "opinion_given", "You have given your opinion about this study already.") from error
    except NotSigned as error:
        raise Problem(409, "not_signed", "Nobody has signed this study off; there is nothing to take back.") from error
