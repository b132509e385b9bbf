"""`report.md`: every section of the acceptance report, true to the figures, in both languages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.plan.models import EconomicsPlan, SimulatedCost, StackPlan
from pytest_mooncake.records import Kind, Phase, RequestRecord, Round, Verdict
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.formats.html import render as render_page
from pytest_mooncake.report.formats.markdown import anchor, render
from pytest_mooncake.report.formats.terminal import summary_lines
from pytest_mooncake.report.text.labels import LANGUAGES, Lang, catalogue, definitions
from tests.support import runs
from tests.support.original_report import original_report

GOLDEN = Path(__file__).parents[3] / "data" / "figures"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_report_of_the_original_figures_is_the_golden_one(lang: Lang) -> None:
    expected = (GOLDEN / f"original.{lang}.md").read_text(encoding="utf-8")

    assert render(original_report(), lang) == expected


@pytest.mark.parametrize(
    "figure",
    [
        "响应速度提升 67%",
        "首 Token 延迟从 1200ms 降至 400ms",
        "系统吞吐量提升 196%",
        "系统容量从 2.5 req/s 提升至 7.4 req/s",
        "| TTFT (平均) | 1200 ms | 400 ms | -67% | -60% |",
        "| TTFT (P90) | 1350 ms | 450 ms | -67% | - |",
        "| TPOT (平均) | 15.0 ms | 14.5 ms | -3% | 稳定 |",
        "| 吞吐量 | 2.5 req/s | 7.4 req/s | +196% | +150% |",
        "| Token 吞吐量 | 320 tokens/s | 947 tokens/s | +196% | - |",
        "节省 **66%** 的服务器成本",
        "10 台服务器，使用缓存后仅需 **3.4 台**",
        "10 台 × 5 万元 = **50 万元/月**",
        "3.4 台 × 5 万元 = **17 万元/月**",
        "**每月节约：33 万元**",
        "**年度节约：396 万元**",
        "**回本周期：0.6 个月（约 18 天）**",
        "**年度净收益：396 万元 - 20 万元 = 376 万元**",
        "从 1.2 秒降至 0.4 秒",
        "< 1 个月",
        "关键指标达成率: 2/2",
        "审计未通过，不可用于决策",
        "16.6",
        "318 Gb/s",
        "**示例**",
        "×2.47",
        "×2.29",
        "×2.13",
    ],
)
def test_the_chinese_report_holds_every_figure_of_the_original(figure: str) -> None:
    assert figure in render(original_report(), "zh")


@pytest.mark.parametrize(
    "figure",
    ["67%", "196%", "**66%**", "10 servers", "**3.4**", "(50 wan)", "(17 wan)", "(33 wan)", "(396 wan)", "0.6 months",
     "about 18 days", "(376 wan)", "2/2", "×2.47", "×2.29", "×2.13", "not to be decided upon"],
)  # fmt: skip
def test_the_english_report_holds_every_figure_of_the_original(figure: str) -> None:
    assert figure in render(original_report(), "en")


def test_the_bars_of_the_original_are_as_long_as_they_were() -> None:
    text = render(original_report(), "zh")

    assert f"无缓存:  {'█' * 48}  1200 ms\n有缓存:  {'█' * 16}  400 ms\n\n         ↓ 降低 67%" in text
    assert f"无缓存:  {'█' * 13}  2.5 req/s\n有缓存:  {'█' * 38}  7.4 req/s\n\n         ↑ 提升 196%" in text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_first_line_states_the_verdict(verdict: Verdict, lang: Lang) -> None:
    first, _, _ = render(runs.report(verdict), lang).partition("\n")

    assert verdict.value in first
    if lang == "zh":
        assert {"PASS": "通过", "FAIL": "未通过", "INCONCLUSIVE": "未决", "INVALID": "无效"}[verdict.value] in first


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INVALID])
def test_what_did_not_pass_is_not_recommended_and_gets_no_rollout(verdict: Verdict) -> None:
    english, chinese = render(runs.report(verdict), "en"), render(runs.report(verdict), "zh")

    assert "Deployment of Mooncake KV Cache is recommended" not in english
    assert "canary" not in english.partition("Decision")[2].partition("Next steps")[2]
    assert "10%" not in english.partition("**Next steps**")[2]
    assert "推荐部署" not in chinese
    assert "灰度测试" not in chinese
    assert "审计未通过，不可用于决策" in chinese
    assert "not to be decided upon" in english


def test_a_pass_is_recommended_with_a_staged_rollout() -> None:
    english, chinese = render(runs.report(), "en"), render(runs.report(), "zh")

    assert "✅ Deployment of Mooncake KV Cache is recommended" in english
    assert "send 10% of the traffic" in english
    assert "选择 10% 流量进行灰度测试" in chinese
    assert "审计未通过" not in chinese


def test_a_simulated_pass_recommends_nothing() -> None:
    text = render(replace(runs.report(), simulated=True), "en")

    assert "SIMULATED: no deployment is recommended" in text
    assert "10% of the traffic" not in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_link_of_the_contents_leads_to_a_heading(lang: Lang) -> None:
    text = render(runs.report(), lang)
    headings = {str(anchor(line.lstrip("# "))) for line in text.splitlines() if line.startswith("## ")}
    links = re.findall(r"^\d\. \[.*\]\(#(.*)\)$", text, flags=re.MULTILINE)

    assert len(links) == 7
    assert set(links) <= headings


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_table_has_as_many_cells_in_each_line(lang: Lang) -> None:
    for report in (runs.report(), runs.hostile_report(), original_report()):
        for block in re.findall(r"(?:^\|.*\n)+", render(report, lang), flags=re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block


@pytest.mark.parametrize("lang", LANGUAGES)
def test_hostile_text_stays_text(lang: Lang) -> None:
    text = render(runs.hostile_report(), lang)

    assert "<script" not in text
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "@everyone" not in text
    assert text.count("\n```") % 2 == 0


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_same_report_gives_the_same_bytes_and_no_template_leftovers(lang: Lang) -> None:
    text = render(runs.report(), lang)

    assert text == render(runs.report(), lang)
    assert "{{" not in text
    assert "None" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_slower_system_is_said_to_be_slower() -> None:
    claims = (runs.claim("ttft_mean", 1.5, 0.4, Verdict.FAIL), runs.claim("request_throughput", 0.8, 2.5, Verdict.FAIL))
    judged = runs.judgement(Verdict.FAIL, claims=claims)
    report = build(runs.plan(), runs.view(), runs.rounds(), judged, runs.ENVIRONMENT, economics=EconomicsPlan())
    english, chinese = render(report, "en"), render(report, "zh")

    assert "Response time up by 50%" in english
    assert "System throughput down by 20%" in english
    assert "never: nothing is saved" in english
    assert "响应速度下降 50%" in chinese
    assert "无法回本：没有节约" in chinese


def test_a_long_payback_is_given_in_months() -> None:
    plan = EconomicsPlan(investment=3_300_000)
    report = build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=plan)

    assert "**10.0 months**" in render(report, "en")
    assert "10.0 个月（约 300 天）" in render(report, "zh")


def test_running_costs_and_documents_that_fit_are_shown_when_known() -> None:
    plan = EconomicsPlan(storage_cost_per_month=30_000, store_bytes=10**12)
    report = build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=plan)
    text = render(report, "en")

    assert "+ CNY 30,000 (3 wan) for storage nodes = **CNY 200,000 (20 wan) a month**" in text
    assert "Documents that fit the store (1 TB): 59,604" in text


def test_the_store_that_was_started_stands_for_one_whose_size_was_not_given() -> None:
    text = render(runs.report(), "zh")

    assert "存储（8.59 GB）可容纳文档数：512" in text


def test_without_costs_there_is_no_business_case() -> None:
    report = build(runs.plan(), runs.view(), runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None)
    text = render(report, "en")

    assert "No business case" in text
    assert "ROI" not in text


def test_a_label_limits_and_an_unmeasured_side_are_printed() -> None:
    report = replace(runs.report(), label="nightly", limits={"load_floor_s": 0.107}, economics=None)
    spread = replace(report.warm.ttft_ms, mean=None)
    text = render(replace(report, warm=replace(report.warm, ttft_ms=spread), judgement=runs.judgement(claims=())), "en")

    assert "**Label**: nightly" in text
    assert "| Loading takes at least (s) | 0.11 |" in text
    assert "mean TTFT or throughput was not measured on both sides" in text


@pytest.mark.parametrize("known", [True, False])
def test_of_an_attached_stack_is_told_what_it_told_and_what_would_tell_more(known: bool) -> None:
    plan = runs.plan(stack=runs.plan().stack.model_copy(update={"kind": "attached", "name": "attached"}))
    view = runs.view() if known else runs.view(kv=None, store=None)
    text = render(build(plan, view, runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None), "en")

    assert "engine: http://127.0.0.1:8000" in text
    assert f"chunk_size: {256 if known else 'not known'}" in text
    assert ("master: http://127.0.0.1:9003" in text) is known
    assert ("not known (--mooncake-master)" in text) is not known


def test_every_place_of_an_attached_engines_counters_is_told() -> None:
    plan = runs.plan(stack=runs.plan().stack.model_copy(update={"kind": "attached", "name": "attached"}))
    engine = replace(runs.view().engines[0], metrics_url="http://m:1/p", metrics_urls=("http://m:1/p", "http://m:2/p"))
    view = runs.view(engines=(engine,))
    text = render(build(plan, view, runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None), "en")

    assert "metrics: http://m:1/p\nmetrics: http://m:2/p\n" in text


def test_a_simulated_stack_says_what_was_simulated() -> None:
    stack = StackPlan(name="simulated", kind="simulated", simulated=SimulatedCost(faults=("deaf-store",)))
    view = runs.view(simulated=True)
    report = build(runs.plan(stack=stack), view, runs.rounds(), runs.judgement(), runs.ENVIRONMENT, economics=None)

    assert "# SIMULATED engine and store\nchunk_size: 256\n" in render(report, "en")
    assert "faults: deaf-store" in render(report, "en")
    assert report.limits is None


def test_an_address_reads_as_it_is_and_links_nowhere() -> None:
    view = runs.view(components={"engine-0": "http://127.0.0.1:21908 (0.32.0)"})
    text = render(build(runs.plan(), view, runs.rounds(), runs.judgement(), {}, economics=None), "en")

    assert "| **engine-0** | `http://127.0.0.1:21908` (0.32.0) |" in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_checks_have_names_and_the_ids_that_records_know_them_by(lang: Lang) -> None:
    named = {"en": "warm: enough was served from the cache", "zh": "有缓存轮次：命中份额足够"}[lang]
    evidence = (replace(runs.judgement().evidence[0], id="warm_hit_share"), runs.judgement().evidence[0])
    text = render(replace(runs.report(), judgement=runs.judgement(evidence=evidence)), lang)

    assert f"| {named}<br>`warm_hit_share` |" in text
    assert "| warm\\_hits\\_external |" in text


def test_tokens_are_attributed_to_tiers_where_counters_tell() -> None:
    tiers = {"gpu_prefix_tokens": 0, "lmcache_cpu_tokens": 0, "mooncake_tokens": 65_024, "computed_tokens": 512}
    rows = tuple({"round": r.round, "kind": r.kind.value, **tiers} for r in runs.rounds())
    text = render(replace(runs.report(), judgement=runs.judgement(details={"attribution": rows})), "en")

    assert "| Warm (cache hit) | 0 | 0 | 195,072 | 1,536 |" in text


@pytest.mark.parametrize(("lang", "said"), [("en", "it drifts"), ("zh", "有漂移")])
def test_what_stands_beside_the_verdict_is_told_in_the_readers_language(lang: Lang, said: str) -> None:
    remark = {"id": "drift", "text": "it drifts", "text_zh": "有漂移"}
    details = {"remarks": [remark], "outlook": None, "settlement": {"text": "9 trials", "text_zh": "9 次"}}
    text = render(replace(runs.report(), judgement=runs.judgement(details=details)), lang)

    assert f"- {said}\n- {'9 trials' if lang == 'en' else '9 次'}\n" in text


def test_the_configuration_of_a_local_stack_is_the_one_that_ran() -> None:
    text = render(runs.report(), "en")

    assert "remote_url: mooncakestore://127.0.0.1:50051/" in text
    assert "--no-enable-prefix-caching" in text
    assert '"kv_connector": "LMCacheConnectorV1"' in text
    assert "# LMCache\nchunk_size: 256\n" in text
    assert "# Mooncake: 1 master + 2 storage nodes" in text


def test_invalid_trials_show_their_reasons() -> None:
    trials = tuple(replace(t, valid=False, reasons=("the client lagged",)) for t in runs.judgement().trials)
    report = build(
        runs.plan(),
        runs.view(),
        runs.rounds(),
        runs.judgement(Verdict.INVALID, trials=trials),
        runs.ENVIRONMENT,
        economics=None,
    )
    text = render(report, "zh")

    assert "the client lagged" in text
    assert "试验 1 无效" in text
    assert "没有完成任何有效试验" in text


@pytest.mark.parametrize(("lang", "heading"), [("en", "Cold tax"), ("zh", "写入开销")])
def test_the_gain_against_an_engine_without_a_connector_stands_beside_the_other_and_carries_the_case(
    lang: Lang, heading: str
) -> None:
    without = tuple(replace(runs.chain_round(n), kind=Kind.COLD, phase=Phase.COLD_TAX) for n in (2, 4, 6))
    report = build(
        runs.plan(),
        runs.view(),
        runs.rounds(),
        runs.judgement(),
        runs.ENVIRONMENT,
        economics=EconomicsPlan(),
        without_cache=without,
    )
    text = render(report, lang)

    assert f"### 🧊 {heading}" in text
    assert "| 402 ms | 1202 ms | 402 ms | ×2.99 [2.99, 2.99] |" in text.replace("\\", "")
    assert report.economics is not None
    assert report.economics.basis == "without_cache"
    assert report.economics.headline.gain_ratio == pytest.approx(1.0, abs=0.01)
    assert report.to_json()["cold_tax"]["rounds"] == 3
    assert any("connector" in line or "连接器" in line for line in summary_lines(report, lang=lang))


def slowed(measured: Round, factor: float) -> Round:
    """The same round on a machine that is slower by `factor`."""

    def later(at_ns: int | None) -> int | None:
        return None if at_ns is None else measured.started_ns + round((at_ns - measured.started_ns) * factor)

    names = ("intended_ns", "sent_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "done_ns")

    def moved(one: RequestRecord) -> dict[str, Any]:
        chunk_ns = tuple(later(at) or 0 for at in one.chunk_ns)
        return {"chunk_ns": chunk_ns, **{name: later(getattr(one, name)) for name in names}}

    requests = tuple(replace(one, **moved(one)) for one in measured.requests)
    return replace(measured, requests=requests, ended_ns=later(measured.ended_ns) or 0)


@pytest.mark.parametrize(("lang", "words"), [("en", "the machine drifted"), ("zh", "机器状态有漂移")])
def test_an_engine_that_does_not_store_and_is_slower_still_does_not_flatter_the_case(lang: Lang, words: str) -> None:
    cold = (replace(runs.chain_round(n), phase=Phase.COLD_TAX) for n in (1, 3, 5))
    without = tuple(slowed(one, 3.0) for one in cold if one.kind is Kind.COLD)
    assert len(without) == 3
    report = build(
        runs.plan(),
        runs.view(),
        runs.rounds(),
        runs.judgement(),
        runs.ENVIRONMENT,
        economics=EconomicsPlan(),
        without_cache=without,
    )
    claim = report.claim("request_throughput")
    assert report.economics is not None
    assert report.cold_tax is not None
    assert report.cold_tax.throughput_gain is not None
    assert claim is not None
    assert claim.estimate_ratio is not None
    assert report.cold_tax.throughput_gain.ratio > claim.estimate_ratio
    assert report.economics.basis != "without_cache"
    assert report.economics.headline.gain_ratio == pytest.approx(claim.estimate_ratio)
    for text in (render(report, lang), render_page(report, lang)):
        assert words in text


def test_without_those_rounds_the_report_says_that_they_were_not_measured() -> None:
    text = render(runs.report(), "en")

    assert "Cold tax (what storing costs the cold rounds): not measured" in text
    assert "🧊" not in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_document_names_every_formula_the_other_ttfts_and_the_clients_error(lang: Lang) -> None:
    report, words = runs.report(), catalogue(lang)
    text = render(report, lang)

    assert all(f"- `{name}`: " in text for name in definitions(words))
    assert words("metric.ttft_user_mean") in text
    assert words("metric.ttft_vllm_mean") in text
    assert "+0.050 ms" in text
    assert "`ttft_user_ms`" not in render(original_report(), lang)
