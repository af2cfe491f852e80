"""Users and the audit trail, for administrators.

Owns these lists and forms. The rules (never without an administrator, which sessions end) are kept in
`db.queries.accounts`. A one-time password stands in the answer to its making and nowhere else.
"""

import uuid
from collections.abc import Callable

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext
from sqlalchemy.orm import Session

from db.queries import accounts, audit
from db.states import Role
from db.users import User
from web.access import actor, requires, the_user
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services

AUDIT_ROWS = 100
OUTCOMES = (audit.OK, audit.DENIED, audit.FAILED)


@pages.get("/admin/users")
@requires(Role.ADMIN)
def users() -> Response:
    """All users, and the form for a new one."""
    return _page()


@pages.post("/admin/users")
@requires(Role.ADMIN)
def create_user() -> Response:
    """Makes a user with a one-time password, which is shown this once."""
    role = _wanted_role()
    password = accounts.new_password()
    try:
        with services().database.write() as db:
            user = accounts.create_user(
                db,
                request.form.get("username", ""),
                password,
                role,
                by=actor(),
                display_name=request.form.get("display_name", "").strip(),
                must_change_password=True,
            )
    except accounts.AccountError as error:
        return _page(error=sentence(error.template, dict(error.facts)), status=422)
    return _page(made=user, password=password, status=201)


@pages.post("/admin/users/<uuid:user_id>/role")
@requires(Role.ADMIN)
def change_role(user_id: uuid.UUID) -> Response:
    """Gives a user another role."""
    role = _wanted_role()

    def change(db: Session, user: User) -> None:
        if user.role != role:
            accounts.change_role(db, user, role, by=actor())

    return _change(user_id, change, gettext("The role was changed; the user's sessions were ended."))


@pages.post("/admin/users/<uuid:user_id>/disable")
@requires(Role.ADMIN)
def disable_user(user_id: uuid.UUID) -> Response:
    """Closes an account."""
    if user_id == the_user().id:
        return _page(error=gettext("You cannot close your own account; another administrator can."), status=422)
    return _change(
        user_id,
        lambda db, user: accounts.disable_user(db, user, by=actor()),
        gettext("The account is closed: no login, no session and no token of it works any more."),
    )


@pages.post("/admin/users/<uuid:user_id>/enable")
@requires(Role.ADMIN)
def enable_user(user_id: uuid.UUID) -> Response:
    """Opens a closed account again."""
    return _change(
        user_id, lambda db, user: accounts.enable_user(db, user, by=actor()), gettext("The account is open again.")
    )


@pages.post("/admin/users/<uuid:user_id>/password")
@requires(Role.ADMIN)
def reset_password(user_id: uuid.UUID) -> Response:
    """Gives a user a one-time password, which is shown this once."""
    if user_id == the_user().id:
        return see("pages.password")
    password = accounts.new_password()
    with services().database.write() as db:
        user = _find(db, user_id)
        accounts.change_password(db, user, password, by=actor(), must_change=True)
    return _page(made=user, password=password)


@pages.get("/admin/audit", endpoint="audit")
@requires(Role.ADMIN)
def audit_trail() -> str:
    """The audit trail, the newest first."""
    wanted = {name: request.args.get(name, "").strip()[:64] for name in ("action", "outcome", "object")}
    before = request.args.get("before", "")
    with services().database.read() as db:
        rows = audit.newest(
            db,
            limit=AUDIT_ROWS + 1,
            before_id=int(before) if before.isdecimal() and len(before) < 16 else None,
            action_prefix=wanted["action"],
            outcome=wanted["outcome"] if wanted["outcome"] in OUTCOMES else "",
            object_id=wanted["object"],
        )
    query = {name: value for name, value in wanted.items() if value}
    older = rows[AUDIT_ROWS - 1].id if len(rows) > AUDIT_ROWS else None
    return render_template(
        "admin/audit.html", rows=rows[:AUDIT_ROWS], query=query, older=older, newest=not before, outcomes=OUTCOMES
    )


def _change(user_id: uuid.UUID, change: Callable[[Session, User], None], done: str) -> Response:
    try:
        with services().database.write() as db:
            change(db, _find(db, user_id))
    except accounts.AccountError as error:
        return _page(error=sentence(error.template, dict(error.facts)), status=422)
    flash(done, "good")
    return see("pages.users")


def _find(db: Session, user_id: uuid.UUID) -> User:
    user = db.get(User, user_id, with_for_update=True)
    if user is None:
        raise Problem(404, "not_found", "There is no such user.")
    return user


def _wanted_role() -> Role:
    try:
        return Role(request.form.get("role", ""))
    except ValueError:
        raise Problem(422, "role_unknown", "Choose one of the offered roles.") from None


def _page(*, made: User | None = None, password: str = "", error: str = "", status: int = 200) -> Response:
    with services().database.read() as db:
        everybody = accounts.list_users(db)
    page = render_template(
        "admin/users.html",
        users=everybody,
        roles=list(Role),
        made=made,
        password=password,
        error=error,
        typed=request.form if error else {},
    )
    return make_response(page, status)
