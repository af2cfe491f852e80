"""Fetching studies from an archive by their accession numbers: the form, the lists, and one line a number.

Owns these pages. A look at a list with accession numbers is in the audit trail: they are identity.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from config.queues import QUEUE_TRANSFER
from db.queries import heartbeats, peers
from db.queries import retrievals as rows
from db.queries.refusals import ExchangeRefused
from db.states import Priority, Role
from web import fetching
from web.access import requires, the_user
from web.objects import VIEW_WINDOW_S, note
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services


@pages.get("/retrievals")
@requires(Role.SUBMITTER)
def retrievals() -> Response:
    """The form and the newest lists."""
    return _page()


@pages.post("/retrievals")
@requires(Role.SUBMITTER)
def ask_retrieval() -> Response:
    """Asks for the studies of a list."""
    try:
        peer_id, priority = uuid.UUID(request.form.get("peer", "")), Priority(request.form.get("priority", ""))
    except ValueError:
        raise Problem(422, "archive_missing", "Choose an archive and a priority.") from None
    try:
        made = fetching.fetch(
            peer_id, request.form.get("numbers", ""), title=request.form.get("title", ""), priority=priority
        )
    except ExchangeRefused as refused:
        return _page(error=sentence(refused.template, refused.facts), status=refused.status)
    return see("pages.retrieval", retrieval_id=made.id)


@pages.get("/retrievals/<uuid:retrieval_id>")
@requires(Role.SUBMITTER)
def retrieval(retrieval_id: uuid.UUID) -> str:
    """One list, a line a number; the lines alone when htmx asks."""
    parts = services()
    with parts.database.read() as db:
        fetching.find(db, retrieval_id)
    note("retrieval", "retrieval.view", retrieval_id, once_in_s=VIEW_WINDOW_S)
    with parts.database.read() as db:
        view = fetching.find(db, retrieval_id)
        alive = heartbeats.alive(db, age_s=parts.settings.worker_ready_age_s)
    return render_template(
        "retrievals/_lines.html" if request.headers.get("HX-Request") else "retrievals/retrieval.html",
        view=view,
        worker_there=any(QUEUE_TRANSFER in worker.queues for worker in alive),
    )


@pages.post("/retrievals/<uuid:retrieval_id>/again")
@requires(Role.SUBMITTER)
def retrieve_again(retrieval_id: uuid.UUID) -> Response:
    """Takes up what failed."""
    fetching.again(retrieval_id)
    return see("pages.retrieval", retrieval_id=retrieval_id)


@pages.post("/retrievals/<uuid:retrieval_id>/stop")
@requires(Role.SUBMITTER)
def stop_retrieval(retrieval_id: uuid.UUID) -> Response:
    """Stops what is not fetched yet."""
    fetching.stop(retrieval_id)
    flash(gettext("Stopped. What was fetched by then is analysed."), "good")
    return see("pages.retrieval", retrieval_id=retrieval_id)


def _page(*, error: str = "", status: int = 200) -> Response:
    parts = services()
    with parts.database.read() as db:
        found = rows.page(db, the_user().viewer)
        choices = peers.all_peers(db)
    page = render_template(
        "retrievals/list.html",
        rows=found,
        peers=choices,
        priorities=list(Priority),
        hours=(parts.settings.off_peak_from_hour, parts.settings.off_peak_to_hour),
        error=error,
        typed=request.form if error else {},
    )
    return make_response(page, status)
