"""Opinion first: a clinician who chose so commits an opinion about a study before he is shown what the network says.

Owns whether a study is covered for the user of this request, what a covered study looks like, and the refusal of what
would give the answer away. The choice is the clinician's own, against his being led; it is kept by the server, on
every way to a result: pages, pictures, files and API. Refuses to hide anything of a study that is signed off.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.queries import study_decisions
from db.queries.strips import Window
from db.queries.summaries import Finding
from db.queries.views import StudyRow, StudyView
from db.standings import ReviewState, StudyStanding
from db.states import Role
from web.access import current_user
from web.problems import Problem

COVERED: Final = "covered"
"""State of a slice of which the result is not shown yet."""


def chosen() -> bool:
    """Whether the user of this request wants to give his opinion first."""
    user = current_user()
    return user is not None and user.blind_first and user.may(Role.CLINICIAN)


def covered_studies(session: Session, study_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the studies of which the user is shown no result yet."""
    user = current_user()
    if user is None or not chosen() or not study_ids:
        return set()
    signed = session.scalars(
        select(StudyStanding.study_id).where(
            StudyStanding.study_id.in_(study_ids), StudyStanding.review_state == ReviewState.SIGNED
        )
    )
    return set(study_ids) - set(signed) - study_decisions.opinions_of(session, user.id, study_ids)


def refuse_covered(session: Session, study_ids: Collection[uuid.UUID]) -> None:
    """Raises Problem 403 when one of the studies is covered for the user."""
    if covered_studies(session, study_ids):
        raise Problem(
            403,
            "opinion_first",
            "You chose to give your own opinion before you see results. Open the study's page and give it, or change "
            "the choice in your account.",
        )


def cover(view: StudyView) -> StudyView:
    """The same study without anything that the network said of it; what people decided stays."""
    summary = replace(view.summary, finding=Finding.NONE, leading_class=None, other_classes=(), support=(), planes={})
    series = [
        replace(
            group,
            slices=[
                replace(item, prediction=None, state=COVERED if item.prediction else item.state)
                for item in group.slices
            ],
        )
        for group in view.series
    ]
    return replace(view, leading=None, checkpoint=None, checkpoints=(), summary=summary, series=series)


def cover_window(window: Window) -> Window:
    """The same wish, but neither by what was found, nor beginning with the most suspicious slice."""
    return replace(window, show="all", number=window.number or (None if window.holding else 1))


def cover_rows(session: Session, rows: Sequence[StudyRow]) -> list[StudyRow]:
    """Rows of a list, the covered ones without their finding."""
    hidden = covered_studies(session, [row.study.id for row in rows])
    return [replace(row, summary=None, withdrawal=None) if row.study.id in hidden else row for row in rows]
