"""The accounts that running the system makes: random, audited, and ended with their purpose."""

from sqlalchemy import select

from config.settings import Settings
from db.queries import accounts
from db.session import Database
from db.states import Role
from db.users import AuditEvent
from ops.accounts import first_admin, visitor


def test_the_first_admin_is_made_once_and_must_change_the_password(settings: Settings, database: Database) -> None:
    made = first_admin(settings)
    assert made is not None
    assert first_admin(settings) is None
    with database.read() as session:
        user = accounts.find_user(session, made[0])
        assert user is not None
        assert (user.role, user.must_change_password) == (Role.ADMIN, True)
        assert accounts.password_matches(user.password_hash, made[1])


def test_a_visitor_is_gone_when_the_visit_ends(settings: Settings, database: Database) -> None:
    with visitor(settings, "demo", Role.CLINICIAN) as first, database.read() as session:
        known = accounts.user_of_token(session, first.token)
        assert known is not None
        assert (known.user.username, known.user.role) == ("demo", Role.CLINICIAN)
    with database.read() as session:
        assert accounts.user_of_token(session, first.token) is None
        user = accounts.find_user(session, "demo")
        assert user is not None
        assert user.disabled_at is not None
    with visitor(settings, "demo", Role.CLINICIAN) as second:
        assert second.password != first.password
        with database.read() as session:
            user = accounts.find_user(session, "demo")
            assert user is not None
            assert not accounts.password_matches(user.password_hash, first.password)
    with database.read() as session:
        actions = set(session.scalars(select(AuditEvent.action)))
    assert {"user.create", "token.create", "token.revoke", "user.disable", "user.enable"} <= actions
