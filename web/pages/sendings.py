"""Sending a study's results to an archive: the form, and what became of each sending, object by object.

Owns these pages. Rules stand in `db.queries.sendings`, the order of the actions in `web.exchanging`.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from config.queues import QUEUE_TRANSFER
from db.exchange import Content
from db.queries import heartbeats, peers, sendings
from db.queries.refusals import ExchangeRefused
from db.states import Role
from web import exchanging
from web.access import requires
from web.objects import VIEW_WINDOW_S, find_study, note_view
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services


@pages.get("/studies/<uuid:study_id>/sendings", endpoint="sendings")
@requires(Role.CLINICIAN)
def study_sendings(study_id: uuid.UUID) -> Response:
    """The form and the list; the list alone when htmx asks."""
    return _page(study_id)


@pages.post("/studies/<uuid:study_id>/sendings")
@requires(Role.CLINICIAN)
def send_study(study_id: uuid.UUID) -> Response:
    """Asks that the results be sent."""
    try:
        peer_id, content = uuid.UUID(request.form.get("peer", "")), Content(request.form.get("content", ""))
    except ValueError:
        raise Problem(422, "choice_missing", "Choose an archive and what to send.") from None
    try:
        sending = exchanging.send(study_id, peer_id, content=content, digest=request.form.get("checkpoint", ""))
    except ExchangeRefused as refused:
        return _page(study_id, error=sentence(refused.template, refused.facts), status=refused.status)
    flash(gettext("On its way to %(peer)s.", peer=sending.peer_name), "good")
    return see("pages.sendings", study_id=study_id)


@pages.post("/studies/<uuid:study_id>/sendings/<uuid:sending_id>/again")
@requires(Role.CLINICIAN)
def send_again(study_id: uuid.UUID, sending_id: uuid.UUID) -> Response:
    """Takes up a sending that failed."""
    exchanging.send_again(study_id, sending_id)
    return see("pages.sendings", study_id=study_id)


@pages.post("/studies/<uuid:study_id>/sendings/<uuid:sending_id>/stop")
@requires(Role.CLINICIAN)
def stop_sending(study_id: uuid.UUID, sending_id: uuid.UUID) -> Response:
    """Stops a sending."""
    exchanging.stop(study_id, sending_id)
    return see("pages.sendings", study_id=study_id)


def _page(study_id: uuid.UUID, *, error: str = "", status: int = 200) -> Response:
    parts = services()
    fragment = bool(request.headers.get("HX-Request"))
    with parts.database.read() as db:
        study = find_study(db, study_id)
    note_view("study.view", study_id, once_in_s=VIEW_WINDOW_S)
    checkpoint, refusal = None, ""
    with parts.database.read() as db:
        found = sendings.of_study(db, study_id)
        choices = peers.all_peers(db)
        alive = heartbeats.alive(db, age_s=parts.settings.worker_ready_age_s)
        try:
            checkpoint = sendings.wanted_checkpoint(db, study_id, request.values.get("checkpoint", ""))
        except ExchangeRefused as refused:
            refusal = sentence(refused.template, refused.facts)
    page = render_template(
        "studies/_sendings.html" if fragment else "studies/sendings.html",
        study=study,
        rows=found,
        peers=choices,
        contents=list(Content),
        checkpoint=checkpoint,
        refusal=refusal,
        waiting=any(row.waiting for row in found),
        worker_there=any(QUEUE_TRANSFER in worker.queues for worker in alive),
        error=error,
        typed=request.form if error else {},
    )
    return make_response(page, status)
