"""When the model does not answer, and where each heatmap lies.

Results that are there stay answers: no guard has judged them.

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("prediction", sa.Column("abstention", sa.String(length=32), nullable=False, server_default=""))
    op.add_column("prediction", sa.Column("guard", JSON, nullable=False, server_default="{}"))
    op.add_column("prediction", sa.Column("head_share", sa.Double(), nullable=True))
    op.add_column("prediction", sa.Column("heatmap_warning", sa.String(length=32), nullable=False, server_default=""))
    op.add_column("study_standing", sa.Column("abstained", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Takes this revision back; what the guard said is lost with it."""
    op.drop_column("study_standing", "abstained")
    op.drop_column("prediction", "heatmap_warning")
    op.drop_column("prediction", "head_share")
    op.drop_column("prediction", "guard")
    op.drop_column("prediction", "abstention")
