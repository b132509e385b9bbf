"""Findings that are never rewritten, anchors that people set, and which version of the package wrote a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Add them; runs from before are of an unknown writer."""
    op.add_column("mooncake_runs", sa.Column("writer", sa.String(40), nullable=False, server_default="unknown"))
    op.create_table(
        "mooncake_findings",
        sa.Column("finding_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False, index=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
        sa.Column("metric", sa.String(100)),
        sa.Column("run_id", sa.String(200)),
        sa.Column("run_ids", sa.JSON, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("made_by", sa.String(40), nullable=False),
        sa.Column("made_at", sa.String(40), nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
    op.create_table(
        "mooncake_anchors",
        sa.Column("anchor_id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
        sa.Column("label", sa.Text),
        sa.Column("run_ids", sa.JSON, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
