"""Which series of a study are classified, and who or what decided; how many slices of a study were left out.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Brings the schema to this revision: every series that is there was classified."""
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.add_column(sa.Column("chosen", sa.Boolean(), server_default=sa.true(), nullable=False))
        batch_op.add_column(sa.Column("chosen_by", sa.String(length=200), server_default="", nullable=False))
    with op.batch_alter_table("study_standing", schema=None) as batch_op:
        batch_op.add_column(sa.Column("left_out", JSON, server_default="{}", nullable=False))


def downgrade() -> None:
    """Takes the revision back; slices that were left out become cancelled ones."""
    op.execute("UPDATE job_slice SET state = 'cancelled', failure_code = '' WHERE state = 'left_out'")
    op.execute("UPDATE job SET purpose = 'submission' WHERE purpose = 'selection'")
    with op.batch_alter_table("study_standing", schema=None) as batch_op:
        batch_op.drop_column("left_out")
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.drop_column("chosen_by")
        batch_op.drop_column("chosen")
