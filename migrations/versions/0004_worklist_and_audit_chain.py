"""Where studies stand, decisions about studies, opinions first, and the audit trail as a chain.

Studies that are there get a row that is computed when it is first shown; audit rows that are there are chained in the
order of their numbers. From then on the database itself refuses to change or remove a sealed audit row. (A later
migration that makes `audit_event` anew, as SQLite does for most changes of a table, has to make the triggers anew.)

Revision: 0004
Follows: 0003
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")

SQLITE_TRIGGERS = (
    "CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event "
    "BEGIN SELECT RAISE(ABORT, 'audit rows are never removed'); END",
    "CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event WHEN OLD.row_sha256 <> '' "
    "BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
)
POSTGRESQL_TRIGGERS = (
    "CREATE FUNCTION audit_event_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF TG_OP = 'UPDATE' AND OLD.row_sha256 = '' THEN RETURN NEW; END IF; "
    "RAISE EXCEPTION 'audit rows are never changed or removed'; END $$",
    "CREATE TRIGGER audit_event_no_change BEFORE UPDATE OR DELETE ON audit_event "
    "FOR EACH ROW EXECUTE FUNCTION audit_event_is_kept()",
    "CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_kept()",
)


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_number", sa.Integer(), nullable=False),
        sa.Column("row_sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "study_decision",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("decided_by_id", sa.Uuid(), nullable=True),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("results", JSON, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_study_decision_checkpoint_id")),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["user_account.id"], name=op.f("fk_study_decision_decided_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_study_decision_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_decision")),
    )
    with op.batch_alter_table("study_decision", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_study_decision_checkpoint_id"), ["checkpoint_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_decision_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_study_decision_study", ["study_id", "created_at"], unique=False)

    op.create_table(
        "study_standing",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("leading_class", sa.String(length=64), nullable=False),
        sa.Column("other_classes", JSON, nullable=False),
        sa.Column("peak_probability", sa.Double(), nullable=True),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("analysed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("not_asked", sa.Integer(), nullable=False),
        sa.Column("newest_result_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided", sa.Integer(), nullable=False),
        sa.Column("disagreed", sa.Integer(), nullable=False),
        sa.Column("review_state", sa.String(length=16), nullable=False),
        sa.Column("reviewed_by_id", sa.Uuid(), nullable=True),
        sa.Column("urgency", sa.Double(), nullable=False),
        sa.Column("assigned_to_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["assigned_to_id"], ["user_account.id"], name=op.f("fk_study_standing_assigned_to_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_study_standing_checkpoint_id")),
        sa.ForeignKeyConstraint(
            ["reviewed_by_id"], ["user_account.id"], name=op.f("fk_study_standing_reviewed_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_study_standing_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study_standing")),
    )
    with op.batch_alter_table("study_standing", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_study_standing_assigned_to_id"), ["assigned_to_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_standing_checkpoint_id"), ["checkpoint_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_standing_reviewed_by_id"), ["reviewed_by_id"], unique=False)
        batch_op.create_index("ix_study_standing_stale", ["stale"], unique=False)
        batch_op.create_index(
            "ix_study_standing_worklist", ["review_state", "urgency", "received_at", "study_id"], unique=False
        )

    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.add_column(sa.Column("chain_number", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("previous_sha256", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("row_sha256", sa.String(length=64), server_default="", nullable=False))
        batch_op.create_unique_constraint(batch_op.f("uq_audit_event_chain_number"), ["chain_number"])

    with op.batch_alter_table("user_account", schema=None) as batch_op:
        batch_op.add_column(sa.Column("blind_first", sa.Boolean(), server_default=sa.false(), nullable=False))

    connection = op.get_bind()
    _begin_standings(connection)
    _chain(connection)
    for statement in SQLITE_TRIGGERS if connection.dialect.name == "sqlite" else POSTGRESQL_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it back."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_event_no_delete")
        op.execute("DROP TRIGGER audit_event_no_update")
    else:
        op.execute("DROP TRIGGER audit_event_no_truncate ON audit_event")
        op.execute("DROP TRIGGER audit_event_no_change ON audit_event")
        op.execute("DROP FUNCTION audit_event_is_kept()")
    with op.batch_alter_table("user_account", schema=None) as batch_op:
        batch_op.drop_column("blind_first")

    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_audit_event_chain_number"), type_="unique")
        batch_op.drop_column("row_sha256")
        batch_op.drop_column("previous_sha256")
        batch_op.drop_column("chain_number")

    with op.batch_alter_table("study_standing", schema=None) as batch_op:
        batch_op.drop_index("ix_study_standing_worklist")
        batch_op.drop_index("ix_study_standing_stale")
        batch_op.drop_index(batch_op.f("ix_study_standing_reviewed_by_id"))
        batch_op.drop_index(batch_op.f("ix_study_standing_checkpoint_id"))
        batch_op.drop_index(batch_op.f("ix_study_standing_assigned_to_id"))

    op.drop_table("study_standing")
    with op.batch_alter_table("study_decision", schema=None) as batch_op:
        batch_op.drop_index("ix_study_decision_study")
        batch_op.drop_index(batch_op.f("ix_study_decision_created_at"))
        batch_op.drop_index(batch_op.f("ix_study_decision_checkpoint_id"))

    op.drop_table("study_decision")
    op.drop_table("audit_head")


def _begin_standings(connection: sa.Connection) -> None:
    """A row for each study, to be computed."""
    connection.execute(
        sa.text(
            "INSERT INTO study_standing (study_id, stale, version, finding, leading_class, other_classes, slices, "
            "analysed, failed, waiting, not_asked, decided, disagreed, review_state, urgency, received_at) "
            "SELECT id, true, 0, 'none', '', '[]', 0, 0, 0, 0, 0, 0, 0, 'open', 0.0, created_at FROM study"
        )
    )


def _chain(connection: sa.Connection) -> None:
    """Chains the audit rows that are there, as `db.audit_chain` does with new ones."""
    table = sa.table(
        "audit_event",
        sa.column("id", sa.Integer()),
        sa.column("occurred_at", sa.DateTime(timezone=True)),
        sa.column("actor_id", sa.Uuid()),
        *(sa.column(name, sa.String()) for name in ("actor_name", "action", "object_kind", "object_id", "outcome")),
        sa.column("remote_address", sa.String()),
        sa.column("detail", JSON),
        sa.column("chain_number", sa.Integer()),
        sa.column("previous_sha256", sa.String()),
        sa.column("row_sha256", sa.String()),
    )
    number, before, last = 0, "", 0
    while rows := connection.execute(sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(1000)).all():
        changes = []
        for row in rows:
            number += 1
            text = json.dumps(_content(row, number, before), sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(text.encode()).hexdigest()
            changes.append({"at": row.id, "chain_number": number, "previous_sha256": before, "row_sha256": digest})
            before, last = digest, row.id
        connection.execute(table.update().where(table.c.id == sa.bindparam("at")), changes)
    connection.execute(
        sa.text("INSERT INTO audit_head (id, chain_number, row_sha256) VALUES (1, :number, :digest)"),
        {"number": number, "digest": before},
    )


def _content(row: Any, number: int, before: str) -> dict[str, Any]:
    at: datetime = row.occurred_at
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return {
        "chain_number": number,
        "previous_sha256": before,
        "occurred_at": at.isoformat(timespec="microseconds"),
        "actor_id": str(row.actor_id) if row.actor_id else "",
        "actor_name": row.actor_name,
        "action": row.action,
        "object_kind": row.object_kind,
        "object_id": row.object_id,
        "outcome": row.outcome,
        "remote_address": row.remote_address,
        "detail": _canonical(row.detail),
    }


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_canonical(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
