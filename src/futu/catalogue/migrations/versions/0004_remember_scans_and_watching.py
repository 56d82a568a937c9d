"""Remember when a content was hashed, what is watched, and what a build may forget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("scanned_at_ns", sa.BigInteger(), server_default="0", nullable=False)
        )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("watched", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    with op.batch_alter_table("builds", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("confirm_missing", sa.Boolean(), server_default=sa.false(), nullable=False)
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("builds", schema=None) as batch_op:
        batch_op.drop_column("confirm_missing")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("watched")
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_column("scanned_at_ns")
