"""A user's own account: who he is here, his language, his API tokens.

Owns these forms. A token is shown in the answer to its making and never again: it is not kept in the session either.
"""

import uuid
from datetime import timedelta

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext

from db.base import utc_now
from db.queries import accounts
from db.states import Role
from db.users import ApiToken, User
from web.access import actor, requires, the_user
from web.pages.blueprint import pages
from web.pages.redirects import see
from web.problems import Problem
from web.services import services

EXPIRY_DAYS = (7, 30, 90, 365)
DEFAULT_DAYS = 90


@pages.get("/account")
@requires(Role.SUBMITTER)
def account() -> Response:
    """The account page."""
    return _page()


@pages.post("/account/reading")
@requires(Role.CLINICIAN)
def set_reading() -> Response:
    """Chooses whether the user gives his opinion before he is shown results."""
    wanted = request.form.get("blind_first") == "1"
    with services().database.write() as db:
        accounts.set_blind_first(db, db.get_one(User, the_user().id), wanted, by=actor())
    done = gettext("You give your opinion first from now on.") if wanted else gettext("Results are shown at once.")
    flash(done, "good")
    return see("pages.account")


@pages.post("/account/tokens")
@requires(Role.SUBMITTER)
def create_token() -> Response:
    """Makes an API token and shows it this once."""
    name = request.form.get("name", "").strip()
    days = request.form.get("days", str(DEFAULT_DAYS))
    if not name:
        return _page(error=gettext("Give the token a name, so that you know later what uses it."), status=422)
    if days not in {str(choice) for choice in EXPIRY_DAYS}:
        return _page(error=gettext("Choose one of the offered times."), status=422)
    with services().database.write() as db:
        user = db.get_one(User, the_user().id)
        expires_at = utc_now() + timedelta(days=int(days))
        token, plain = accounts.create_token(db, user, name, by=actor(), expires_at=expires_at)
    return _page(made=token, plain=plain, status=201)


@pages.post("/account/tokens/<uuid:token_id>/revoke")
@requires(Role.SUBMITTER)
def revoke_token(token_id: uuid.UUID) -> Response:
    """Ends one of the user's tokens."""
    with services().database.write() as db:
        token = db.get(ApiToken, token_id)
        if token is None or token.user_id != the_user().id:
            raise Problem(404, "not_found", "You have no such token.")
        accounts.revoke_token(db, token, by=actor())
    flash(gettext("The token was revoked; nothing can use it any more."), "good")
    return see("pages.account")


def _page(*, made: ApiToken | None = None, plain: str = "", error: str = "", status: int = 200) -> Response:
    with services().database.read() as db:
        user = db.get_one(User, the_user().id)
        tokens = accounts.list_tokens(db, user.id)
    page = render_template(
        "account/account.html",
        user=user,
        tokens=tokens,
        now=utc_now(),
        made=made,
        plain=plain,
        error=error,
        choices=EXPIRY_DAYS,
        default_days=DEFAULT_DAYS,
        root=request.url_root.rstrip("/"),
    )
    return make_response(page, status)
