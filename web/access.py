"""Who may call what: every route declares it, one hook enforces it, and an undeclared route stops the start.

Owns the decorators `@requires(Role.X)` and `@public`, the identity of the current request (`current_user()`), and the
order of the checks: who is it, may this role, is the password fresh, is the request not forged.

Refuses to know objects: whether this study is his is asked in `web.objects`.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from flask import Flask, Response, current_app, g, redirect, request, session, url_for

from db.queries import accounts, audit
from db.queries.audit import Actor
from db.queries.visibility import Viewer
from db.states import Role
from web import sessions
from web.problems import Problem, for_program
from web.services import remote_address, services

ATTRIBUTE = "__neurosight_access__"
LOGIN_ENDPOINT = "LOGIN_ENDPOINT"
PASSWORD_ENDPOINT = "PASSWORD_ENDPOINT"  # noqa: S105 - the name of a setting

F = TypeVar("F", bound=Callable[..., Any])


class UndeclaredAccess(Exception):
    """A route does not say who may call it; the message names each one."""


@dataclass(frozen=True)
class Access:
    """Who may call a route.

    Attributes:
        role: The least role; None: everybody, logged in or not.
        before_password_change: Also open to a user who must change his password first.
        header_csrf: The token against forged requests is taken from the header only (streamed bodies, JSON).
        streamed_form: A multipart body's token is checked by the view (`sessions.check_csrf`), when it has streamed
            the form and before it keeps anything; whatever is not multipart is checked before the view as usual.
    """

    role: Role | None
    before_password_change: bool = False
    header_csrf: bool = False
    streamed_form: bool = False


@dataclass(frozen=True)
class SignedIn:
    """The user of the current request."""

    id: uuid.UUID
    username: str
    display_name: str
    role: Role
    locale: str
    must_change_password: bool
    via: Literal["session", "token"]
    session_id: uuid.UUID | None = None
    blind_first: bool = False

    @property
    def viewer(self) -> Viewer:
        """For queries."""
        return Viewer(self.id, self.role)

    def may(self, role: Role | str) -> bool:
        """Whether this user's role includes `role`; for templates too: `current_user.may('clinician')`."""
        return self.role.includes(Role(role))


def requires(
    role: Role, *, before_password_change: bool = False, header_csrf: bool = False, streamed_form: bool = False
) -> Callable[[F], F]:
    """Declares that a view needs a logged-in user of at least this role. Innermost of the view's decorators."""
    return _declare(Access(role, before_password_change, header_csrf, streamed_form))


def public(view: F) -> F:
    """Declares that everybody may call a view. Innermost of the view's decorators."""
    return _declare(Access(None))(view)


def declared(app: Flask, endpoint: str) -> Access | None:
    """What the route of this endpoint declares; static files are public."""
    if endpoint.rpartition(".")[2] == "static":
        return Access(None)
    view = app.view_functions[endpoint]
    return getattr(view, ATTRIBUTE, None)


def check_declared(app: Flask) -> None:
    """Raises UndeclaredAccess when any route does not say who may call it."""
    silent = sorted({rule.endpoint for rule in app.url_map.iter_rules() if declared(app, rule.endpoint) is None})
    if silent:
        raise UndeclaredAccess(
            f"these routes declare no access: {', '.join(silent)}; expected @requires(Role.X) or @public on each"
        )


def init_app(app: Flask) -> None:
    """Enforces the declarations before every view."""
    app.config.setdefault(LOGIN_ENDPOINT, "pages.login")
    app.config.setdefault(PASSWORD_ENDPOINT, "pages.password")
    app.before_request(_enforce)
    app.context_processor(lambda: {"current_user": current_user()})


def current_user() -> SignedIn | None:
    """The user of this request; None for an anonymous one."""
    if "signed_in" not in g:
        g.signed_in = _identify()
    user: SignedIn | None = g.signed_in
    return user


def the_user() -> SignedIn:
    """The user, in views that require one."""
    user = current_user()
    if user is None:
        raise _log_in_first()
    return user


def actor() -> Actor:
    """Whoever makes this request, for the audit trail."""
    user = current_user()
    return Actor(user.id, user.username, remote_address()) if user else Actor(None, "", remote_address())


def note_denial(action: str, object_kind: str = "", object_id: object = "", reason: str = "") -> None:
    """Writes the audit row of a request that is refused; without it there is no answer but an error.

    What somebody unknown is refused is counted together (`web.denials`).
    """
    detail = {"route": request.url_rule.rule if request.url_rule else "", "method": request.method}
    if reason:
        detail["reason"] = reason
    who = actor()
    if who.user_id is None:
        services().denials.note(who, action, detail)
        return
    with services().database.write() as db:
        audit.record(db, who, action, object_kind=object_kind, object_id=object_id, outcome=audit.DENIED, detail=detail)


def _declare(access: Access) -> Callable[[F], F]:
    def mark(view: F) -> F:
        setattr(view, ATTRIBUTE, access)
        return view

    return mark


def _enforce() -> Response | None:
    if request.endpoint is None:
        return None  # no such route: Flask answers
    access = declared(current_app, request.endpoint)
    if access is None:
        raise UndeclaredAccess(f"the route {request.endpoint} declares no access")
    if request.method == "OPTIONS":
        return None
    if access.role is not None:
        user = current_user()
        if user is None:
            note_denial("access", reason="anonymous")
            return _to_login()
        if user.must_change_password and user.via == "session" and not access.before_password_change:
            return _to_password_change()
        if not user.role.includes(access.role):
            note_denial("access", reason="role")
            raise Problem(
                403,
                "role",
                "This needs the role %(needed)s; yours is %(yours)s. Ask an administrator.",
                facts={"needed": str(access.role), "yours": str(user.role)},
            )
    if request.method not in sessions.SAFE_METHODS and not _by_token():
        if access.streamed_form and request.mimetype == "multipart/form-data":
            sessions.check_origin()
        else:
            sessions.check_csrf(from_form=not access.header_csrf)
    return None


def _identify() -> SignedIn | None:
    parts = services()
    settings = parts.settings
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with parts.database.read() as db:
            known = accounts.user_of_token(db, bearer.strip())
        if known is None:
            g.signed_in = None
            note_denial("access", reason="token")
            raise Problem(
                401,
                "token",
                "The API token is not valid: unknown, expired or revoked. Make a new one and send it as "
                "`Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if known.touch and known.token_id:
            with parts.database.write() as db:
                accounts.touch_token(db, known.token_id)
        return _signed_in(known, "token")
    token = sessions.cookie_token()
    if not token:
        return None
    with parts.database.read() as db:
        known = accounts.user_of_session(
            db, token, idle_s=settings.session_idle_s, absolute_s=settings.session_absolute_s
        )
    if known is None:
        session.pop(sessions.TOKEN, None)
        return None
    if known.touch and known.session_id:
        with parts.database.write() as db:
            accounts.touch_session(db, known.session_id)
    return _signed_in(known, "session")


def _signed_in(known: accounts.Known, via: Literal["session", "token"]) -> SignedIn:
    user = known.user
    return SignedIn(
        id=user.id,
        username=user.username,
        display_name=user.display_name or user.username,
        role=Role(user.role),
        locale=user.locale,
        must_change_password=user.must_change_password,
        via=via,
        session_id=known.session_id,
        blind_first=user.blind_first,
    )


def _by_token() -> bool:
    """Whether the request proved itself by a header that no other site can make a browser send."""
    user = g.get("signed_in")
    return user is not None and user.via == "token"


def _to_login() -> Response:
    endpoint = current_app.config[LOGIN_ENDPOINT]
    if for_program() or request.headers.get("HX-Request") or endpoint not in current_app.view_functions:
        raise _log_in_first()
    back = request.full_path.rstrip("?") if request.method == "GET" else ""
    return _redirect(endpoint, back)


def _to_password_change() -> Response:
    endpoint = current_app.config[PASSWORD_ENDPOINT]
    if for_program() or request.headers.get("HX-Request") or endpoint not in current_app.view_functions:
        raise Problem(403, "password_change", "Log in with a browser and change the one-time password first.")
    return _redirect(endpoint, "")


def _redirect(endpoint: str, back: str) -> Response:
    address = url_for(endpoint)
    response = redirect(f"{address}?{urlencode({'next': back})}" if back else address)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own class, for the type checker
    return response


def _log_in_first() -> Problem:
    return Problem(
        401,
        "not_logged_in",
        "Log in, or send an API token as `Authorization: Bearer TOKEN`.",
        headers={"WWW-Authenticate": "Bearer"},
    )
