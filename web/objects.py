"""The objects that a request names: found, seen to be the asker's to see, and the look written down.

Owns the answer to "may this user see this job, study, slice or prediction": an object that is not his looks exactly
like one that does not exist (404), and the attempt is in the audit trail. Every view of a study is there too; when the
audit row cannot be written, nothing is shown.
"""

import uuid
from collections.abc import Iterable

from flask import Flask, Response
from sqlalchemy import select, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from db.base import utc_now
from db.jobs import Job
from db.predictions import Prediction
from db.queries import audit
from db.queries.views import StudyRow
from db.queries.visibility import Viewer, shown_predictions, visible_instances, visible_jobs, visible_studies
from db.queries.worklist import WorklistRow
from db.states import Role, UploadState
from db.studies import Instance, Study
from db.uploads import Upload
from web import blinding
from web.access import actor, note_denial, the_user
from web.problems import Problem, answer, database_error
from web.services import services

VIEW_WINDOW_S = 300.0
"""Pictures of a study that follow a recorded view within this time are part of that view."""


def find_job(session: Session, job_id: uuid.UUID, *options: ORMOption) -> Job:
    """A job that the user may see. Raises Problem 404 otherwise."""
    viewer = the_user().viewer
    job = session.scalars(select(Job).where(Job.id == job_id, visible_jobs(viewer)).options(*options)).one_or_none()
    if job is None:
        raise Hidden("job", job_id, exists=session.get(Job, job_id) is not None)
    return job


def find_study(session: Session, study_id: uuid.UUID, *options: ORMOption) -> Study:
    """A study that the user may see. Raises Problem 404 otherwise."""
    viewer = the_user().viewer
    study = session.scalars(
        select(Study).where(Study.id == study_id, visible_studies(viewer)).options(*options)
    ).one_or_none()
    if study is None:
        raise Hidden("study", study_id, exists=session.get(Study, study_id) is not None)
    return study


def find_slice(session: Session, slice_id: uuid.UUID, *options: ORMOption) -> Instance:
    """A slice (instance) that the user may see. Raises Problem 404 otherwise."""
    viewer = the_user().viewer
    found = session.scalars(
        select(Instance)
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.id == slice_id, visible_studies(viewer), visible_instances(viewer))
        .options(*options)
    ).one_or_none()
    if found is None:
        raise Hidden("slice", slice_id, exists=session.get(Instance, slice_id) is not None)
    return found


def find_prediction(session: Session, prediction_id: uuid.UUID, *options: ORMOption) -> Prediction:
    """A prediction of a slice that the user may see; those of shadow runs are for admins.

    Raises:
        Problem: 404, or 403 when he has to give his opinion about the study first.
    """
    viewer = the_user().viewer
    found = session.scalars(
        select(Prediction)
        .join(Instance, Instance.id == Prediction.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(
            Prediction.id == prediction_id,
            visible_studies(viewer),
            visible_instances(viewer),
            true() if viewer.role.includes(Role.ADMIN) else shown_predictions(),
        )
        .options(*options)
    ).one_or_none()
    if found is None:
        raise Hidden("prediction", prediction_id, exists=session.get(Prediction, prediction_id) is not None)
    blinding.refuse_covered(session, [session.get_one(Instance, found.instance_id).study_id])
    return found


def find_upload(session: Session, upload_id: uuid.UUID, *, receiving: bool = False, lock: bool = False) -> Upload:
    """The user's own upload.

    Args:
        session: Any; in a write transaction when `lock`.
        upload_id: Its id.
        receiving: Whether it must still be open.
        lock: Whether to hold the row until the end of the transaction.

    Raises:
        Problem: 404 when it is not his, 409 when it is not open although `receiving`.
    """
    query = select(Upload).where(Upload.id == upload_id, Upload.created_by_id == the_user().id)
    upload = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if upload is None:
        raise Hidden("upload", upload_id, exists=session.get(Upload, upload_id) is not None)
    expired = upload.state == UploadState.RECEIVING and upload.expires_at <= utc_now()
    if receiving and (expired or upload.state != UploadState.RECEIVING):
        raise Problem(
            409,
            "upload_closed",
            "This upload is %(state)s and takes no more files. Start a new one.",
            facts={"state": "expired" if expired else str(UploadState(upload.state))},
        )
    return upload


def note_view(action: str, study_id: uuid.UUID, *, once_in_s: float = 0.0) -> None:
    """Writes that the user looked at a study, before it is shown; call it outside of any other session.

    Args:
        action: `study.view`, `study.export`, ...
        study_id: The study.
        once_in_s: Not again when the same was written within this time (pictures of one page), seconds.
    """
    note("study", action, study_id, once_in_s=once_in_s)


def note(kind: str, action: str, object_id: uuid.UUID, *, once_in_s: float = 0.0) -> None:
    """Writes that the user did something to an object."""
    who, database = actor(), services().database
    if once_in_s:
        with database.read() as session:
            if audit.seen_lately(session, who, action, object_id, within_s=once_in_s):
                return
    with database.write() as session:
        audit.record(session, who, action, object_kind=kind, object_id=object_id)


def note_identities(rows: Iterable[StudyRow | WorklistRow]) -> None:
    """Writes that the user saw in a list who some studies are of, before it is shown: one row, none without identity.

    A list that is looked at again within `VIEW_WINDOW_S` with the same studies (a page that keeps itself live) is part
    of the first look.
    """
    shown = sorted(str(row.study.id) for row in rows if row.identity is not None)
    if not shown:
        return
    # One number for the same studies, by which the audit finds the look before.
    which = uuid.uuid5(uuid.NAMESPACE_OID, " ".join(shown))
    who, database = actor(), services().database
    with database.read() as session:
        if audit.seen_lately(session, who, "study.list", which, within_s=VIEW_WINDOW_S):
            return
    with database.write() as session:
        audit.record(
            session, who, "study.list", object_kind="list", object_id=which, detail={"studies": ", ".join(shown)}
        )


def viewer() -> Viewer:
    """The user of this request, for queries."""
    return the_user().viewer


class Hidden(Problem):
    """An object that does not exist, or not for this user; outside, the two look the same."""

    def __init__(self, kind: str, object_id: uuid.UUID, *, exists: bool) -> None:
        super().__init__(
            404,
            "not_found",
            "There is no %(object)s of this number, or it is not yours to see.",
            facts={"object": kind},
        )
        self.kind, self.object_id, self.exists = kind, object_id, exists


def init_app(app: Flask) -> None:
    """Writes the audit row of each denied look when its session is closed, and before the answer goes out."""
    app.register_error_handler(Hidden, _deny)


def _deny(hidden: Hidden) -> Response:
    if hidden.exists:
        try:
            note_denial(f"{hidden.kind}.view", hidden.kind, hidden.object_id, reason="not_theirs")
        except DBAPIError as error:
            return database_error(error)
    return answer(hidden)
