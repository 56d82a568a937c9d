"""Count images by state, find them in order, and let a dataset have one build at a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0003"
branch_labels = None
depends_on = None

_BUILDING = sa.text("state = 'building'")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "image_counts",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "state", name=op.f("pk_image_counts")),
    )
    op.create_index("ix_images_dataset_id_state_id", "images", ["dataset_id", "state", "id"])
    op.drop_index("ix_images_dataset_id_state", "images")
    if op.get_bind().dialect.name == "postgresql":
        # Vectors do not get smaller, and are read whole: no try to compress them, no second table.
        op.execute("ALTER TABLE vectors ALTER COLUMN data SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE vectors SET (toast_tuple_target = 8160)")
    # Older versions closed an interrupted build before they began another; only the newest counts.
    op.execute(
        "UPDATE builds SET state = 'error', message = 'Interrupted.' WHERE state = 'building' AND "
        "id NOT IN (SELECT max(id) FROM builds WHERE state = 'building' GROUP BY dataset_id)"
    )
    op.create_index(
        "ix_builds_building",
        "builds",
        ["dataset_id"],
        unique=True,
        sqlite_where=_BUILDING,
        postgresql_where=_BUILDING,
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_builds_building", "builds")
    op.create_index("ix_images_dataset_id_state", "images", ["dataset_id", "state"])
    op.drop_index("ix_images_dataset_id_state_id", "images")
    for name in ("count_inserted_images", "count_deleted_images", "count_changed_images"):
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"DROP TRIGGER IF EXISTS {name}")
        else:
            op.execute(f"DROP TRIGGER IF EXISTS {name} ON images")
            op.execute(f"DROP FUNCTION IF EXISTS {name}()")
    op.drop_table("image_counts")
