"""What a history holds, as plain values: runs, findings, anchors. Times are ISO 8601 with offset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pytest_mooncake import __version__
from pytest_mooncake.analysis.regression.fingerprint import Parts

__all__ = ["Anchor", "Finding", "StoredClaim", "StoredRound", "StoredRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRound:
    """The digest of one round's requests: counts, and figures such as `ttft_p90_ms` (absent: not measured)."""

    round: int
    kind: str
    requests: int
    failed: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClaim:
    """A claim and what it came to. Ratios are warm/cold."""

    claim_id: str
    gating: bool
    verdict: str
    target_ratio: float | None = None
    estimate_ratio: float | None = None
    low_ratio: float | None = None
    high_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run. `metrics` pools its valid rounds (absent: not measured); `release` maps software to its version."""

    id: str
    label: str | None
    started_at: str
    verdict: str
    fingerprint: str
    parts: Parts = field(default_factory=dict)
    """What the fingerprint is made of, by dotted name."""
    release: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    rounds: tuple[StoredRound, ...] = ()
    claims: tuple[StoredClaim, ...] = ()
    writer: str = __version__
    """Version of this package that judged and stored it."""

    @property
    def release_name(self) -> str:
        """The label, else the versions in one line, else the run's id."""
        return self.label or ", ".join(f"{name} {version}" for name, version in self.release.items()) or self.id

    def of_rounds(self, metric: str) -> tuple[float, ...]:
        """The figure of each round of the metric's kind that measured it, such as `warm.ttft_mean_ms`."""
        kind, _, figure = metric.partition(".")
        return tuple(one.figures[figure] for one in self.rounds if one.kind == kind and figure in one.figures)

    @property
    def began(self) -> datetime:
        """When it was started, with a time zone."""
        at = datetime.fromisoformat(self.started_at)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An alarm, a confirmation or a change point, with the runs and the version that made it. Never rewritten."""

    kind: str
    """`alarm`, `confirmation`, `change_point`, …"""
    fingerprint: str
    run_ids: tuple[str, ...]
    """All runs that it was computed from."""
    words: str
    made_at: str
    metric: str | None = None
    run_id: str | None = None
    """The run it speaks of."""
    made_by: str = __version__
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def finding_id(self) -> str:
        """The same finding always has the same id: stored twice, it is there once."""
        return _digest(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A release that somebody accepted as what others are measured by."""

    fingerprint: str
    run_ids: tuple[str, ...]
    label: str | None
    who: str
    at: str
    why: str

    @property
    def anchor_id(self) -> str:
        """The same act always has the same id."""
        return _digest(self)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(asdict(value), sort_keys=True).encode()).hexdigest()[:32]
