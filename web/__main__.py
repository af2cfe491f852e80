"""`python -m web accounts ...`: accounts from the command line of the server, for who has locked himself out.

Owns parsing and printing; what it does is written in `db.queries.accounts`. Whoever can run it can read the database
anyway, so it asks for no password; every change is in the audit trail as done by `system`.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from config.settings import SettingsError, load_settings
from db.base import utc_now
from db.queries import accounts
from db.queries.accounts import AccountError
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.users import User


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: By default those of the process.

    Returns:
        0 when it was done, 1 when it was refused or the database does not answer.
    """
    wanted = _parser().parse_args(arguments)
    try:
        database = Database(load_settings().resolved_database_url)
        try:
            with database.write() as session:
                print(_run(session, wanted))
        finally:
            database.close()
    except (AccountError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        print(f"error: the database does not answer ({error.orig}); is it migrated and running?", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    areas = parser.add_subparsers(dest="area", required=True)
    area = areas.add_parser("accounts", help="users, passwords, API tokens")
    commands = area.add_subparsers(dest="command", required=True)
    commands.add_parser("first-admin", help="make the first admin when there is no user yet")
    commands.add_parser("list", help="all users")
    create = commands.add_parser("create", help="make a user with a one-time password")
    create.add_argument("username")
    create.add_argument("--role", choices=[role.value for role in Role], default=Role.SUBMITTER.value)
    create.add_argument("--display-name", default="")
    role = commands.add_parser("role", help="change a user's role; his sessions end")
    role.add_argument("username")
    role.add_argument("role", choices=[role.value for role in Role])
    for name, what in (
        ("password", "give a user a new one-time password; his sessions end"),
        ("disable", "end a user's account"),
        ("enable", "open a disabled account again"),
    ):
        commands.add_parser(name, help=what).add_argument("username")
    token = commands.add_parser("token", help="make an API token and print it, once")
    token.add_argument("username")
    token.add_argument("--name", default="made on the server")
    token.add_argument("--days", type=int, default=90, help="days until it expires (default 90)")
    return parser


def _run(session: Session, wanted: argparse.Namespace) -> str:
    if wanted.command == "first-admin":
        made = accounts.ensure_first_admin(session)
        if made is None:
            return "There are users already; nothing was made."
        return _one_time(*made)
    if wanted.command == "list":
        return "\n".join(_line(user) for user in accounts.list_users(session)) or "There is no user yet."
    if wanted.command == "create":
        password = accounts.new_password()
        user = accounts.create_user(
            session,
            wanted.username,
            password,
            Role(wanted.role),
            by=SYSTEM,
            display_name=wanted.display_name,
            must_change_password=True,
        )
        return _one_time(user.username, password)
    user = _user(session, wanted.username)
    if wanted.command == "password":
        password = accounts.new_password()
        accounts.change_password(session, user, password, by=SYSTEM, must_change=True)
        return _one_time(user.username, password)
    if wanted.command == "role":
        accounts.change_role(session, user, Role(wanted.role), by=SYSTEM)
    elif wanted.command == "disable":
        accounts.disable_user(session, user, by=SYSTEM)
    elif wanted.command == "enable":
        accounts.enable_user(session, user, by=SYSTEM)
    elif wanted.command == "token":
        if not 1 <= wanted.days <= 3650:
            raise AccountError(f"received --days {wanted.days}; expected 1 to 3650")
        expires_at = utc_now() + timedelta(days=wanted.days)
        return accounts.create_token(session, user, wanted.name, by=SYSTEM, expires_at=expires_at)[1]
    return _line(user)


def _user(session: Session, username: str) -> User:
    user = accounts.find_user(session, username)
    if user is None:
        raise AccountError(f"there is no user {username!r}; `python -m web accounts list` names them")
    return user


def _line(user: User) -> str:
    state = "disabled" if user.disabled_at else "must change password" if user.must_change_password else "active"
    last = f"{user.last_login_at:%Y-%m-%d %H:%M} UTC" if user.last_login_at else "never"
    return f"{user.username:24} {user.role:10} {state:21} last login: {last}"


def _one_time(username: str, password: str) -> str:
    return (
        f"username: {username}\none-time password: {password}\nIt is shown once and must be changed at the first login."
    )


if __name__ == "__main__":
    sys.exit(main())
