"""Let searches find images by date and by size."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_images_dataset_id_mtime_ns", "images", ["dataset_id", "mtime_ns"])
    op.create_index("ix_images_dataset_id_size", "images", ["dataset_id", "size"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_images_dataset_id_size", "images")
    op.drop_index("ix_images_dataset_id_mtime_ns", "images")
