"""Training in the store: data sets, sweeps and runs; the registry around checkpoints; confirmed labels.

A work item may belong to a sweep, or to nothing, in place of a job.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "checkpoint_import",
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("failure_code", sa.String(length=64), nullable=False),
        sa.Column("failure_detail", JSON, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_checkpoint_import_checkpoint_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["requested_by_id"],
            ["user_account.id"],
            name=op.f("fk_checkpoint_import_requested_by_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint_import")),
    )
    with op.batch_alter_table("checkpoint_import", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_checkpoint_import_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_checkpoint_import_sha256"), ["sha256"], unique=False)

    op.create_table(
        "training_dataset",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("origin", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("leaks", JSON, nullable=False),
        sa.Column("problems", JSON, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user_account.id"], name=op.f("fk_training_dataset_created_by_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_training_dataset_name")),
    )
    with op.batch_alter_table("training_dataset", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_training_dataset_created_at"), ["created_at"], unique=False)

    op.create_table(
        "withdrawal",
        sa.Column("checkpoint_id", sa.Uuid(), nullable=False),
        sa.Column("withdrawn_by_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by_id", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_withdrawal_checkpoint_id")),
        sa.ForeignKeyConstraint(
            ["lifted_by_id"], ["user_account.id"], name=op.f("fk_withdrawal_lifted_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["withdrawn_by_id"], ["user_account.id"], name=op.f("fk_withdrawal_withdrawn_by_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
    )
    with op.batch_alter_table("withdrawal", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_withdrawal_checkpoint_id"), ["checkpoint_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_withdrawal_created_at"), ["created_at"], unique=False)

    op.create_table(
        "comparison",
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("reference_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("failure_code", sa.String(length=64), nullable=False),
        sa.Column("failure_detail", JSON, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["checkpoint.id"], name=op.f("fk_comparison_candidate_id")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["training_dataset.id"], name=op.f("fk_comparison_dataset_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["reference_id"], ["checkpoint.id"], name=op.f("fk_comparison_reference_id")),
        sa.ForeignKeyConstraint(
            ["requested_by_id"], ["user_account.id"], name=op.f("fk_comparison_requested_by_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison")),
    )
    with op.batch_alter_table("comparison", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comparison_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_comparison_pair", ["candidate_id", "reference_id"], unique=False)

    op.create_table(
        "sweep",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("scenario_file", sa.String(length=128), nullable=False),
        sa.Column("scenario_text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("problems", JSON, nullable=False),
        sa.Column("code_version", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user_account.id"], name=op.f("fk_sweep_created_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["training_dataset.id"], name=op.f("fk_sweep_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
    )
    with op.batch_alter_table("sweep", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sweep_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_sweep_dataset_id"), ["dataset_id"], unique=False)
        batch_op.create_index("ix_sweep_state_created", ["state", "created_at"], unique=False)

    op.create_table(
        "dataset_sample",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("patient", sa.String(length=128), nullable=False),
        sa.Column("plane", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=False),
        sa.Column("box", JSON, nullable=True),
        sa.Column("instance_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["training_dataset.id"], name=op.f("fk_dataset_sample_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_dataset_sample_instance_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "sequence", name=op.f("pk_dataset_sample")),
    )
    with op.batch_alter_table("dataset_sample", schema=None) as batch_op:
        batch_op.create_index("ix_dataset_sample_label", ["dataset_id", "label"], unique=False)
        batch_op.create_index("ix_dataset_sample_sha256", ["sha256"], unique=False)

    op.create_table(
        "shadow_run",
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("reference_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=True),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["checkpoint.id"], name=op.f("fk_shadow_run_candidate_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_shadow_run_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["reference_id"], ["checkpoint.id"], name=op.f("fk_shadow_run_reference_id")),
        sa.ForeignKeyConstraint(
            ["requested_by_id"], ["user_account.id"], name=op.f("fk_shadow_run_requested_by_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_run")),
        sa.UniqueConstraint("job_id", name=op.f("uq_shadow_run_job_id")),
    )
    with op.batch_alter_table("shadow_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_shadow_run_candidate_id"), ["candidate_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_shadow_run_created_at"), ["created_at"], unique=False)

    op.create_table(
        "slice_label",
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("decided_by_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["user_account.id"], name=op.f("fk_slice_label_decided_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_slice_label_instance_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slice_label")),
    )
    with op.batch_alter_table("slice_label", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slice_label_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_slice_label_instance", ["instance_id", "created_at"], unique=False)

    op.create_table(
        "training_run",
        sa.Column("sweep_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("scenario", JSON, nullable=False),
        sa.Column("scenario_digest", sa.String(length=64), nullable=False),
        sa.Column("group_key", sa.String(length=64), nullable=False),
        sa.Column("work_item_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("epochs_planned", sa.Integer(), nullable=False),
        sa.Column("epochs_done", sa.Integer(), nullable=False),
        sa.Column("best_epoch", sa.Integer(), nullable=True),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("failure_code", sa.String(length=64), nullable=False),
        sa.Column("failure_detail", JSON, nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("images_per_s", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("code_version", sa.String(length=64), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_training_run_checkpoint_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("fk_training_run_sweep_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["work_item_id"], ["work_item.id"], name=op.f("fk_training_run_work_item_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_run")),
        sa.UniqueConstraint("sweep_id", "name", name=op.f("uq_training_run_sweep_id_name")),
    )
    with op.batch_alter_table("training_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_training_run_created_at"), ["created_at"], unique=False)
        batch_op.create_index("ix_training_run_sweep_state", ["sweep_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_training_run_weights_sha256"), ["weights_sha256"], unique=False)
        batch_op.create_index("ix_training_run_work_item", ["work_item_id"], unique=False)

    op.create_table(
        "run_epoch",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_run_epoch_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_run_epoch")),
    )
    op.create_table(
        "run_mistake",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("picture_png", sa.LargeBinary(), nullable=False),
        sa.Column("heatmap_png", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_run.id"], name=op.f("fk_run_mistake_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_mistake")),
        sa.UniqueConstraint("run_id", "part", "rank", name=op.f("uq_run_mistake_run_id_part_rank")),
    )
    with op.batch_alter_table("run_mistake", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_mistake_created_at"), ["created_at"], unique=False)

    op.create_table(
        "run_report",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_run_report_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_report")),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("purpose", sa.String(length=24), server_default="submission", nullable=False))

    with op.batch_alter_table("promotion", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=16), server_default="promotion", nullable=False))
        batch_op.add_column(sa.Column("choices", JSON, server_default="{}", nullable=False))

    with op.batch_alter_table("work_item", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sweep_id", sa.Uuid(), nullable=True))
        batch_op.alter_column("job_id", existing_type=sa.Uuid(), nullable=True)
        batch_op.create_index(batch_op.f("ix_work_item_sweep_id"), ["sweep_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_work_item_sweep_id"), "sweep", ["sweep_id"], ["id"], ondelete="CASCADE"
        )


def downgrade() -> None:
    """Takes the revision back; work that belongs to no job goes with it."""
    op.execute("DELETE FROM work_item WHERE job_id IS NULL")
    with op.batch_alter_table("work_item", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_work_item_sweep_id"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_work_item_sweep_id"))
        batch_op.alter_column("job_id", existing_type=sa.Uuid(), nullable=False)
        batch_op.drop_column("sweep_id")

    with op.batch_alter_table("promotion", schema=None) as batch_op:
        batch_op.drop_column("choices")
        batch_op.drop_column("kind")

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_column("purpose")

    op.drop_table("run_report")
    with op.batch_alter_table("run_mistake", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_mistake_created_at"))

    op.drop_table("run_mistake")
    op.drop_table("run_epoch")
    with op.batch_alter_table("training_run", schema=None) as batch_op:
        batch_op.drop_index("ix_training_run_work_item")
        batch_op.drop_index(batch_op.f("ix_training_run_weights_sha256"))
        batch_op.drop_index("ix_training_run_sweep_state")
        batch_op.drop_index(batch_op.f("ix_training_run_created_at"))

    op.drop_table("training_run")
    with op.batch_alter_table("slice_label", schema=None) as batch_op:
        batch_op.drop_index("ix_slice_label_instance")
        batch_op.drop_index(batch_op.f("ix_slice_label_created_at"))

    op.drop_table("slice_label")
    with op.batch_alter_table("shadow_run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_shadow_run_created_at"))
        batch_op.drop_index(batch_op.f("ix_shadow_run_candidate_id"))

    op.drop_table("shadow_run")
    with op.batch_alter_table("dataset_sample", schema=None) as batch_op:
        batch_op.drop_index("ix_dataset_sample_sha256")
        batch_op.drop_index("ix_dataset_sample_label")

    op.drop_table("dataset_sample")
    with op.batch_alter_table("sweep", schema=None) as batch_op:
        batch_op.drop_index("ix_sweep_state_created")
        batch_op.drop_index(batch_op.f("ix_sweep_dataset_id"))
        batch_op.drop_index(batch_op.f("ix_sweep_created_at"))

    op.drop_table("sweep")
    with op.batch_alter_table("comparison", schema=None) as batch_op:
        batch_op.drop_index("ix_comparison_pair")
        batch_op.drop_index(batch_op.f("ix_comparison_created_at"))

    op.drop_table("comparison")
    with op.batch_alter_table("withdrawal", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_withdrawal_created_at"))
        batch_op.drop_index(batch_op.f("ix_withdrawal_checkpoint_id"))

    op.drop_table("withdrawal")
    with op.batch_alter_table("training_dataset", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_training_dataset_created_at"))

    op.drop_table("training_dataset")
    with op.batch_alter_table("checkpoint_import", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_checkpoint_import_sha256"))
        batch_op.drop_index(batch_op.f("ix_checkpoint_import_created_at"))

    op.drop_table("checkpoint_import")
