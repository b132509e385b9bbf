"""Runs with their figures, rounds and claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "mooncake_runs",
        sa.Column("run_id", sa.String(200), primary_key=True),
        sa.Column("label", sa.Text, index=True),
        sa.Column("started_at", sa.String(40), nullable=False, index=True),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
        sa.Column("parts", sa.JSON, nullable=False),
        sa.Column("release", sa.JSON, nullable=False),
    )
    op.create_table(
        "mooncake_figures",
        _run_id(),
        sa.Column("metric", sa.String(100), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
    op.create_table(
        "mooncake_rounds",
        _run_id(),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
    op.create_table(
        "mooncake_claims",
        _run_id(),
        sa.Column("claim_id", sa.String(100), primary_key=True),
        sa.Column("gating", sa.Boolean, nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("target_ratio", sa.Double),
        sa.Column("estimate_ratio", sa.Double),
        sa.Column("low_ratio", sa.Double),
        sa.Column("high_ratio", sa.Double),
    )


def _run_id() -> sa.Column[str]:
    key = sa.ForeignKey("mooncake_runs.run_id", ondelete="CASCADE")
    return sa.Column("run_id", sa.String(200), key, primary_key=True)
