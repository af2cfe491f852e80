"""Browser sessions: logging in and out, the cookie, and the token against forged requests.

Owns what a login means, for whatever page asks for it: throttling in the shared store, equal time for known and
unknown names, a fresh session each time, an audit row for success and failure. The cookie is signed and carries a
random token; the session itself is a row, so that a logout, a new password or a new role ends it everywhere.

Refuses to render anything.
"""

import uuid
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Flask, request, session
from flask_wtf.csrf import ValidationError, generate_csrf, validate_csrf

from db.queries import accounts, audit
from db.queries.audit import Actor
from db.users import User
from web.problems import Problem
from web.secret_key import secret_key
from web.services import remote_address, services

TOKEN = "sid"  # noqa: S105 - the name of a field
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "X-CSRFToken"
CSRF_FIELD = "csrf_token"


@dataclass(frozen=True)
class LoginRefused(Exception):
    """A login that failed.

    Attributes:
        code: `wrong` (name or password) or `paused` (too many failures).
        wait_s: How long to wait, seconds; 0 for `wrong`.
    """

    code: str
    wait_s: int = 0


def init_app(app: Flask) -> None:
    """Sets the cookie's properties."""
    settings = services(app).settings
    app.secret_key = secret_key(settings)
    app.config.update(
        SESSION_COOKIE_NAME="__Host-neurosight" if settings.secure_cookies else "neurosight",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
    )
    app.jinja_env.globals["csrf_token"] = generate_csrf


def log_in(username: str, password: str) -> bool:
    """Logs this browser in.

    Args:
        username: As typed.
        password: As typed.

    Returns:
        Whether the password must be changed before anything else.

    Raises:
        LoginRefused: Wrong name or password, disabled account, or too many failures before.
    """
    parts = services()
    settings = parts.settings
    address = remote_address()
    keys = accounts.throttling_keys(username, address, settings.login_failures_allowed)
    actor = Actor(None, "", address)  # a mistyped name may be a password: it is not kept
    with parts.database.read() as db:
        pause_s = accounts.login_pause_s(db, keys, window_s=settings.login_pause_s)
        user = accounts.find_user(db, username)
    if pause_s > 0:
        known = Actor(user.id, user.username, address) if user else actor
        parts.denials.note(known, "login", {"reason": "paused"})
        raise LoginRefused("paused", max(1, round(pause_s)))
    matches = accounts.password_matches(user.password_hash if user else None, password)
    if user is None or not matches or user.disabled_at is not None:
        with parts.database.write() as db:
            accounts.note_failure(db, keys)
            known = Actor(user.id, user.username, address) if user else actor
            reason = "disabled" if user and matches else "wrong"
            audit.record(db, known, "login", outcome=audit.DENIED, detail={"reason": reason})
        raise LoginRefused("wrong")
    with parts.database.write() as db:
        current = db.get_one(User, user.id)
        token = accounts.start_session(db, current)
        accounts.forget_failures(db, keys)
        accounts.forget_old_sessions(db, settings.session_absolute_s * 2)
        audit.record(db, Actor(user.id, user.username, address), "login")
        must_change = current.must_change_password
    _begin(token)
    return must_change


def log_out(session_id: uuid.UUID, actor: Actor) -> None:
    """Ends this browser's session, for every copy of its cookie."""
    with services().database.write() as db:
        accounts.end_session(db, session_id)
        audit.record(db, actor, "logout")
    session.clear()


def change_own_password(user_id: uuid.UUID, old: str, new: str, actor: Actor) -> None:
    """Changes the password of whoever is logged in; his other sessions end, this one goes on under a new token.

    Raises:
        accounts.AccountError: When the old password is wrong or the new one is refused.
    """
    parts = services()
    keys = accounts.throttling_keys(f"password:{user_id}", "", parts.settings.login_failures_allowed)
    with parts.database.read() as db:
        if accounts.login_pause_s(db, keys, window_s=parts.settings.login_pause_s) > 0:
            raise accounts.AccountError("too many wrong passwords; wait a few minutes", "old")
        user = db.get_one(User, user_id)
    if not accounts.password_matches(user.password_hash, old):
        with parts.database.write() as db:
            accounts.note_failure(db, keys)
            audit.record(db, actor, "user.password", object_kind="user", object_id=user_id, outcome=audit.DENIED)
        raise accounts.AccountError("the old password is wrong", "old")
    with parts.database.write() as db:
        user = db.get_one(User, user_id)
        accounts.change_password(db, user, new, by=actor)
        token = accounts.start_session(db, user)
    _begin(token)


def cookie_token() -> str:
    """The session token in this request's cookie; empty when there is none."""
    token = session.get(TOKEN, "")
    return token if isinstance(token, str) else ""


def check_csrf(*, from_form: bool, streamed: str | None = None) -> None:
    """Refuses a request that another site may have made the browser send.

    Args:
        from_form: Whether the token may stand in the form. Where bodies are streamed it must be in the header:
            looking for it in the form would read the whole body.
        streamed: The token as it came with a form that the view streamed itself.

    Raises:
        Problem: 403.
    """
    check_origin()
    token = request.headers.get(CSRF_HEADER) or streamed or (request.form.get(CSRF_FIELD) if from_form else None)
    try:
        validate_csrf(token)
    except ValidationError as error:
        raise Problem(
            403,
            "csrf",
            "The page's security token is missing or too old; nothing was changed. Load the page again and repeat it.",
        ) from error


def check_origin() -> None:
    """Refuses a request of which the browser says that another site's page sent it. Raises Problem 403."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or (
        origin not in (None, "null") and urlsplit(str(origin)).netloc != request.host
    ):
        raise Problem(403, "cross_site", "The request came from another site's page; it was not carried out.")


def _begin(token: str) -> None:
    kept = {name: session[name] for name in ("locale",) if name in session}
    session.clear()  # also draws a new CSRF token: nothing known before the login is of use after it
    session.update(kept)
    session[TOKEN] = token
