"""Logging in and out, the forced change of a one-time password, the language switch, and the start page.

Owns these forms. What a login means (throttling, sessions, audit) is decided in `web.sessions`. Refuses to send the
browser to another site afterwards, and to say whether a name exists.
"""

from urllib.parse import urlsplit

from flask import Response, current_app, flash, make_response, render_template, request, session
from flask_babel import gettext, ngettext
from sqlalchemy import select
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from db.jobs import Job
from db.queries import accounts
from db.queries.visibility import visible_jobs
from db.states import Role
from db.users import User
from web import sessions
from web.access import actor, current_user, public, requires, the_user
from web.pages.blueprint import pages
from web.pages.languages import LANGUAGES, sentence
from web.pages.redirects import go, safe_path, see
from web.services import services


@pages.get("/")
@public
def home() -> Response:
    """Sends everybody to where he goes on: the login, the studies, or the first submission."""
    user = current_user()
    if user is None:
        return see("pages.login")
    if user.must_change_password:
        return see("pages.password")
    with services().database.read() as db:
        anything = db.scalar(select(Job.id).where(visible_jobs(user.viewer)).limit(1)) is not None
    return see("pages.studies" if anything else "pages.submit")


@pages.route("/login", methods=["GET", "POST"])
@public
def login() -> Response:
    """The login form; a user who is logged in already goes on."""
    back = safe_path(request.values.get("next"))
    if request.method == "GET":
        return go(back or "/") if current_user() else _login_page(back)
    username, password = request.form.get("username", ""), request.form.get("password", "")
    if not username.strip() or not password:
        return _login_page(back, gettext("Fill in both the name and the password."), status=422)
    try:
        must_change = sessions.log_in(username, password)
    except sessions.LoginRefused as refused:
        if refused.code == "paused":
            minutes = max(1, -(-refused.wait_s // 60))
            message = ngettext(
                "Too many failed logins. Wait %(num)d minute, then try again.",
                "Too many failed logins. Wait %(num)d minutes, then try again.",
                minutes,
            )
            return _login_page(back, message, status=429, wait_s=refused.wait_s)
        return _login_page(back, gettext("Name or password is wrong, or the account is closed."), status=401)
    return see("pages.password", **({"next": back} if back else {})) if must_change else go(back or "/")


@pages.post("/logout")
@public
def logout() -> Response:
    """Ends this browser's session; harmless when there is none."""
    user = current_user()
    if user is not None and user.session_id is not None:
        sessions.log_out(user.session_id, actor())
        flash(gettext("You are logged out."), "good")
    return see("pages.login")


@pages.route("/password", methods=["GET", "POST"])
@requires(Role.SUBMITTER, before_password_change=True)
def password() -> Response:
    """The form that changes the own password; the only page a one-time password opens."""
    user = the_user()
    back = safe_path(request.values.get("next"))
    if request.method == "GET":
        return _password_page(back)
    old, new = request.form.get("old", ""), request.form.get("new", "")
    if new != request.form.get("again", ""):
        return _password_page(back, "again", gettext("The two new passwords differ. Type the same one twice."))
    try:
        sessions.change_own_password(user.id, old, new, actor())
    except accounts.AccountError as error:
        field = "old" if error.field == "old" else "new"
        return _password_page(back, field, sentence(error.template, dict(error.facts)))
    flash(gettext("The password was changed. Your other sessions were ended."), "good")
    return go(back or "/") if user.must_change_password else see("pages.account")


@pages.post("/language")
@public
def set_language() -> Response:
    """Remembers a language in this browser and, for a user, in his account; then goes back."""
    wanted = request.form.get("locale", "")
    if wanted in LANGUAGES:
        session["locale"] = wanted
        user = current_user()
        if user is not None:
            with services().database.write() as db:
                db.get_one(User, user.id).locale = wanted
    back = safe_path(request.form.get("next"))
    return go(back if back and _opens(back) else "/")


def _opens(path: str) -> bool:
    """Whether the path is one that a browser can open: the switch also stands on answers to forms."""
    try:
        current_app.url_map.bind("").match(urlsplit(path).path, method="GET")
    except RequestRedirect:
        return True
    except HTTPException:
        return False
    return True


def _login_page(back: str | None, error: str = "", *, status: int = 200, wait_s: int = 0) -> Response:
    username = request.form.get("username", "")
    page = make_response(render_template("sign_in.html", back=back, error=error, username=username), status)
    if wait_s:
        page.headers["Retry-After"] = str(wait_s)
    return page


def _password_page(back: str | None, field: str = "", error: str = "") -> Response:
    page = render_template(
        "password.html",
        back=back,
        error=error,
        field=field,
        forced=the_user().must_change_password,
        least=accounts.PASSWORD_MIN,
        most=accounts.PASSWORD_MAX,
    )
    return make_response(page, 422 if error else 200)
