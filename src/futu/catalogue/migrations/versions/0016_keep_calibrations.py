"""Keep what was measured with the pictures of a dataset."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "calibrations",
        sa.Column("dataset_id", _ID, nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_calibrations_dataset_id")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "model_id", name=op.f("pk_calibrations")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("calibrations")
