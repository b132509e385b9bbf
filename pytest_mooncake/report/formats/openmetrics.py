"""The figures of a run as OpenMetrics text, for dashboards, rollout controllers and GitLab's metrics report.

Digits are few on purpose: some readers compare them as strings from one run to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_mooncake.analysis.figures.summary import Spread
from pytest_mooncake.records import Claim, Verdict
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.content.document import Report, Side
from pytest_mooncake.report.formats import no_verdict
from pytest_mooncake.report.text.escape import one_line
from pytest_mooncake.report.text.labels import catalogue, definitions

DIGITS = 4
Sample = tuple[str, dict[str, str], float]
"""Suffix of the family's name, labels, value."""

_CODES = ", ".join(f"{code} {verdict}" for verdict, code in exit_codes.CODES.items())
FAMILIES = {
    "mooncake_verdict": "1 for the verdict of the run, 0 for the others",
    "mooncake_gate": "1 for what became of a gate of the run, made, not_applicable or not_made",
    "mooncake_exit_code": f"exit code of pytest-mooncake verdict: {_CODES}",
    "mooncake_claim_ratio": "warm/cold ratio of a claim: estimate, interval and target",
    "mooncake_claim_verdict": "1 for the verdict of a claim, 0 for the others",
    "mooncake_ttft_seconds": "time to first token",
    "mooncake_ttft_user_seconds": "time to first token as users feel it",
    "mooncake_ttft_vllm_seconds": "time to first token as vLLM's benchmark counts it",
    "mooncake_tpot_seconds": "time per output token",
    "mooncake_e2e_seconds": "time from send to last token",
    "mooncake_request_throughput": "successful requests per second",
    "mooncake_output_token_throughput": "output tokens per second",
    "mooncake_requests": "requests by outcome",
    "mooncake_cached_share": "share of prompt tokens that the cache served (0-1)",
    "mooncake_client_error_seconds": "the client's own error: bias of TTFT and of ITL, P99 of both",
}
DEFINED = {
    "mooncake_ttft_seconds": "ttft_ms",
    "mooncake_ttft_user_seconds": "ttft_user_ms",
    "mooncake_ttft_vllm_seconds": "ttft_vllm_ms",
    "mooncake_tpot_seconds": "tpot_ms",
    "mooncake_e2e_seconds": "e2e_ms",
    "mooncake_request_throughput": "request_throughput",
    "mooncake_output_token_throughput": "output_token_throughput",
    "mooncake_claim_ratio": "ratios",
}
"""Families whose help ends in the formula of their figures, by its name in `report.json`."""


def text(report: Report) -> str:
    """OpenMetrics text, one family after the other, ended by `# EOF`; what was not measured is left out."""
    if report.crash is not None:
        return no_verdict.metrics()
    collected = {name: list(samples) for name, samples in _families(report).items()}
    formulae = definitions(catalogue("en")) if report.protocol else {}
    helps = {name: _help(name, formulae) for name in FAMILIES}
    lines = [line for name in FAMILIES if collected[name] for line in _family(name, helps[name], collected[name])]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _help(name: str, formulae: Mapping[str, str]) -> str:
    formula = formulae.get(DEFINED.get(name, ""))
    return f"{FAMILIES[name]}: {formula}" if formula else FAMILIES[name]


def _family(name: str, told: str, samples: list[Sample]) -> Iterator[str]:
    yield f"# TYPE {name} gauge"
    if name.endswith("_seconds"):
        yield f"# UNIT {name} seconds"
    yield f"# HELP {name} {told}"
    for suffix, labels, value in samples:
        joined = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        yield f"{name}{suffix}{{{joined}}} {value:.{DIGITS}g}" if joined else f"{name}{suffix} {value:.{DIGITS}g}"


def _families(report: Report) -> dict[str, Iterator[Sample]]:
    claims = report.judgement.claims
    return {
        "mooncake_verdict": _one_hot(report.verdict, {}),
        "mooncake_gate": (("", {"gate": g.id, "status": g.status.value}, 1.0) for g in report.judgement.gates),
        "mooncake_exit_code": iter([("", {}, float(exit_codes.of_command(report)))]),
        "mooncake_claim_ratio": (sample for claim in claims for sample in _ratios(claim)),
        "mooncake_claim_verdict": (s for claim in claims for s in _one_hot(claim.verdict, {"claim": claim.id})),
        "mooncake_ttft_seconds": _spreads(report, "ttft_ms"),
        "mooncake_ttft_user_seconds": _spreads(report, "ttft_user_ms"),
        "mooncake_ttft_vllm_seconds": _spreads(report, "ttft_vllm_ms"),
        "mooncake_tpot_seconds": _spreads(report, "tpot_ms"),
        "mooncake_e2e_seconds": _spreads(report, "e2e_ms"),
        "mooncake_request_throughput": _rates(report, "request_throughput"),
        "mooncake_output_token_throughput": _rates(report, "output_token_throughput"),
        "mooncake_requests": _requests(report),
        "mooncake_cached_share": _cached(report),
        "mooncake_client_error_seconds": _client_error(report),
    }


def _one_hot(verdict: Verdict, labels: dict[str, str]) -> Iterator[Sample]:
    for known in Verdict:
        yield "", {**labels, "verdict": known.value}, float(known is verdict)


def _ratios(claim: Claim) -> Iterator[Sample]:
    low, high = claim.ci_ratio or (None, None)
    for kind, value in (
        ("estimate", claim.estimate_ratio),
        ("low", low),
        ("high", high),
        ("target", claim.target_ratio),
    ):
        if value is not None:
            yield "", {"claim": claim.id, "kind": kind}, value


def _sides(report: Report) -> tuple[tuple[str, Side], ...]:
    return (("cold", report.cold), ("warm", report.warm))


def _spreads(report: Report, name: str) -> Iterator[Sample]:
    for side, summary in _sides(report):
        spread: Spread = getattr(summary, name)
        for statistic, value in spread.to_json().items():
            if value is not None:
                yield "", {"side": side, "statistic": statistic}, value / 1000


def _rates(report: Report, name: str) -> Iterator[Sample]:
    for side, summary in _sides(report):
        value: float | None = getattr(summary, name)
        if value is not None:
            yield "", {"side": side}, value


def _requests(report: Report) -> Iterator[Sample]:
    for side, summary in _sides(report):
        if summary.requests is not None and summary.failed is not None:
            yield "", {"side": side, "outcome": "failed"}, float(summary.failed)
            yield "", {"side": side, "outcome": "served"}, float(summary.requests - summary.failed)


def _cached(report: Report) -> Iterator[Sample]:
    for side, summary in _sides(report):
        if summary.cached_tokens is not None and summary.prompt_tokens:
            yield "", {"side": side}, summary.cached_tokens / summary.prompt_tokens


def _client_error(report: Report) -> Iterator[Sample]:
    client = report.client
    if client is None:
        return
    for kind, value in (
        ("ttft_bias", client.bias_ms),
        ("itl_bias", client.itl_bias_ms),
        ("p99", client.error_p99_ms),
    ):
        if value is not None:
            yield "", {"kind": kind}, value / 1000


def _escaped(label: str) -> str:
    return one_line(label).replace("\\", "\\\\").replace('"', '\\"')
