"""The tables as they are now; how they came to be is in `migrations`. A test holds the two against each other."""

from __future__ import annotations

import sqlalchemy as sa

VERSION_TABLE = "mooncake_schema"
HEAD = "0002"
"""The revision that this version of the package reads and writes."""

metadata = sa.MetaData()


def _run_id() -> sa.Column[str]:
    key = sa.ForeignKey("mooncake_runs.run_id", ondelete="CASCADE")
    return sa.Column("run_id", sa.String(200), key, primary_key=True)


runs = sa.Table(
    "mooncake_runs",
    metadata,
    sa.Column("run_id", sa.String(200), primary_key=True),
    sa.Column("label", sa.Text, index=True),
    sa.Column("started_at", sa.String(40), nullable=False, index=True),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
    sa.Column("parts", sa.JSON, nullable=False),
    sa.Column("release", sa.JSON, nullable=False),
    sa.Column("writer", sa.String(40), nullable=False, server_default="unknown"),
)
figures = sa.Table(
    "mooncake_figures",
    metadata,
    _run_id(),
    sa.Column("metric", sa.String(100), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)
rounds = sa.Table(
    "mooncake_rounds",
    metadata,
    _run_id(),
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
)
claims = sa.Table(
    "mooncake_claims",
    metadata,
    _run_id(),
    sa.Column("claim_id", sa.String(100), primary_key=True),
    sa.Column("gating", sa.Boolean, nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("target_ratio", sa.Double),
    sa.Column("estimate_ratio", sa.Double),
    sa.Column("low_ratio", sa.Double),
    sa.Column("high_ratio", sa.Double),
)
findings = sa.Table(
    "mooncake_findings",
    metadata,
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
anchors = sa.Table(
    "mooncake_anchors",
    metadata,
    sa.Column("anchor_id", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
    sa.Column("label", sa.Text),
    sa.Column("run_ids", sa.JSON, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)
