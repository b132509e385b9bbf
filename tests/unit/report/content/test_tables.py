"""The parts that all reports share: words, rows, bars, evidence, reasons, setting, progress, escaping, files."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.plan.models import ConnectorSpec, EngineSpec, StackPlan, TraceSpec, WorkloadPlan
from pytest_mooncake.records import AuditFinding, Claim, Fault, Rung, Status, Verdict
from pytest_mooncake.report.content import evidence_groups, reasons
from pytest_mooncake.report.content.setting import rows_of, setting_of
from pytest_mooncake.report.content.tables import rows, target_text
from pytest_mooncake.report.formats.markdown import date
from pytest_mooncake.report.formats.write import write_reports
from pytest_mooncake.report.text import bars, escape
from pytest_mooncake.report.text.labels import LANGUAGES, Lang, catalogue, pairs
from pytest_mooncake.run.progress import RoundProgress, progress_line
from tests.support import runs
from tests.support.original_report import original_report

EN, ZH = catalogue("en"), catalogue("zh")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_word_exists_in_both_languages_and_wants_the_same_values() -> None:
    for key, (english, chinese) in pairs().items():
        assert english, key
        assert chinese, key
        assert fields(english) == fields(chinese), key


def test_an_unknown_word_is_an_error_unless_it_is_only_looked_for() -> None:
    with pytest.raises(KeyError):
        EN("no.such.word")
    assert EN.find("no.such.word") is None


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 100))
def test_the_longer_bar_fills_the_width_and_the_other_is_in_proportion(cold: float, warm: float, width: int) -> None:
    one, other = (len(bar) for bar in bars.pair(cold, warm, width))

    assert max(one, other) == (width if max(cold, warm) > 0 else 0)
    if cold and warm:
        assert min(one, other) == pytest.approx(width * min(cold, warm) / max(cold, warm), abs=1)


def test_a_value_that_is_there_gets_a_bar_and_a_missing_one_none() -> None:
    assert bars.pair(1e-9, 100.0, 10) == ("█", "█" * 10)
    assert bars.pair(None, 100.0, 10) == ("", "█" * 10)


def test_evidence_is_grouped_by_check_and_the_worst_round_is_shown() -> None:
    held = runs.judgement().evidence[0]
    broken = replace(held, status=Status.BROKEN, round=6, observed="0 tokens")
    unknown = replace(held, id="other", status=Status.UNAVAILABLE)
    first, second = evidence_groups.groups((held, broken, replace(held, round=8), unknown))

    assert (first.id, first.held, first.broken, first.unavailable) == (held.id, 2, 1, 0)
    assert (first.status, first.shown.round) == (Status.BROKEN, 6)
    assert (second.status, second.shown) == (Status.UNAVAILABLE, unknown)
    assert evidence_groups.groups((held,))[0].status is Status.HELD


def test_the_strongest_rung_is_that_of_a_held_check() -> None:
    held = runs.judgement().evidence[0]
    weak = replace(held, rung=Rung.TIMING)

    assert evidence_groups.strongest((weak, held)) is Rung.STORE
    assert evidence_groups.strongest((weak, replace(held, status=Status.BROKEN))) is Rung.TIMING
    assert evidence_groups.strongest(()) is None


def test_claims_of_no_known_metric_stand_below_the_table_with_their_title() -> None:
    claim = replace(runs.claim("cache_bytes", 0.5, 0.6), title="bytes", details={"title_zh": "字节"})
    report = replace(runs.report(), judgement=runs.judgement(claims=(claim,)))

    assert (rows(report, EN)[-1].label, rows(report, ZH)[-1].label) == ("bytes", "字节")
    assert rows(report, EN)[-1].cold_text == "-"
    assert target_text(report, claim, EN) == "×0.600"
    assert target_text(report, replace(claim, target_ratio=None), EN) == "-"


def test_a_bound_shows_its_figure_on_the_side_it_speaks_of() -> None:
    details = {"bound": 450.0, "estimate": 402.3, "rounds": "warm", "unit": "ms", "stated": "≤ 450 ms"}
    claim = replace(runs.claim("ttft_p90_warm", 1, 1), estimate_ratio=None, change_percent=None, details=details)
    row = rows(replace(runs.report(), judgement=runs.judgement(claims=(claim,))), EN)[-1]

    assert (row.cold_text, row.warm_text, row.unit, row.target) == ("-", "402", "ms", "≤ 450 ms")


def test_a_metric_beyond_the_usual_five_appears_when_it_is_claimed() -> None:
    report = replace(runs.report(), judgement=runs.judgement(claims=(runs.claim("ttft_p99", 0.3, 0.4),)))

    assert "ttft_p99" in [row.id for row in rows(report, EN)]
    assert "ttft_p99" not in [row.id for row in rows(runs.report(), EN)]


def test_a_claim_that_does_not_gate_has_no_verdict_in_the_table() -> None:
    claim = replace(runs.claim("ttft_mean", 0.3, 0.4), gating=False)
    report = replace(runs.report(), judgement=runs.judgement(claims=(claim,)))

    assert rows(report, EN)[0].verdict is None


def test_english_reasons_are_the_recorded_ones_and_chinese_ones_tell_the_same_findings() -> None:
    report = runs.report(Verdict.FAIL)

    assert reasons.reasons(report, EN) == ("the recorded reason",)
    assert reasons.originals(report, EN) == ()
    assert reasons.reasons(report, ZH) == ("TTFT (平均)：比值 ×0.333，区间 [0.317, 0.350]，目标 -60%：未通过",)
    assert reasons.originals(report, ZH) == ("the recorded reason",)


def test_a_claims_own_chinese_reason_is_used() -> None:
    claim = replace(runs.claim("ttft_mean", 0.5, 0.4, Verdict.FAIL), details={"reason_zh": "没有达到"})
    report = replace(runs.report(), judgement=runs.judgement(Verdict.FAIL, claims=(claim,)))

    assert reasons.reasons(report, ZH) == ("没有达到",)


def test_a_verdict_without_findings_still_has_a_reason() -> None:
    bare = runs.judgement(Verdict.FAIL, reasons=(), claims=(), evidence=(), audit=())
    report = replace(runs.report(), judgement=bare)

    assert reasons.reasons(report, EN) == (EN("advice.because_FAIL"),)
    assert reasons.reasons(report, ZH) == (ZH("advice.because_FAIL"),)


def test_an_invalid_run_is_explained_by_its_instrument_and_a_failed_one_by_its_product() -> None:
    product = replace(runs.judgement().evidence[0], status=Status.BROKEN, id="warm_hits")
    instrument = replace(product, id="cold_hits", fault=Fault.INSTRUMENT, round=None)
    law = AuditFinding(law="little.warm", status="broken", left=16.6, right=8.0, detail="d")
    findings = {"evidence": (product, instrument), "audit": (law,), "claims": ()}
    failed = replace(runs.report(), judgement=runs.judgement(Verdict.FAIL, **findings))
    invalid = replace(runs.report(), judgement=runs.judgement(Verdict.INVALID, **findings))

    assert [r.partition("（")[0] for r in reasons.reasons(failed, ZH)] == ["证据 warm_hits"]
    assert reasons.reasons(invalid, ZH)[0].startswith("证据 cold_hits（轮次 -")
    assert reasons.reasons(invalid, ZH)[1] == "审计，利特尔法则 (有缓存)：16.6 与 8.0 不相容"


@pytest.mark.parametrize(
    ("unfinished", "sentence"),
    [("time_limit", "运行在得出结论之前达到时间上限"), ("interrupted", "运行在得出结论之前被中断")],
)
def test_a_run_that_was_not_finished_says_why_in_chinese(unfinished: str, sentence: str) -> None:
    judged = runs.judgement(Verdict.INCONCLUSIVE)
    report = replace(runs.report(), judgement=replace(judged, details={**judged.details, "unfinished": unfinished}))
    assert reasons.reasons(report, ZH)[-1].startswith(sentence)


def test_invalid_trials_tell_their_reasons_once_and_claims_without_data_are_left_out() -> None:
    why = "round 1 (warm): no_preemptions: expected 0 preempted requests, observed 2 preempted requests"
    judged = runs.judgement(Verdict.INVALID)
    trials = tuple(replace(trial, valid=False, reasons=(why,)) for trial in judged.trials[:1])
    broken = replace(
        judged.evidence[0], id="no_preemptions", round=trials[0].warm, status=Status.BROKEN, fault=Fault.INSTRUMENT
    )
    report = replace(runs.report(), judgement=replace(judged, trials=trials, evidence=(broken,), audit=()))
    assert reasons.reasons(report, ZH) == (
        "试验 1 无效：第 1 轮（有缓存）：no_preemptions：应为 被抢占的请求 0 个，实测 被抢占的请求 2 个",
    )


def test_an_unknown_law_keeps_its_own_name() -> None:
    assert reasons.law_label(EN, "gravity.warm") == "gravity.warm"
    assert reasons.law_label(EN, "compute") == "compute bound"


def test_risks_follow_from_the_figures() -> None:
    told = " ".join(reasons.risks(runs.report(), EN))

    assert "tiny model on a CPU" in told
    assert "12 warm requests without a failure bound the rate of rare failures only at 25.0%" in told
    assert "storing their KV cache" in told
    assert "example" not in told
    assert "The costs are an example" in " ".join(reasons.risks(original_report(), EN))


def test_a_simulated_runs_first_risk_is_that_it_is_simulated() -> None:
    report = replace(runs.report(), simulated=True)

    assert "SIMULATED" in " ".join(reasons.risks(report, EN))
    assert reasons.advice_key(report) == "SIMULATED"
    assert reasons.advice_key(replace(runs.report(Verdict.FAIL), simulated=True)) == "FAIL"


def test_what_a_trace_sent_is_read_from_its_rounds_and_equal_documents_from_the_plan() -> None:
    rounds = runs.rounds()
    trace = WorkloadPlan(name="day", kind="trace", trace=TraceSpec(path="day.jsonl"))
    sent, documents = setting_of(runs.plan(workload=trace), runs.view(), {}, rounds), runs.plan()
    prompts = [r.prompt_tokens_planned or 0 for r in rounds[0].requests]

    assert (sent.requests, sent.prompt_tokens, sent.concurrency) == (4, round(sum(prompts) / 4), None)
    assert sent.output_tokens == rounds[0].requests[0].output_tokens_planned
    assert setting_of(runs.plan(workload=trace), runs.view(), {}).requests is None
    told = setting_of(documents, runs.view(), {}, rounds[:1])
    assert (told.requests, told.prompt_tokens, told.concurrency) == (4, documents.workload.prompt_tokens, 2)


def test_the_setting_is_read_from_flat_and_from_grouped_facts() -> None:
    flat = setting_of(runs.plan(), runs.view(), runs.ENVIRONMENT)
    grouped = setting_of(runs.plan(), runs.view(), {"hardware": {"gpus": ["A", "B"]}, "software": {"cuda": "13"}})

    assert flat.hardware == (("cpu", "A CPU"), ("cpu_cores", "2"), ("memory_bytes", "8 GB"))
    assert flat.git == "0123456789ab (modified)"
    assert ("gpus", "A, B") in grouped.hardware
    assert ("cuda", "13") in grouped.software
    assert grouped.git is None


@pytest.mark.parametrize(
    ("connector", "shown"),
    [("lmcache", "LMCacheConnectorV1"), ("mooncakestore", "MooncakeStoreConnector"), ("none", None)],
)
def test_the_configuration_names_the_connector_that_ran(connector: str, shown: str | None) -> None:
    stack = StackPlan(
        name="local",
        kind="local",
        connector=ConnectorSpec.model_validate({"kind": connector}),
        engine=EngineSpec(prefix_caching=True),
    )
    text = setting_of(runs.plan(stack=stack), runs.view(store=None), {}).configuration or ""

    assert "--enable-prefix-caching" in text.splitlines()
    assert (shown in text) if shown else ("kv-transfer" not in text)
    assert ("mooncakestore://master/" in text) == bool(shown)


def test_rows_of_a_mapping_are_flat_and_readable() -> None:
    assert rows_of({"a": {"b": 1.0, "c": None}, "d": 7e10, "e": 0.4594}) == (
        ("a.b", "1"),
        ("d", "7e10"),
        ("e", "0.46"),
    )


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ({"done": 0, "elapsed_s": 0.0}, "W1 warm  0/30 requests"),
        (
            {"done": 10, "elapsed_s": 5.0, "ttft_ms": 412.4},
            "W1 warm  10/30 requests, TTFT 412 ms, 2.0 req/s, about 10 s left",
        ),
        ({"done": 30, "elapsed_s": 15.0, "failed": 2}, "W1 warm  30/30 requests, 2.0 req/s, 2 failed"),
    ],
)
def test_progress_says_what_is_known_and_no_more(progress: dict[str, float], line: str) -> None:
    known = {"name": "W1", "kind": "warm", "planned": 30, "failed": 0, **progress}

    assert progress_line(RoundProgress(**known)) == line  # type: ignore[arg-type]  # numbers of both kinds


def test_progress_speaks_chinese_too() -> None:
    progress = RoundProgress(name="C0", kind="cold", done=1, planned=2, failed=0, elapsed_s=2.0)

    assert progress_line(progress, "zh") == "C0 无缓存  1/2 个请求, 0.50 req/s, 约剩 2 s"


@given(st.text())
def test_escaped_text_has_no_markup_left(text: str) -> None:
    escaped = escape.markdown(text)

    assert "\n" not in escaped
    assert "<" not in escaped
    assert "@" not in escaped
    for character in "*_[]|`":
        assert escaped.count(character) == escaped.count(f"\\{character}")


def test_very_long_text_is_cut() -> None:
    assert len(escape.one_line("x" * 10_000)) == escape.MAX_CELL + 1


def test_a_fence_is_longer_than_any_run_of_backticks_inside() -> None:
    assert escape.fence("plain") == "```"
    assert escape.fence("a ```` b") == "`````"
    assert escape.code_lines("a\x1bb\nc") == "a b\nc"


@pytest.mark.parametrize(
    ("text", "lang", "shown"),
    [("2025-01-11T23:00:00+00:00", "zh", "2025年01月11日"), ("2025-01-11", "en", "2025-01-11"), ("soon", "zh", "soon")],
)
def test_days_are_written_as_the_language_writes_them(text: str, lang: Lang, shown: str) -> None:
    assert date(text, lang) == shown


@pytest.mark.parametrize("lang", LANGUAGES)
def test_all_report_files_are_written_whole_and_twice_the_same(tmp_path: Path, lang: Lang) -> None:
    first = {path.name: path.read_bytes() for path in write_reports(runs.report(), tmp_path / "new", lang=lang)}
    second = {path.name: path.read_bytes() for path in write_reports(runs.report(), tmp_path / "new", lang=lang)}

    assert first == second
    assert list(first)[:2] == ["report.json", "report.md"]
    assert {"verdict.json", "metrics.prom"} <= set(first)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(first)


def test_failures_and_the_share_served_have_their_figures_in_the_table() -> None:
    failures = Claim(id="failures", title="failed requests", gating=True, verdict=Verdict.PASS, reason="")
    share = replace(failures, id="warm_hit_share", details={"shares": (0.9999, None, 1.0), "least": 0.99})
    report = replace(runs.report(), judgement=runs.judgement(claims=(failures, share)))
    found = {row.id: row for row in rows(report, catalogue("en"))}

    assert (found["failures"].cold_with_unit, found["failures"].warm_with_unit) == ("0", "0")
    assert found["failures"].target == "0"
    assert found["warm_hit_share"].warm_with_unit == "99.99 %"
    assert found["warm_hit_share"].target == "≥99%"


def test_goodput_shows_the_mean_of_its_rounds_on_either_side() -> None:
    made = replace(
        runs.claim("goodput", 3.0, 2.0), details={"cold": 1.5, "warm": 4.5, "unit": "req/s", "stated": "+100 %"}
    )
    report = replace(runs.report(), judgement=runs.judgement(claims=(made,)))
    row = next(row for row in rows(report, EN) if row.id == "goodput")
    assert (row.cold, row.warm, row.unit) == (1.5, 4.5, "req/s")
