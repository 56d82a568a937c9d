"""Keep runs that look for duplicates, their groups, and what was decided; reference datasets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_RUNNING = sa.text("state = 'running'")


def _run_id() -> sa.Column[int]:
    return sa.Column("run_id", _ID, nullable=False)


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "datasets",
        sa.Column("reference", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "duplicate_runs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("dataset_ids", sa.Text(), nullable=False),
        sa.Column("preset", sa.String(16), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("groups", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duplicate_runs")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_duplicate_runs_scope_id", "duplicate_runs", ["scope", "id"])
    op.create_index(
        "ix_duplicate_runs_running",
        "duplicate_runs",
        ["scope"],
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    )
    op.create_table(
        "duplicate_groups",
        _run_id(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("keeper_id", sa.BigInteger(), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("hidden", sa.Integer(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["duplicate_runs.id"], name=op.f("fk_duplicate_groups_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_duplicate_groups")),
    )
    op.create_index(
        "ix_duplicate_groups_run_id_state_number",
        "duplicate_groups",
        ["run_id", "state", "number"],
    )
    op.create_table(
        "duplicate_members",
        _run_id(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("cosine", sa.Float(), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=False),
        sa.Column("hidden", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("edit", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["duplicate_runs.id"], name=op.f("fk_duplicate_members_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "number", "rank", name=op.f("pk_duplicate_members")),
    )
    op.create_index("ix_duplicate_members_image_id", "duplicate_members", ["image_id"])
    op.create_table(
        "duplicate_verdicts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duplicate_verdicts")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "duplicate_verdict_members",
        sa.Column("verdict_id", _ID, nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["verdict_id"],
            ["duplicate_verdicts.id"],
            name=op.f("fk_duplicate_verdict_members_verdict_id"),
        ),
        sa.PrimaryKeyConstraint(
            "verdict_id", "image_id", name=op.f("pk_duplicate_verdict_members")
        ),
    )
    for column in ("content_hash", "image_id"):
        name = f"ix_duplicate_verdict_members_{column}"
        op.create_index(name, "duplicate_verdict_members", [column])
    op.create_table(
        "pixel_hashes",
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("pixel_hash", sa.LargeBinary(32), nullable=True),
        sa.PrimaryKeyConstraint("content_hash", name=op.f("pk_pixel_hashes")),
    )


def downgrade() -> None:
    """Take back."""
    for name in (
        "pixel_hashes",
        "duplicate_verdict_members",
        "duplicate_verdicts",
        "duplicate_members",
        "duplicate_groups",
        "duplicate_runs",
    ):
        op.drop_table(name)
    op.drop_column("datasets", "reference")
