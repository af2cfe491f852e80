"""Privacy: de-identified submissions, signs of text in pixels, and what deleting a study for good needs.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "erased_blob",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_erased_blob")),
    )
    with op.batch_alter_table("erased_blob", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_erased_blob_erased_at"), ["erased_at"], unique=False)
    # Plain ADD COLUMN: nothing is copied, and foreign keys of other tables stay as they are.
    op.add_column("job", sa.Column("deidentified", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("study", sa.Column("deidentified", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("instance", sa.Column("text_risk", sa.String(length=24), server_default="", nullable=False))
    # Without these every deleted slice would be looked for in every receipt and data set.
    op.create_index(op.f("ix_received_file_study_id"), "received_file", ["study_id"])
    op.create_index(op.f("ix_received_file_instance_id"), "received_file", ["instance_id"])
    op.create_index(op.f("ix_dataset_sample_instance_id"), "dataset_sample", ["instance_id"])


def downgrade() -> None:
    """Takes this revision back."""
    op.drop_index(op.f("ix_dataset_sample_instance_id"), table_name="dataset_sample")
    op.drop_index(op.f("ix_received_file_instance_id"), table_name="received_file")
    op.drop_index(op.f("ix_received_file_study_id"), table_name="received_file")
    op.drop_column("instance", "text_risk")
    op.drop_column("study", "deidentified")
    op.drop_column("job", "deidentified")
    op.drop_table("erased_blob")
