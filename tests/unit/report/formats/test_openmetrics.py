"""OpenMetrics text that others can parse."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_mooncake.records import Verdict
from pytest_mooncake.report.formats.openmetrics import FAMILIES, text
from tests.support import runs
from tests.support.original_report import original_report


def families(report_text: str) -> list[Metric]:
    return list(text_string_to_metric_families(report_text))  # type: ignore[no-untyped-call]  # theirs


def samples(report_text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(report_text)
        for sample in family.samples
    }


def test_a_standard_parser_reads_every_family() -> None:
    assert {family.name for family in families(text(runs.report()))} == set(FAMILIES)


def test_the_verdict_is_one_hot_and_the_exit_code_stands_beside_it() -> None:
    found = samples(text(runs.report(Verdict.INCONCLUSIVE)))

    assert found["mooncake_verdict", (("verdict", "INCONCLUSIVE"),)] == 1
    assert sum(value for (name, _), value in found.items() if name == "mooncake_verdict") == 1
    assert found["mooncake_exit_code", ()] == 10


def test_figures_are_in_base_units_with_few_digits() -> None:
    found = samples(text(runs.report()))

    assert found["mooncake_ttft_seconds", (("side", "cold"), ("statistic", "mean"))] == 1.202
    assert found["mooncake_claim_ratio", (("claim", "ttft_mean"), ("kind", "estimate"))] == 0.3333
    assert found["mooncake_requests", (("outcome", "served"), ("side", "warm"))] == 12
    assert found["mooncake_cached_share", (("side", "warm"),)] == 0.9844


def test_what_was_not_measured_is_left_out() -> None:
    report_text = text(original_report())

    assert "mooncake_requests" not in report_text
    assert "mooncake_cached_share" not in report_text
    assert 'statistic="p99"' not in report_text
    assert report_text.endswith("# EOF\n")


def test_hostile_names_of_claims_are_escaped() -> None:
    claim = replace(runs.claim("x", 0.5, 0.4), id='a"b\\c\nd')
    found = samples(text(replace(runs.report(), judgement=runs.judgement(claims=(claim,)))))

    assert found["mooncake_claim_ratio", (("claim", 'a"b\\c d'), ("kind", "target"))] == 0.4


def test_the_same_report_gives_the_same_bytes() -> None:
    assert text(runs.report()) == text(runs.report())


def test_every_kind_of_ttft_is_there_with_its_formula() -> None:
    report_text = text(runs.report())
    found = samples(report_text)
    labels = (("side", "warm"), ("statistic", "mean"))

    assert found["mooncake_ttft_user_seconds", labels] == found["mooncake_ttft_vllm_seconds", labels]
    assert "# HELP mooncake_ttft_seconds time to first token: last byte of the request" in report_text
    assert "# HELP mooncake_ttft_seconds time to first token\n" in text(original_report())


def test_the_clients_own_error_is_a_family() -> None:
    found = samples(text(runs.report()))

    assert found["mooncake_client_error_seconds", (("kind", "ttft_bias"),)] == 0.00005
    assert found["mooncake_client_error_seconds", (("kind", "p99"),)] == 0.0002
