"""Accounts: users, passwords, sessions, API tokens, and the pause after failed logins.

Owns every change of who may do what; each change ends the sessions it must end (`session_epoch`) and writes its audit
row in the same transaction. Passwords are kept as Argon2id hashes, tokens as SHA-256: neither can be read back.

Refuses default passwords, and to leave the system without an admin.
"""

import hashlib
import re
import secrets
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from db.base import utc_now
from db.queries import audit
from db.queries.audit import SYSTEM, Actor
from db.states import Role
from db.users import ApiToken, LoginFailure, User, UserSession

FIRST_ADMIN = "admin"
USERNAME = re.compile(r"\A[a-z0-9][a-z0-9._@-]{0,63}\Z")
PASSWORD_MIN, PASSWORD_MAX = 12, 256
TOKEN_PREFIX = "nst_"  # noqa: S105 - lets a scanner of leaked secrets recognise ours
TOUCH_EVERY_S = 60.0
"""`seen_at` and `last_used_at` are written at most this often, so that reading pages does not write rows."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_HASHING = threading.BoundedSemaphore(2)
"""Each hash takes 19 MiB and a core for some 20 ms: a flood of logins must not take them all."""
_NOBODY = _HASHER.hash(secrets.token_urlsafe())
"""Verified when the name is unknown, so that an answer takes as long as for a known one."""


class AccountError(ValueError):
    """A change of an account that is refused; the message says why and what is expected.

    Args:
        template: English sentence, with `%(name)s` places when there are facts: pages translate it, then fill it in.
        field: The field of a form at fault, when one is: `old`, `new` or `username`.
        **facts: What fills the places.
    """

    def __init__(self, template: str, field: str = "", **facts: object) -> None:
        self.template, self.field, self.facts = template, field, facts
        super().__init__(template % facts if facts else template)


@dataclass(frozen=True)
class Known:
    """A user as proved by a session or a token."""

    user: User
    session_id: uuid.UUID | None
    token_id: uuid.UUID | None
    touch: bool
    """Whether the time of last use is old enough to be written again."""


def hash_password(password: str) -> str:
    """Argon2id hash with its parameters and salt."""
    with _HASHING:
        return _HASHER.hash(password)


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is the one of the hash; takes the same time when there is no hash."""
    with _HASHING:
        try:
            return _HASHER.verify(password_hash or _NOBODY, password[:PASSWORD_MAX]) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


def ensure_first_admin(session: Session) -> tuple[str, str] | None:
    """Makes the first admin when there is no user at all.

    Returns:
        (username, one-time password) to be shown once: it must be changed at the first login. None when users exist.
    """
    if session.scalar(select(User.id).limit(1)) is not None:
        return None
    password = new_password()
    create_user(session, FIRST_ADMIN, password, Role.ADMIN, by=SYSTEM, must_change_password=True)
    return FIRST_ADMIN, password


def new_password() -> str:
    """A random password of four groups that can be read out and typed; about 95 bits."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


def check_password(password: str, username: str = "") -> None:
    """Raises AccountError when a password is too short, too long, or is the name itself."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise AccountError(
            "received a password of %(length)s characters; expected %(least)s to %(most)s",
            "new",
            length=len(password),
            least=PASSWORD_MIN,
            most=PASSWORD_MAX,
        )
    if username and username.lower() in password.lower() and len(password) < len(username) + 8:
        raise AccountError("the password is little more than the username; choose another one", "new")
    if len(set(password)) < 5:
        raise AccountError("the password repeats very few characters; choose another one", "new")


def create_user(
    session: Session,
    username: str,
    password: str,
    role: Role,
    *,
    by: Actor,
    display_name: str = "",
    must_change_password: bool = False,
) -> User:
    """Makes a user.

    Raises:
        AccountError: When the name is malformed or taken, or the password is refused.
    """
    username = username.strip().lower()
    if not USERNAME.match(username):
        raise AccountError(
            "received the username '%(username)s'; expected 1 to 64 of a-z 0-9 . _ @ - beginning with a letter "
            "or digit",
            "username",
            username=username[:80],
        )
    check_password(password, username)
    if session.scalar(select(User.id).where(User.username == username)) is not None:
        raise AccountError("the username '%(username)s' is taken; choose another one", "username", username=username)
    user = User(
        username=username,
        display_name=display_name[:128],
        role=role,
        password_hash=hash_password(password),
        must_change_password=must_change_password,
    )
    session.add(user)
    session.flush()
    audit.record(session, by, "user.create", object_kind="user", object_id=user.id, detail={"role": str(role)})
    return user


def find_user(session: Session, username: str) -> User | None:
    """The user of this name, disabled or not."""
    return session.scalars(select(User).where(User.username == username.strip().lower())).one_or_none()


def list_users(session: Session) -> list[User]:
    """All users by name."""
    return list(session.scalars(select(User).order_by(User.username)))


def change_password(session: Session, user: User, password: str, *, by: Actor, must_change: bool = False) -> None:
    """Sets a password and ends all sessions of the user. Raises AccountError when the password is refused."""
    check_password(password, user.username)
    if password_matches(user.password_hash, password):
        raise AccountError("the new password is the old one; choose another one", "new")
    user.password_hash = hash_password(password)
    user.must_change_password = must_change
    user.session_epoch += 1
    session.flush()
    audit.record(session, by, "user.password", object_kind="user", object_id=user.id)


def change_role(session: Session, user: User, role: Role, *, by: Actor) -> None:
    """Sets a role and ends all sessions of the user. Raises AccountError for the last admin."""
    if role != Role.ADMIN:
        _keep_an_admin(session, user)
    before, user.role = user.role, role
    user.session_epoch += 1
    session.flush()
    detail = {"before": str(before), "after": str(role)}
    audit.record(session, by, "user.role", object_kind="user", object_id=user.id, detail=detail)


def set_blind_first(session: Session, user: User, wanted: bool, *, by: Actor) -> None:
    """Chooses whether a user commits his opinion about a study before he is shown its results."""
    if user.blind_first != wanted:
        user.blind_first = wanted
        audit.record(session, by, "user.reading", object_kind="user", object_id=user.id, detail={"blind": wanted})


def disable_user(session: Session, user: User, *, by: Actor) -> None:
    """Ends an account: no login, no session, no token. Raises AccountError for the last admin."""
    _keep_an_admin(session, user)
    user.disabled_at = utc_now()
    user.session_epoch += 1
    session.flush()
    audit.record(session, by, "user.disable", object_kind="user", object_id=user.id)


def enable_user(session: Session, user: User, *, by: Actor) -> None:
    """Opens a disabled account again; its old sessions stay ended."""
    user.disabled_at = None
    session.flush()
    audit.record(session, by, "user.enable", object_kind="user", object_id=user.id)


# --- Logging in ---


def login_pause_s(session: Session, keys: dict[str, int], *, window_s: float) -> float:
    """How long logins under these keys must wait, seconds; 0: not at all.

    Args:
        session: Any.
        keys: Throttling key -> failures allowed within the window.
        window_s: Length of the window, and of the pause.
    """
    now = utc_now()
    longest = 0.0
    for key, allowed in keys.items():
        times = session.scalars(
            select(LoginFailure.failed_at)
            .where(LoginFailure.key == key, LoginFailure.failed_at > now - timedelta(seconds=window_s))
            .order_by(LoginFailure.failed_at.desc())
            .limit(allowed)
        ).all()
        if len(times) >= allowed:
            longest = max(longest, window_s - (now - times[-1]).total_seconds())
    return longest


def throttling_keys(username: str, remote_address: str, allowed: int) -> dict[str, int]:
    """Keys under which a failed login counts: name and address together, and each alone with more patience."""
    name = username.strip().lower()
    return {
        _key("both", name, remote_address): allowed,
        _key("name", name): allowed * 5,
        _key("address", remote_address): allowed * 10,
    }


def note_failure(session: Session, keys: dict[str, int]) -> None:
    """Counts one failed login."""
    session.add_all(LoginFailure(key=key) for key in keys)
    session.flush()


def forget_failures(session: Session, keys: dict[str, int]) -> None:
    """After a login: the name's failures from this address are forgotten, those of the address as a whole are not."""
    own = next(iter(keys))
    session.execute(delete(LoginFailure).where(LoginFailure.key == own))


def start_session(session: Session, user: User) -> str:
    """Logs a user in; returns the session's token for the cookie."""
    token = secrets.token_urlsafe(32)
    now = utc_now()
    user.last_login_at = now
    session.add(UserSession(user_id=user.id, token_sha256=digest(token), session_epoch=user.session_epoch, seen_at=now))
    session.flush()
    return token


def end_session(session: Session, session_id: uuid.UUID) -> None:
    """Logs one browser out: its cookie is worthless from now on, wherever it was copied to."""
    session.execute(update(UserSession).where(UserSession.id == session_id).values(ended_at=utc_now()))


def user_of_session(session: Session, token: str, *, idle_s: float, absolute_s: float) -> Known | None:
    """The user of a live session; None when it ended, was idle or open too long, or the account changed."""
    row = session.execute(
        select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.token_sha256 == digest(token))
    ).one_or_none()
    if row is None:
        return None
    held, user = row
    now = utc_now()
    if (
        held.ended_at is not None
        or user.disabled_at is not None
        or held.session_epoch != user.session_epoch
        or now - held.seen_at > timedelta(seconds=idle_s)
        or now - held.created_at > timedelta(seconds=absolute_s)
    ):
        return None
    return Known(user, held.id, None, _stale(held.seen_at, now, idle_s))


def touch_session(session: Session, session_id: uuid.UUID) -> None:
    """Records that a session was used now."""
    session.execute(update(UserSession).where(UserSession.id == session_id).values(seen_at=utc_now()))


def forget_old_sessions(session: Session, older_than_s: float) -> None:
    """Removes sessions that cannot be used any more."""
    limit = utc_now() - timedelta(seconds=older_than_s)
    session.execute(delete(UserSession).where(UserSession.created_at < limit))


# --- API tokens ---


def create_token(
    session: Session, user: User, name: str, *, by: Actor, expires_at: datetime | None
) -> tuple[ApiToken, str]:
    """Makes an API token.

    Returns:
        (its row, the token itself: shown now and never again).
    """
    plain = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        user_id=user.id, name=name.strip()[:64] or "token", token_sha256=digest(plain), expires_at=expires_at
    )
    session.add(token)
    session.flush()
    audit.record(session, by, "token.create", object_kind="token", object_id=token.id)
    return token, plain


def list_tokens(session: Session, user_id: uuid.UUID) -> list[ApiToken]:
    """A user's tokens, the newest first; revoked ones too."""
    return list(
        session.scalars(select(ApiToken).where(ApiToken.user_id == user_id).order_by(ApiToken.created_at.desc()))
    )


def revoke_token(session: Session, token: ApiToken, *, by: Actor) -> None:
    """Ends a token; no error when it had ended."""
    if token.revoked_at is None:
        token.revoked_at = utc_now()
        session.flush()
        audit.record(session, by, "token.revoke", object_kind="token", object_id=token.id)


def user_of_token(session: Session, plain: str) -> Known | None:
    """The user of a live token."""
    row = session.execute(
        select(ApiToken, User).join(User, User.id == ApiToken.user_id).where(ApiToken.token_sha256 == digest(plain))
    ).one_or_none()
    if row is None:
        return None
    token, user = row
    now = utc_now()
    if (
        token.revoked_at is not None
        or user.disabled_at is not None
        or (token.expires_at is not None and token.expires_at <= now)
    ):
        return None
    return Known(user, None, token.id, token.last_used_at is None or _stale(token.last_used_at, now, TOUCH_EVERY_S * 4))


def touch_token(session: Session, token_id: uuid.UUID) -> None:
    """Records that a token was used now."""
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=utc_now()))


def digest(token: str) -> str:
    """SHA-256 of a token. It is random and long, so that no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _stale(moment: datetime, now: datetime, idle_s: float) -> bool:
    return now - moment > timedelta(seconds=min(TOUCH_EVERY_S, idle_s / 4))


def _keep_an_admin(session: Session, user: User) -> None:
    others = session.scalar(
        select(func.count())
        .select_from(User)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None), User.id != user.id)
    )
    if user.role == Role.ADMIN and not others:
        raise AccountError("this is the only admin; make another user admin first")
