"""Accounts that running the system needs: the first admin, and short-lived ones for the demo and the doctor.

Owns how they are made through the same functions as everybody else's, with their audit rows. Refuses default
passwords: each is drawn at random, shown once if a person needs it, and ended when its purpose is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from config.settings import Settings
from db.base import utc_now
from db.queries import accounts
from db.queries.audit import SYSTEM
from db.session import Database
from db.states import Role
from db.users import ApiToken, User

TOKEN_LIFE = timedelta(hours=2)
"""Ends a token even when the process that drew it was killed."""


@dataclass(frozen=True)
class Visitor:
    """A short-lived account."""

    username: str
    password: str
    token: str


def first_admin(settings: Settings) -> tuple[str, str] | None:
    """Makes the first admin on an empty system; returns (username, one-time password), or None when users exist."""
    database = Database(settings.resolved_database_url)
    try:
        with database.write() as session:
            return accounts.ensure_first_admin(session)
    finally:
        database.close()


@contextmanager
def visitor(settings: Settings, username: str, role: Role) -> Iterator[Visitor]:
    """An account with a new random password and token; at the end its token is revoked and it is disabled."""
    database = Database(settings.resolved_database_url)
    password = accounts.new_password()
    try:
        with database.write() as session:
            user = accounts.find_user(session, username)
            if user is None:
                user = accounts.create_user(session, username, password, role, by=SYSTEM, display_name=username.title())
            else:
                accounts.enable_user(session, user, by=SYSTEM)
                accounts.change_password(session, user, password, by=SYSTEM)
                if user.role != role:
                    accounts.change_role(session, user, role, by=SYSTEM)
            row, token = accounts.create_token(
                session, user, f"{username} run", by=SYSTEM, expires_at=utc_now() + TOKEN_LIFE
            )
            user_id, token_id = user.id, row.id
        try:
            yield Visitor(username, password, token)
        finally:
            with database.write() as session:
                accounts.revoke_token(session, session.get_one(ApiToken, token_id), by=SYSTEM)
                accounts.disable_user(session, session.get_one(User, user_id), by=SYSTEM)
    finally:
        database.close()
