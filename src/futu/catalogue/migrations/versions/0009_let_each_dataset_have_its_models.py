"""Let each dataset have its models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Which model serves what is found out at the controller's next start."""
    op.create_table(
        "models",
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("question", sa.String(16), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_models")),
    )
    op.create_table(
        "dataset_models",
        sa.Column(
            "dataset_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("question", sa.String(16), nullable=False),
        sa.Column("serving_id", sa.String(128), nullable=False),
        sa.Column("coming_id", sa.String(128), nullable=True),
        sa.Column("former_id", sa.String(128), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_dataset_models_dataset_id")
        ),
        sa.ForeignKeyConstraint(
            ["serving_id"], ["models.model_id"], name=op.f("fk_dataset_models_serving_id")
        ),
        sa.ForeignKeyConstraint(
            ["coming_id"], ["models.model_id"], name=op.f("fk_dataset_models_coming_id")
        ),
        sa.ForeignKeyConstraint(
            ["former_id"], ["models.model_id"], name=op.f("fk_dataset_models_former_id")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "question", name=op.f("pk_dataset_models")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("dataset_models")
    op.drop_table("models")
