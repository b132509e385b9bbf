"""The table that every report shows: metric | cold | warm | change | target | verdict, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

from pytest_mooncake.records import Claim, Verdict
from pytest_mooncake.report.content.document import Report, Side
from pytest_mooncake.report.text.labels import Catalogue
from pytest_mooncake.report.text.numbers import MISSING, fixed, percent, quantity, ratio, signed_percent, whole

CHANGE_TOLERANCE_POINTS = 1.0
"""Where a claim's estimate differs from the ratio of the printed means by more than this, both are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMetric:
    """A metric of one side: where it is and its unit."""

    id: str
    path: str
    unit: str
    always: bool = False

    def of(self, side: Side) -> float | None:
        """Its value, `None` where it was not measured."""
        value: float | None = attrgetter(self.path)(side)
        return value


METRICS = (
    TableMetric(id="ttft_mean", path="ttft_ms.mean", unit="ms", always=True),
    TableMetric(id="ttft_p50", path="ttft_ms.p50", unit="ms"),
    TableMetric(id="ttft_p90", path="ttft_ms.p90", unit="ms", always=True),
    TableMetric(id="ttft_p99", path="ttft_ms.p99", unit="ms"),
    TableMetric(id="tpot_mean", path="tpot_ms.mean", unit="ms", always=True),
    TableMetric(id="tpot_p50", path="tpot_ms.p50", unit="ms"),
    TableMetric(id="tpot_p90", path="tpot_ms.p90", unit="ms"),
    TableMetric(id="itl_mean", path="itl_ms.mean", unit="ms"),
    TableMetric(id="e2e_mean", path="e2e_ms.mean", unit="ms"),
    TableMetric(id="request_throughput", path="request_throughput", unit="req/s", always=True),
    TableMetric(id="output_token_throughput", path="output_token_throughput", unit="tokens/s", always=True),
)

OTHER_TTFTS = (
    TableMetric(id="ttft_user_mean", path="ttft_user_ms.mean", unit="ms"),
    TableMetric(id="ttft_vllm_mean", path="ttft_vllm_ms.mean", unit="ms"),
)
"""Counted otherwise than the headline, for users' waits and for comparison with another tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `means_percent` is set only where it contradicts the claim's own estimate."""

    id: str
    label: str
    unit: str
    cold: float | None
    warm: float | None
    change_percent: float | None
    means_percent: float | None
    target: str
    verdict: Verdict | None
    claim: Claim | None

    @property
    def cold_text(self) -> str:
        """The cold figure without its unit."""
        return _figure(self.cold, self.unit)

    @property
    def warm_text(self) -> str:
        """The warm figure without its unit."""
        return _figure(self.warm, self.unit)

    @property
    def cold_with_unit(self) -> str:
        """The cold figure as it stands alone."""
        return _with_unit(self.cold, self.unit)

    @property
    def warm_with_unit(self) -> str:
        """The warm figure as it stands alone."""
        return _with_unit(self.warm, self.unit)

    @property
    def change_text(self) -> str:
        """The change, with the one of the printed means beside it where the two differ."""
        text = signed_percent(self.change_percent)
        return text if self.means_percent is None else f"{text} ({signed_percent(self.means_percent)})"


def other_ttfts(report: Report, words: Catalogue) -> tuple[Row, ...]:
    """TTFT as users feel it and as vLLM's benchmark counts it, where requests were measured."""
    lines = (_row(report, metric, words) for metric in OTHER_TTFTS)
    return tuple(row for row in lines if row.cold is not None or row.warm is not None)


def _with_unit(value: float | None, unit: str) -> str:
    return f"{_figure(value, unit)} {unit}".strip() if value is not None else MISSING


def _figure(value: float | None, unit: str) -> str:
    """A count as it is, a percentage so that 99.99 does not read 100, others with as many digits as they are worth."""
    if not unit:
        return whole(value)
    return fixed(value, 2) if unit == "%" else quantity(value)


def rows(report: Report, words: Catalogue) -> tuple[Row, ...]:
    """The lines of the table: the five of the acceptance report, every other claim, then claims without a ratio."""
    ratios = [_row(report, metric, words) for metric in METRICS if metric.always or report.claim(metric.id)]
    known = {metric.id for metric in METRICS}
    others = [_plain_row(report, claim, words) for claim in report.judgement.claims if claim.id not in known]
    return (*ratios, *others)


def claim_label(words: Catalogue, claim: Claim) -> str:
    """The claim's name in the reader's language, else as whoever set the target wrote it."""
    known = words.find(f"metric.{claim.id}")
    translated = claim.details.get("title_zh") if words.lang == "zh" else None
    return known or str(translated or claim.title)


def claim_reason(words: Catalogue, claim: Claim) -> str:
    """The claim's reason in the reader's language where it was given in it, else in English."""
    return str(claim.details.get("reason_zh") or claim.reason) if words.lang == "zh" else claim.reason


def target_text(report: Report, claim: Claim, words: Catalogue) -> str:
    """The target as it was stated, else as a ratio."""
    if claim.id == "failures":
        return "0"
    if claim.id == "warm_hit_share" and claim.details.get("least") is not None:
        return f"≥{percent(claim.details['least'])}"
    target = report.target(claim.id)
    told = claim.details.get("stated") or (target.stated if target else None)
    if told:
        stated = str(told).replace(" %", "%")
        return words.find(f"stated.{stated.lower()}") or stated
    return MISSING if claim.target_ratio is None else ratio(claim.target_ratio)


def _row(report: Report, metric: TableMetric, words: Catalogue) -> Row:
    cold, warm = metric.of(report.cold), metric.of(report.warm)
    claim = report.claim(metric.id)
    means = (warm / cold - 1.0) * 100 if cold and warm is not None else None
    estimate = claim.change_percent if claim and claim.change_percent is not None else means
    differs = estimate is not None and means is not None and abs(estimate - means) > CHANGE_TOLERANCE_POINTS
    return Row(
        id=metric.id,
        label=claim_label(words, claim) if claim else words(f"metric.{metric.id}"),
        unit=metric.unit,
        cold=cold,
        warm=warm,
        change_percent=estimate,
        means_percent=means if differs else None,
        target=target_text(report, claim, words) if claim else MISSING,
        verdict=claim.verdict if claim and claim.gating else None,
        claim=claim,
    )


def _figures(report: Report, claim: Claim) -> Mapping[str | None, float | None]:
    """What a claim says of each side whose figure is not among the summaries': a count, a share, a bound, goodput."""
    if claim.id == "failures":
        return {"cold": report.cold.failed, "warm": report.warm.failed}
    shares = [share for share in claim.details.get("shares", ()) if share is not None]
    if claim.id == "warm_hit_share" and shares:
        return {"warm": min(shares) * 100}
    if claim.details.get("bound") is not None:
        return {claim.details.get("rounds"): claim.details.get("estimate")}
    return {side: claim.details.get(side) for side in ("cold", "warm")}


def _plain_row(report: Report, claim: Claim, words: Catalogue) -> Row:
    """A claim that is no ratio of a known metric; one that names a bound shows its figure on the side it speaks of."""
    figures = _figures(report, claim)
    return Row(
        id=claim.id,
        label=claim_label(words, claim),
        unit="%" if claim.id == "warm_hit_share" else str(claim.details.get("unit", "")),
        cold=figures.get("cold"),
        warm=figures.get("warm"),
        change_percent=claim.change_percent,
        means_percent=None,
        target=target_text(report, claim, words),
        verdict=claim.verdict if claim.gating else None,
        claim=claim,
    )


def own_error(report: Report, words: Catalogue) -> str | None:
    """Bias and P99 error of what was measured here; `None` for figures from elsewhere."""
    client = report.client
    if client is None:
        return None
    if client.bias_ms is None:
        return words("client.no_error")
    return words(
        "client.error",
        ttft=_signed(client.bias_ms),
        itl=_signed(client.itl_bias_ms),
        p99=MISSING if client.error_p99_ms is None else f"{quantity(client.error_p99_ms)} ms",
    )


def _signed(value_ms: float | None) -> str:
    if value_ms is None:
        return MISSING
    return f"{'+' if value_ms > 0 else ''}{quantity(value_ms)} ms"
