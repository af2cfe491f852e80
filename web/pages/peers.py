"""The archives of the hospital, for admins: enter one, try the connection, send by itself or not, remove.

Owns these pages and forms. A refusal is said beside the form that was sent, and what was typed stays there.
"""

import uuid

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from db.queries import peers as rows
from db.queries.refusals import ExchangeRefused
from db.states import Role
from web import exchanging
from web.access import requires
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.sentences import template_of
from web.services import services


@pages.get("/admin/peers")
@requires(Role.ADMIN)
def peers() -> Response:
    """The archives, and the form for a new one."""
    return _page()


@pages.post("/admin/peers")
@requires(Role.ADMIN)
def add_peer() -> Response:
    """Enters an archive."""
    kind = request.form.get("kind", "")
    try:
        peer = exchanging.add_peer(
            name=request.form.get("name", ""),
            kind=kind,
            address=request.form.get("address", ""),
            secret_name=request.form.get("secret_name", ""),
            tls=request.form.get("tls") == "1",
            automatic=False,
        )
    except ExchangeRefused as refused:
        return _page(error=sentence(refused.template, refused.facts), status=422)
    flash(gettext("%(name)s is entered. Try the connection now.", name=peer.name), "good")
    return see("pages.peers")


@pages.post("/admin/peers/<uuid:peer_id>/try")
@requires(Role.ADMIN)
def try_peer(peer_id: uuid.UUID) -> Response:
    """Speaks with an archive and says what it answered."""
    peer, said, code, detail = exchanging.try_peer(peer_id)
    if code:
        text = gettext("No connection to %(name)s.", name=peer.name) + " " + sentence(*template_of(code, detail))
        flash(text, "error")
    else:
        flash(gettext("%(name)s answered: %(answer)s.", name=peer.name, answer=said), "good")
    return see("pages.peers")


@pages.post("/admin/peers/<uuid:peer_id>/automatic")
@requires(Role.ADMIN)
def automatic_peer(peer_id: uuid.UUID) -> Response:
    """Switches sending by itself on or off."""
    peer = exchanging.set_automatic(peer_id, request.form.get("automatic") == "1")
    if peer.automatic:
        flash(gettext("From now on results go to %(name)s by themselves.", name=peer.name), "good")
    else:
        flash(gettext("Results go to %(name)s only when somebody sends them.", name=peer.name), "good")
    return see("pages.peers")


@pages.post("/admin/peers/<uuid:peer_id>/remove")
@requires(Role.ADMIN)
def remove_peer(peer_id: uuid.UUID) -> Response:
    """Removes an archive."""
    peer = exchanging.remove_peer(peer_id)
    flash(gettext("%(name)s is removed. What was sent to it stays listed with each study.", name=peer.name), "good")
    return see("pages.peers")


def _page(*, error: str = "", status: int = 200) -> Response:
    parts = services()
    with parts.database.read() as db:
        found = rows.all_peers(db)
    page = render_template(
        "admin/peers.html",
        peers=found,
        error=error,
        typed=request.form if error else {},
        our_title=parts.settings.dicom_ae_title,
        secrets=sorted(parts.settings.peer_secrets),
    )
    return make_response(page, status)
