"""The report as a value: everything the renderers print and `report.json` holds, computed once.

`build.build` makes it from a recorded run, `figures_report.build` from figures that came from elsewhere. The renderers
(terminal, Markdown, HTML, pipelines) are functions of this value and of nothing else but the records themselves, so
the same record gives the same bytes. History of the schema (`REPORT_SCHEMA`, docs/schema/report.schema.json):
    1  first
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pytest_mooncake.analysis.audit.external_figures import Distribution, RoundFigures
from pytest_mooncake.analysis.cold_tax import ColdTax
from pytest_mooncake.analysis.economics import Economics
from pytest_mooncake.analysis.figures.summary import Spread, Summary
from pytest_mooncake.analysis.regression.release import ReleaseFinding, gated
from pytest_mooncake.analysis.regression.versus import Versus
from pytest_mooncake.plan.models import Target
from pytest_mooncake.records import REPORT_SCHEMA, Claim, Crash, Evidence, Judgement, Round, Rung, Status, Verdict
from pytest_mooncake.report.content.crash_words import internal_error_json, sentence
from pytest_mooncake.report.content.setting import Setting
from pytest_mooncake.report.text.labels import catalogue, definitions

BESIDE = ("remarks", "feasibility", "outlook", "settlement", "attribution")
"""What a judgement says beside its verdict and reports pass on as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFigures:
    """One trial with the figures of its rounds; a side that was not measured is `None`."""

    index: int
    valid: bool
    reasons: tuple[str, ...]
    cold: Summary | None
    warm: Summary | None
    cold_after: Summary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSummary:
    """The client's own error over all rounds of the chain: the worst of each. Milliseconds unless named otherwise."""

    loop_lag_ms: Mapping[str, float | None]
    send_delay_ms: Mapping[str, float | None]
    bias_ms: float | None
    itl_bias_ms: float | None
    error_p99_ms: float | None
    cpu_us_per_chunk: float | None
    saturated: bool | None


RELEASE = "release"
"""The comparison of the release with its history, where it was planned and not made."""
NOT_COMPARED = "the release was not compared with its history (pytest-mooncake history add DIR does it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How the run was measured. `settle_s` is how long stores took to become visible after cold rounds."""

    rounds: int
    trials: int
    invalid_trials: int
    settle_mean_s: float | None
    settle_max_s: float | None
    settle_how: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A judged run, ready to be printed. `protocol` is `None` for figures that were not measured here."""

    run_id: str
    label: str | None
    judgement: Judgement
    targets: tuple[Target, ...]
    plan: Mapping[str, Any]
    setting: Setting
    environment: Mapping[str, Any]
    cold: Side
    warm: Side
    trials: tuple[TrialFigures, ...] = ()
    protocol: Protocol | None = None
    client: ClientSummary | None = None
    economics: Economics | None = None
    cold_tax: ColdTax | None = None
    versus: Versus | None = None
    release: ReleaseFinding | None = None
    limits: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    beside_not_made: Mapping[str, str] = field(default_factory=dict)
    """Parts beside the run that were planned and not measured to their end, `versus` or `cold_tax`, and why."""
    crash: Crash | None = None
    """The error of this package itself for which there is no verdict, whatever the judgement says."""
    simulated: bool = False
    past: tuple[TrendRun, ...] = ()
    """Comparable runs of the history, oldest first, this one last; for the page's trend, not part of `report.json`."""
    rounds: tuple[Round, ...] = field(default=(), repr=False)
    """The records, for the page's charts; not part of `report.json`."""

    @property
    def verdict(self) -> Verdict:
        """The run's verdict."""
        return self.judgement.verdict

    @property
    def passed(self) -> bool:
        """Whether the run was accepted."""
        return self.verdict is Verdict.PASS

    @property
    def gate(self) -> Verdict:
        """The run's verdict, made no better by its release's: what the exit code of a pipeline says.

        Where the release was to be held against a history and was not, nothing but a FAIL can be said.
        """
        found = gated(self.verdict, self.release, self.versus)
        return Verdict.INVALID if RELEASE in self.beside_not_made and found is not Verdict.FAIL else found

    @property
    def tier_unproven(self) -> bool:
        """Whether no store counter proved which tier served the tokens."""
        return not any(e.rung is Rung.STORE and e.status is Status.HELD for e in self.judgement.evidence)

    @property
    def targets_met(self) -> tuple[int, int]:
        """Numeric gating targets met by point estimate, and how many there are; "stable" stands apart."""
        numeric = [c for c in self.judgement.claims if c.gating and self._is_numeric(c)]
        return sum(self._met(claim) for claim in numeric), len(numeric)

    def claim(self, claim_id: str) -> Claim | None:
        """The claim of that id, if it was made."""
        return next((c for c in self.judgement.claims if c.id == claim_id), None)

    def target(self, claim_id: str) -> Target | None:
        """The target behind a claim, if it came from the targets file."""
        return next((t for t in self.targets if t.claim_id == claim_id), None)

    def _direction(self, claim: Claim) -> str:
        target = self.target(claim.id)
        told = claim.details.get("direction") or (target.direction if target else None)
        return str(told or ("higher" if (claim.target_ratio or 0) > 1 else "lower"))

    def _is_numeric(self, claim: Claim) -> bool:
        """Whether a claim asks for a gain or names a bound; "stable" and "not worse than" ask for neither."""
        if claim.details.get("bound") is not None:
            return True
        direction, ratio = self._direction(claim), claim.target_ratio
        return ratio is not None and ((direction == "lower" and ratio < 1) or (direction == "higher" and ratio > 1))

    def _met(self, claim: Claim) -> bool:
        told = claim.details.get("met_by_estimate")
        if told is not None:
            return bool(told)
        bound = claim.details.get("bound")
        asked = claim.target_ratio if bound is None else bound
        seen = claim.estimate_ratio if bound is None else claim.details.get("estimate")
        if seen is None or asked is None:
            return False
        return bool(seen >= asked if self._direction(claim) == "higher" else seen <= asked)

    def to_json(self) -> dict[str, Any]:
        """The report of the contract (`docs/schema/report.schema.json`), plain values throughout."""
        met, of = self.targets_met
        return {
            "schema": REPORT_SCHEMA,
            "run": self.run_id,
            "label": self.label,
            "verdict": None if self.crash else self.verdict.value,
            "reasons": [sentence(self.crash)] if self.crash else list(self.judgement.reasons),
            "internal_error": internal_error_json(self.crash),
            "gates": [asdict(gate) for gate in self.judgement.gates],
            "beside_not_made": dict(self.beside_not_made),
            "simulated": self.simulated,
            "notes": list(self.notes),
            "targets_met": {"met": met, "of": of},
            "plan": dict(self.plan),
            "environment": dict(self.environment),
            "protocol": asdict(self.protocol) if self.protocol else None,
            "summary": {"cold": self.cold.to_json(), "warm": self.warm.to_json()},
            "trials": [_trial_json(trial) for trial in self.trials],
            "claims": [_claim_json(claim) for claim in self.judgement.claims],
            "evidence": [_evidence_json(evidence) for evidence in self.judgement.evidence],
            "audit": [asdict(finding) for finding in self.judgement.audit],
            "client": asdict(self.client) if self.client else None,
            "economics": self.economics.to_json() if self.economics else None,
            "cold_tax": self.cold_tax.to_json() if self.cold_tax else None,
            "versus": self.versus.to_json() if self.versus else None,
            "release": self.release.to_json() if self.release else None,
            "limits": dict(self.limits) if self.limits else None,
            "definitions": definitions(catalogue("en")) if self.protocol else None,
            "beside": {name: self.judgement.details.get(name) for name in BESIDE},
        }


def _trial_json(trial: TrialFigures) -> dict[str, Any]:
    return {
        "index": trial.index,
        "valid": trial.valid,
        "reasons": list(trial.reasons),
        "cold": trial.cold.to_json() if trial.cold else None,
        "warm": trial.warm.to_json() if trial.warm else None,
        "cold_after": trial.cold_after.to_json() if trial.cold_after else None,
    }


def _claim_json(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "title": claim.title,
        "gating": claim.gating,
        "target_ratio": claim.target_ratio,
        "estimate_ratio": claim.estimate_ratio,
        "ci_ratio": list(claim.ci_ratio) if claim.ci_ratio else None,
        "confidence": claim.confidence,
        "change_percent": claim.change_percent,
        "trials": claim.trials,
        "verdict": claim.verdict.value,
        "reason": claim.reason,
        "details": dict(claim.details),
    }


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    return {
        "id": evidence.id,
        "status": evidence.status.value,
        "rung": evidence.rung.value,
        "expected": evidence.expected,
        "observed": evidence.observed,
        "round": evidence.round,
        "fault": evidence.fault.value,
        "detail": evidence.detail,
    }


def as_text(report: Report) -> str:
    """`report.json` as it is written: indented, keys in the contract's order, nothing but JSON numbers (no nan)."""
    import orjson

    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    values = report.to_json()
    try:
        return orjson.dumps(values, option=option).decode() + "\n"
    except TypeError:  # figures from elsewhere may come to more than 64 bits hold
        return orjson.dumps(_within_64_bits(values), option=option).decode() + "\n"


def _within_64_bits(value: Any) -> Any:
    """The same values, integers beyond 64 bits as floating point numbers."""
    if isinstance(value, Mapping):
        return {key: _within_64_bits(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_within_64_bits(held) for held in value]
    return float(value) if type(value) is int and abs(value) >= 2**63 else value


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSummary:
    """A `Summary` of figures that came from elsewhere: any of them may be missing, counts too."""

    requests: int | None
    failed: int | None
    ttft_ms: Spread
    tpot_ms: Spread
    itl_ms: Spread
    chunk_gap_ms: Spread
    e2e_ms: Spread
    request_throughput: float | None
    output_token_throughput: float | None
    makespan_s: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    ttft_user_ms: Spread = field(default_factory=Spread)
    ttft_vllm_ms: Spread = field(default_factory=Spread)

    def to_json(self) -> dict[str, Any]:
        """As in `report.json`."""
        return asdict(self)


Side = Summary | PartialSummary


def side_of(figures: RoundFigures, requests: int | None) -> PartialSummary:
    """One side of handed-in figures; `requests` is the number stated for both sides together."""
    return PartialSummary(
        requests=requests if figures.requests is None else figures.requests,
        failed=figures.failed,
        ttft_ms=_spread(figures.ttft_ms),
        tpot_ms=_spread(figures.tpot_ms),
        itl_ms=Spread(),
        chunk_gap_ms=Spread(),
        e2e_ms=_spread(figures.e2e_ms),
        request_throughput=figures.request_throughput,
        output_token_throughput=figures.output_token_throughput,
        makespan_s=figures.makespan_s,
        prompt_tokens=figures.prompt_tokens,
        cached_tokens=figures.cached_tokens,
        output_tokens=figures.output_tokens,
    )


def _spread(distribution: Distribution) -> Spread:
    return Spread(mean=distribution.mean, p50=distribution.p50, p90=distribution.p90, p99=distribution.p99)


__all__ = ["TrendRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRun:
    """One run of the page; `rounds` holds a metric's figure of each of the run's rounds (absent: not measured)."""

    run_id: str
    release: str
    started_at: datetime
    verdict: str
    metrics: Mapping[str, float]
    rounds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    found: tuple[str, ...] = ()
