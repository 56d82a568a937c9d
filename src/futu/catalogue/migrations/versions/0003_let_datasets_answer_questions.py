"""Let a dataset say which questions it answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("questions", sa.String(64), server_default="similar", nullable=False)
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("questions")
