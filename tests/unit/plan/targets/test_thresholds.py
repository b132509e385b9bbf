"""Thresholds in k6's words: what can be meant is read, what cannot is refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.sources.yaml_loader import load
from pytest_mooncake.plan.targets.models import TargetsPlan
from pytest_mooncake.plan.targets.thresholds import METRICS, Threshold, parse_expression

CLAIMS = "claims:\n  - metric: ttft_mean\n    target: down >= 60 %\n"


def read(tmp_path: Path, thresholds: str) -> TargetsPlan:
    path = tmp_path / "t.yaml"
    path.write_text(CLAIMS + "thresholds:\n" + thresholds, encoding="utf-8")
    return load(path, TargetsPlan, name="t")


@pytest.mark.parametrize(
    ("metric", "text", "aggregate", "quantile", "sign", "value", "of"),
    [
        ("warm.ttft", "avg<=0.4*cold", "avg", None, "<=", 0.4, "cold"),
        ("warm.ttft", "p(99)<2s", "p", 99.0, "<", 2000.0, None),
        ("warm.ttft", "p(99.9) < 450", "p", 99.9, "<", 450.0, None),
        ("cold.e2e", "max <= 90 s", "max", None, "<=", 90_000.0, None),
        ("warm.tpot", "med ≤ 1.1 × cold", "med", None, "<=", 1.1, "cold"),
        ("warm.itl", "min>500us", "min", None, ">", 0.5, None),
        ("warm.request_throughput", "value>=2.5*cold", "value", None, ">=", 2.5, "cold"),
        ("warm.output_token_throughput", "value > 300 tokens/s", "value", None, ">", 300.0, None),
        ("cold.makespan", "value<2min", "value", None, "<", 120.0, None),
        ("warm.failed", "rate<1%", "rate", None, "<", 0.01, None),
        ("warm.failed", "count===0", "count", None, "==", 0.0, None),
        ("warm.cached_share", "rate>=0.99", "rate", None, ">=", 0.99, None),
        ("cold.ttft", "avg>warm", "avg", None, ">", 1.0, "warm"),
    ],
)
def test_what_k6_users_write_is_read(
    metric: str, text: str, aggregate: str, quantile: float | None, sign: str, value: float, of: str | None
) -> None:
    asked = parse_expression(metric, text)
    assert (asked.aggregate, asked.quantile, asked.sign, asked.of) == (aggregate, quantile, sign, of)
    assert asked.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "text", "said"),
    [
        ("warm.tttf", "avg<1s", "no metric is called 'warm.tttf'; did you mean warm.ttft"),
        ("ttft", "avg<1s", "no metric is called 'ttft'; did you mean"),
        ("hot.xyzzy_q", "avg<1s", "known: warm. or cold. with ttft, tpot"),
        ("warm.ttft", "avg~1s", "is no threshold; write 'avg<=0.4*cold' or 'p(99)<2s'"),
        ("warm.ttft", "mean<1s", "'mean' does not fit; known: avg, min, med, max, p(N)"),
        ("warm.ttft", "p<1s", "a percentile is written p(99)"),
        ("warm.ttft", "avg(3)<1s", "nothing else has parentheses"),
        ("warm.ttft", "p(0)<1s", "above 0 and at most at 100"),
        ("warm.ttft", "p(101)<1s", "above 0 and at most at 100"),
        ("warm.ttft", "avg<1parsec", "is no value; write a number (units: ms, none, s, us) or 0.4*cold"),
        ("warm.failed", "count<1%", "is no value; write a number (units: none)"),
        ("warm.ttft", "avg<0.4*warm", "holds warm rounds against themselves; name the other rounds"),
        ("warm.request_throughput", "p(99)>1", "known: value"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(metric: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse_expression(metric, text)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(list(METRICS)), st.text(max_size=30))
def test_no_text_is_read_as_nonsense_or_breaks_the_parser(name: str, text: str) -> None:
    try:
        asked = parse_expression(f"warm.{name}", text)
    except ValueError:
        return
    assert asked.value >= 0
    assert asked.aggregate in METRICS[name].aggregates


@given(
    st.sampled_from(["ttft", "tpot", "itl", "e2e"]),
    st.floats(0.1, 100).map(lambda q: round(q, 2)),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(0, 1e6).map(lambda v: round(v, 3)),
    st.sampled_from([("ms", 1.0), ("s", 1e3), ("", 1.0)]),
)
def test_every_percentile_reads_as_it_is_written(
    name: str, quantile: float, sign: str, value: float, unit: tuple[str, float]
) -> None:
    asked = parse_expression(f"warm.{name}", f"p({quantile}) {sign} {value:.3f} {unit[0]}")
    assert (asked.quantile, asked.sign) == (quantile, sign)
    assert asked.value == pytest.approx(value * unit[1])


def test_a_targets_file_holds_a_list_a_metric_with_marks_of_its_own(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        "  warm.ttft:\n    - avg<=0.4*cold\n    - {threshold: p(99)<2s, abort_on_fail: true}\n"
        "  warm.failed: rate<1%\n  cold.e2e: [{threshold: max<90s, optional: true}]\n",
    )
    assert [one.claim_id for one in plan.thresholds] == [
        "warm.ttft: avg<=0.4*cold", "warm.ttft: p(99)<2s", "warm.failed: rate<1%", "cold.e2e: max<90s",
    ]  # fmt: skip
    assert [one.abort_on_fail for one in plan.thresholds] == [False, True, False, False]
    assert [one.optional for one in plan.thresholds] == [False, False, False, True]


def test_a_plan_with_thresholds_reads_back_as_it_was_stored(tmp_path: Path) -> None:
    plan = read(tmp_path, "  warm.ttft: [avg<=0.4*cold]\n")
    assert TargetsPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("  warm.tttf: [avg<1s]\n", "did you mean warm.ttft"),
        ("  warm.ttft: [{p99: 3}]\n", "is no threshold; write 'p(99)<2s', or threshold: p(99)<2s"),
        ("  warm.ttft: [avg<1s, avg<1s]\n", "'warm.ttft: avg<1s' is given twice"),
        ("  warm.ttft: [{threshold: avg<1s, abortOnFail: true}]\n", "with abort_on_fail or optional"),
    ],
)
def test_a_file_with_a_wrong_threshold_is_refused_with_its_place(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        read(tmp_path, written)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 't.yaml'}:")


def test_a_threshold_of_a_share_or_count_has_no_unit() -> None:
    assert Threshold(metric="warm.failed", threshold="rate<1%").unit == ""
    assert Threshold(metric="cold.makespan", threshold="value<9").unit == "s"
