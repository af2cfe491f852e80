"""Users, their sessions and API tokens, failed logins, and the audit trail.

Owns who may do what and what they did. Refuses to hold a password or a token in clear: only an Argon2id hash and the
SHA-256 of a token.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, WithId, utc_now
from db.states import Role


class User(WithId, Base):
    """A person who may log in."""

    __tablename__ = "user_account"

    username: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(128), default="")
    role: Mapped[Role] = mapped_column(String(16))
    password_hash: Mapped[str] = mapped_column(String(256))
    must_change_password: Mapped[bool] = mapped_column(default=False)
    session_epoch: Mapped[int] = mapped_column(default=0)
    """Raised on a change of password or role: sessions that carry an older number end."""
    locale: Mapped[str] = mapped_column(String(8), default="")
    blind_first: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether he commits an opinion about a study before he is shown what the network says."""
    disabled_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]


class UserSession(WithId, Base):
    """One browser that is logged in; the cookie carries a random token, kept here only as its SHA-256."""

    __tablename__ = "user_session"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    session_epoch: Mapped[int]
    """The user's epoch at login; the session ends when the user's is raised."""
    seen_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    ended_at: Mapped[datetime | None]


class ApiToken(WithId, Base):
    """A bearer token of one user, shown once and kept only as its SHA-256."""

    __tablename__ = "api_token"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class LoginFailure(Base):
    """One failed login, kept for throttling and swept afterwards."""

    __tablename__ = "login_failure"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(128), index=True)
    failed_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class AuditEvent(Base):
    """One line of the audit trail: who did what to which object, and whether it was allowed.

    Rows are chained in the order of their commits: each carries the digest of the one before (`db.audit_chain`).
    """

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_object", "object_kind", "object_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    actor_id: Mapped[uuid.UUID | None]
    actor_name: Mapped[str] = mapped_column(String(64), default="")
    action: Mapped[str] = mapped_column(String(64), index=True)
    object_kind: Mapped[str] = mapped_column(String(32), default="")
    object_id: Mapped[str] = mapped_column(String(64), default="")
    outcome: Mapped[str] = mapped_column(String(16))
    """`ok`, `denied` or `failed`."""
    remote_address: Mapped[str] = mapped_column(String(64), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    chain_number: Mapped[int | None] = mapped_column(unique=True)
    """Place in the chain, from 1 without gaps; given as the last thing before the commit."""
    previous_sha256: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """`row_sha256` of the row before; empty for the first."""
    row_sha256: Mapped[str] = mapped_column(String(64), default="", server_default="")


class AuditHead(Base):
    """The end of the chain: one row, held by whoever adds to it."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    chain_number: Mapped[int] = mapped_column(default=0)
    row_sha256: Mapped[str] = mapped_column(String(64), default="")
