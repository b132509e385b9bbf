"""The report as a value and as `report.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from pytest_mooncake.plan.models import EconomicsPlan, Target, TraceSpec, WorkloadPlan
from pytest_mooncake.plan.parsing.arrivals import Arrivals
from pytest_mooncake.records import ClientHealth, KVGeometry, Rung, Status, Trial, Verdict
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import as_text
from pytest_mooncake.report.formats.terminal import summary_lines
from tests.support import runs
from tests.support.original_report import original_report
from tests.support.report_schema import validated


@pytest.mark.parametrize("verdict", list(Verdict))
def test_report_json_of_a_run_obeys_its_schema(verdict: Verdict) -> None:
    document = validated(as_text(runs.report(verdict)))

    assert document["schema"] == "pytest-mooncake/report/1"
    assert document["verdict"] == verdict


def test_report_json_of_handed_in_figures_obeys_the_same_schema() -> None:
    document = validated(as_text(original_report()))

    assert document["protocol"] is None
    assert document["summary"]["cold"]["ttft_ms"] == {"mean": 1200.0, "p50": None, "p90": 1350.0, "p99": None}
    assert document["summary"]["warm"]["requests"] == 30
    assert document["summary"]["warm"]["failed"] is None


def test_report_json_of_hostile_text_obeys_the_schema_and_keeps_the_text_as_it_is() -> None:
    document = validated(as_text(runs.hostile_report()))

    assert document["label"] == runs.HOSTILE


@pytest.mark.parametrize(
    ("changes", "kv", "said"),
    [
        ({"store_budget_bytes": 1}, None, True),
        ({"store_budget_bytes": 1, "machine": {"name": "m", "model": {"parameters": 7.0e10}}}, None, True),
        ({"store_budget_bytes": 1, "machine": {"name": "m", "model": {"kv_bytes_per_token": 327_680}}}, None, False),
        ({"store_budget_bytes": 1}, KVGeometry(bytes_per_token=512), False),
        ({"store_budget_bytes": 1, "steady": True}, None, False),
        ({}, None, False),
    ],
)
def test_a_budget_that_could_not_be_kept_stands_among_the_first_lines(
    changes: dict[str, Any], kv: KVGeometry | None, said: bool
) -> None:
    view = runs.view(kv=kv)
    made = build(runs.plan(**changes), view, runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None)
    assert any(note.startswith("--mooncake-store-budget was not kept") for note in made.notes) is said
    zh = " ".join(summary_lines(made, lang="zh", columns=1000))
    assert ("--mooncake-store-budget 未能执行" in zh) is said


def test_the_same_record_gives_the_same_bytes() -> None:
    assert as_text(runs.report()) == as_text(runs.report())


def test_figures_cover_the_valid_trials_only_and_leave_the_first_round_out() -> None:
    trials = (
        Trial(index=1, segment=1, cold=1, warm=2, cold_after=3, valid=False, reasons=("the client lagged",)),
        Trial(index=2, segment=1, cold=3, warm=4, cold_after=5, valid=True),
    )
    report = build(
        runs.plan(), runs.view(), runs.rounds(), runs.judgement(trials=trials), runs.ENVIRONMENT, economics=None
    )

    assert report.cold.requests == 8
    assert report.warm.requests == 4
    assert [t.valid for t in report.trials] == [False, True]
    assert report.trials[0].reasons == ("the client lagged",)


def test_without_a_completed_trial_the_chain_so_far_is_described() -> None:
    report = build(
        runs.plan(), runs.view(), runs.rounds()[:3], runs.judgement(trials=()), runs.ENVIRONMENT, economics=None
    )

    assert (report.cold.requests, report.warm.requests) == (4, 4)
    assert report.protocol is not None
    assert report.protocol.trials == 0


def test_a_trial_without_its_last_cold_round_has_no_figures_for_it() -> None:
    trial = Trial(index=1, segment=1, cold=1, warm=2, cold_after=None, valid=True)
    report = build(
        runs.plan(), runs.view(), runs.rounds(), runs.judgement(trials=(trial,)), runs.ENVIRONMENT, economics=None
    )

    assert report.trials[0].cold_after is None
    assert report.trials[0].warm is not None


def test_the_time_until_stores_were_visible_is_a_figure() -> None:
    protocol = runs.report().protocol

    assert protocol is not None
    assert (protocol.settle_mean_s, protocol.settle_max_s) == (1.25, 1.25)
    assert protocol.settle_how == "puts started = finished"


def test_the_client_reports_its_worst_round_and_its_cost_per_chunk() -> None:
    client = runs.report().client

    assert client is not None
    assert client.loop_lag_ms == {"p50": 0.1, "p99": 0.4, "max": 1.0}
    assert client.cpu_us_per_chunk == pytest.approx(1000)
    assert client.saturated is False


@pytest.mark.parametrize(
    "health",
    [ClientHealth(cpu_peak_share=0.86), ClientHealth(send_delay_mean_ms=70.0)],
    ids=["cpu above 85 %", "sends later than 5 % of TTFT"],
)
def test_a_saturated_round_makes_the_client_saturated(health: ClientHealth) -> None:
    rounds = [replace(r, client=health) if r.round == 1 else r for r in runs.rounds()]
    work = runs.plan().workload.model_copy(update={"arrivals": Arrivals(rate_per_s=5.0)})
    report = build(runs.plan(workload=work), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)

    assert report.client is not None
    assert report.client.saturated is True


def test_what_the_client_did_not_measure_is_none() -> None:
    rounds = [replace(r, client=ClientHealth()) for r in runs.rounds()]
    report = build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)

    assert report.client is not None
    assert report.client.bias_ms is None
    assert report.client.cpu_us_per_chunk is None


def test_numeric_targets_are_counted_and_stable_stands_apart() -> None:
    assert runs.report().targets_met == (2, 2)


def test_a_missed_target_is_not_counted_as_met() -> None:
    missed = runs.judgement(claims=(runs.claim("ttft_mean", 0.5, 0.4), runs.claim("request_throughput", 2.6, 2.5)))

    assert replace(runs.report(), judgement=missed).targets_met == (1, 2)


def test_a_claim_without_estimate_is_not_met() -> None:
    unknown = replace(runs.claim("ttft_mean", 0.5, 0.4), estimate_ratio=None)

    assert replace(runs.report(), judgement=runs.judgement(claims=(unknown,))).targets_met == (0, 1)


def test_a_claim_that_no_target_stands_behind_goes_by_its_ratio() -> None:
    claims = (runs.claim("a", 0.5, 0.6), runs.claim("b", 1.5, 1.4))

    assert replace(runs.report(), targets=(), judgement=runs.judgement(claims=claims)).targets_met == (2, 2)


@pytest.mark.parametrize(("direction", "met"), [("lower", 1), ("higher", 0)])
def test_a_bound_is_a_numeric_target_too(direction: str, met: int) -> None:
    details = {"bound": 450.0, "estimate": 402.0, "direction": direction}
    claim = replace(runs.claim("ttft_p90_warm", 1, 1), target_ratio=None, estimate_ratio=None, details=details)

    assert replace(runs.report(), judgement=runs.judgement(claims=(claim,))).targets_met == (met, 1)


def test_a_claim_that_asks_for_no_gain_is_not_counted() -> None:
    claim = replace(runs.claim("tpot_mean", 1.0, 1.1), details={"direction": "equivalent"})

    assert replace(runs.report(), judgement=runs.judgement(claims=(claim,))).targets_met == (0, 0)


def test_what_the_judge_says_of_the_point_estimate_counts() -> None:
    claim = replace(runs.claim("ttft_mean", 0.3, 0.4), details={"met_by_estimate": False})

    assert replace(runs.report(), judgement=runs.judgement(claims=(claim,))).targets_met == (0, 1)


def test_the_business_case_follows_the_throughput_claim_with_its_interval() -> None:
    case = runs.report().economics

    assert case is not None
    assert case.headline.servers_after == 3.4
    assert case.interval is not None


def test_goodput_carries_the_business_case_where_it_was_measured() -> None:
    judged = runs.judgement(claims=(runs.claim("request_throughput", 2.96, 2.5), runs.claim("goodput", 2.0, 1.5)))
    plan = EconomicsPlan()
    report = build(runs.plan(), runs.view(), runs.rounds(), judged, runs.ENVIRONMENT, economics=plan)

    assert report.economics is not None
    assert report.economics.headline.servers_after == 5.0


def test_without_a_throughput_or_without_costs_there_is_no_business_case() -> None:
    judged = runs.judgement(claims=(runs.claim("ttft_mean", 0.3, 0.4),))
    made = build(runs.plan(), runs.view(), runs.rounds(), judged, runs.ENVIRONMENT, economics=EconomicsPlan())

    assert made.economics is None
    assert (
        build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None).economics
        is None
    )


def test_documents_that_fit_the_store_follow_from_the_kv_geometry() -> None:
    plan = EconomicsPlan(store_bytes=10 * 16384 * 1024 + 5)
    report = build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=plan)

    assert report.economics is not None
    assert report.economics.documents_in_store == 10
    without = build(runs.plan(), runs.view(kv=None), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=plan)
    assert without.economics is not None
    assert without.economics.documents_in_store is None


def test_documents_of_a_trace_are_as_long_as_the_prompts_that_were_sent() -> None:
    rounds = runs.rounds()
    sent = WorkloadPlan(name="day", kind="trace", prompt_tokens=5, trace=TraceSpec(path="day.jsonl"))
    mean = round(fmean(r.prompt_tokens_planned or 0 for r in rounds[0].requests))
    costs = EconomicsPlan(store_bytes=10 * mean * 1024 + 5)
    report = build(runs.plan(workload=sent), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=costs)
    assert report.economics is not None
    assert report.economics.documents_in_store == 10
    assert report.limits is not None
    assert report.limits["kv_bytes_per_prompt"] == mean * 1024


def test_only_a_held_check_of_store_counters_proves_the_tier() -> None:
    assert runs.report().tier_unproven is False
    weaker = tuple(replace(e, rung=Rung.USAGE) for e in runs.judgement().evidence)
    assert replace(runs.report(), judgement=runs.judgement(evidence=weaker)).tier_unproven is True
    broken = tuple(replace(e, status=Status.BROKEN) for e in runs.judgement().evidence)
    assert replace(runs.report(), judgement=runs.judgement(evidence=broken)).tier_unproven is True


def test_the_targets_of_the_plan_are_found_by_claim() -> None:
    targets = (Target(metric="makespan", title="makespan", ratio=1.0, stated="1"),)
    report = replace(runs.report(), targets=targets)

    assert report.target("makespan") == targets[0]
    assert report.target("ttft_mean") is None
    assert report.claim("makespan") is None


def test_figures_without_a_prompt_length_have_no_limits_and_no_documents() -> None:
    report = original_report(prompt_tokens=None)

    assert report.limits is None
    assert report.setting.prompt_tokens is None


def test_what_a_prompt_costs_is_told_where_the_shape_of_the_model_is_known() -> None:
    shape = {"layers": 2, "hidden": 128, "heads": 8, "kv_heads": 1, "head_dim": 64}
    known = build(
        runs.plan(), runs.view(details={"geometry": shape}), runs.rounds(), runs.judgement(), {}, economics=None
    )
    told = build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), {}, economics=None)
    blind = build(runs.plan(), runs.view(kv=None), runs.rounds(), runs.judgement(), {}, economics=None)

    assert known.limits is not None
    assert known.limits["kv_bytes_per_token"] == 2 * 2 * 64 * 2  # keys and values, layers, head size, bf16
    assert known.limits["flop_per_prompt"] > 2 * 2 * 512 * 16384**2
    assert told.limits == {"kv_bytes_per_token": 1024, "kv_bytes_per_prompt": 1024 * 16384}
    assert blind.limits is None


def test_report_json_passes_on_what_stands_beside_the_verdict() -> None:
    remark = {"id": "tail", "text": "a tail", "text_zh": "尾部"}
    document = runs.report().to_json()["beside"]
    judged = replace(runs.report(), judgement=runs.judgement(details={"remarks": [remark]})).to_json()["beside"]

    assert set(document) == {"remarks", "feasibility", "outlook", "settlement", "attribution"}
    assert judged["remarks"] == [remark]


def test_report_json_names_the_formula_of_every_figure_that_was_measured_here() -> None:
    document = json.loads(as_text(runs.report()))
    spreads = {name for name, value in document["summary"]["cold"].items() if isinstance(value, dict)}

    assert spreads | {"request_throughput", "output_token_throughput", "ratios"} <= set(document["definitions"])
    assert json.loads(as_text(original_report()))["definitions"] is None, "others count as they like"


def test_the_clients_bias_of_gaps_stands_beside_that_of_ttft() -> None:
    rounds = [replace(r, client=replace(r.client, itl_bias_ms=-0.02)) for r in runs.rounds()]
    report = build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)

    assert report.client is not None
    assert (report.client.bias_ms, report.client.itl_bias_ms) == (0.05, -0.02)
