"""Archives of the hospital: peers, results sent to them, studies fetched from them.

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "peer",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("secret_name", sa.String(length=64), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_peer")),
        sa.UniqueConstraint("name", name=op.f("uq_peer_name")),
    )
    with op.batch_alter_table("peer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_peer_created_at"), ["created_at"], unique=False)

    op.create_table(
        "retrieval",
        sa.Column("peer_id", sa.Uuid(), nullable=True),
        sa.Column("peer_name", sa.String(length=64), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["peer_id"], ["peer.id"], name=op.f("fk_retrieval_peer_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["requested_by_id"], ["user_account.id"], name=op.f("fk_retrieval_requested_by_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrieval")),
    )
    with op.batch_alter_table("retrieval", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retrieval_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_retrieval_peer_id"), ["peer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_retrieval_requested_by_id"), ["requested_by_id"], unique=False)

    op.create_table(
        "retrieval_line",
        sa.Column("retrieval_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=False),
        sa.Column("work_item_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failure_code", sa.String(length=64), nullable=False),
        sa.Column("failure_detail", JSON, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["retrieval_id"], ["retrieval.id"], name=op.f("fk_retrieval_line_retrieval_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["work_item_id"], ["work_item.id"], name=op.f("fk_retrieval_line_work_item_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrieval_line")),
    )
    with op.batch_alter_table("retrieval_line", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retrieval_line_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_retrieval_line_retrieval_sequence", ["retrieval_id", "sequence"], unique=False)
        batch_op.create_index(batch_op.f("ix_retrieval_line_work_item_id"), ["work_item_id"], unique=False)

    op.create_table(
        "sending",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("peer_id", sa.Uuid(), nullable=True),
        sa.Column("peer_name", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.String(length=16), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("work_item_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failure_code", sa.String(length=64), nullable=False),
        sa.Column("failure_detail", JSON, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_sending_checkpoint_id")),
        sa.ForeignKeyConstraint(["peer_id"], ["peer.id"], name=op.f("fk_sending_peer_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["requested_by_id"], ["user_account.id"], name=op.f("fk_sending_requested_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_sending_study_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["work_item_id"], ["work_item.id"], name=op.f("fk_sending_work_item_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sending")),
    )
    with op.batch_alter_table("sending", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sending_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_sending_peer_id"), ["peer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sending_study_id"), ["study_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sending_work_item_id"), ["work_item_id"], unique=False)

    op.create_table(
        "retrieved_study",
        sa.Column("line_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.Column("fetched", sa.Integer(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_retrieved_study_job_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["line_id"], ["retrieval_line.id"], name=op.f("fk_retrieved_study_line_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["upload.id"], name=op.f("fk_retrieved_study_upload_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrieved_study")),
        sa.UniqueConstraint(
            "line_id", "study_instance_uid", name=op.f("uq_retrieved_study_line_id_study_instance_uid")
        ),
    )
    with op.batch_alter_table("retrieved_study", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retrieved_study_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_retrieved_study_job_id"), ["job_id"], unique=False)

    op.create_table(
        "sent_object",
        sa.Column("sending_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("comment", sa.String(length=200), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["sending_id"], ["sending.id"], name=op.f("fk_sent_object_sending_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sent_object")),
        sa.UniqueConstraint("sending_id", "sop_instance_uid", name=op.f("uq_sent_object_sending_id_sop_instance_uid")),
    )
    with op.batch_alter_table("sent_object", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sent_object_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    """Takes the schema back to the revision before."""
    with op.batch_alter_table("sent_object", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sent_object_created_at"))

    op.drop_table("sent_object")
    with op.batch_alter_table("retrieved_study", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_retrieved_study_job_id"))
        batch_op.drop_index(batch_op.f("ix_retrieved_study_created_at"))

    op.drop_table("retrieved_study")
    with op.batch_alter_table("sending", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sending_work_item_id"))
        batch_op.drop_index(batch_op.f("ix_sending_study_id"))
        batch_op.drop_index(batch_op.f("ix_sending_peer_id"))
        batch_op.drop_index(batch_op.f("ix_sending_created_at"))

    op.drop_table("sending")
    with op.batch_alter_table("retrieval_line", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_retrieval_line_work_item_id"))
        batch_op.drop_index("ix_retrieval_line_retrieval_sequence")
        batch_op.drop_index(batch_op.f("ix_retrieval_line_created_at"))

    op.drop_table("retrieval_line")
    with op.batch_alter_table("retrieval", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_retrieval_requested_by_id"))
        batch_op.drop_index(batch_op.f("ix_retrieval_peer_id"))
        batch_op.drop_index(batch_op.f("ix_retrieval_created_at"))

    op.drop_table("retrieval")
    with op.batch_alter_table("peer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_peer_created_at"))

    op.drop_table("peer")
