"""What pipelines read, and its limits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_mooncake.analysis.regression.alarm import PastRun, compare_release
from pytest_mooncake.analysis.regression.release import finding_of
from pytest_mooncake.analysis.regression.versus import Versus, VersusMetric
from pytest_mooncake.records import Verdict
from pytest_mooncake.report.formats import ci
from pytest_mooncake.report.text.labels import LANGUAGES, Lang
from tests.support import runs
from tests.support.original_report import original_report

LEVEL = {
    "warm.ttft_mean_ms": 400.0,
    "warm.tpot_mean_ms": 15.0,
    "warm.request_throughput": 7.0,
    "cold.ttft_mean_ms": 1200.0,
    "warm.hit_share": 1.0,
}


def test_a_claims_properties_hold_metric_ratio_interval_and_verdict() -> None:
    properties = dict(ci.claim_properties(runs.claim("ttft_mean", 1 / 3, 0.4)))

    assert properties == {
        "mooncake.metric": "ttft_mean",
        "mooncake.verdict": "PASS",
        "mooncake.ratio": "0.333333",
        "mooncake.interval_low": "0.316667",
        "mooncake.interval_high": "0.35",
        "mooncake.confidence": "0.9",
        "mooncake.target_ratio": "0.4",
        "mooncake.trials": "3",
    }


def test_what_a_claim_lacks_is_no_property() -> None:
    bare = replace(runs.claim("failures", 1, 1), estimate_ratio=None, ci_ratio=None, target_ratio=None, confidence=None)

    assert [name for name, _ in ci.claim_properties(bare)] == [
        "mooncake.metric",
        "mooncake.verdict",
        "mooncake.trials",
    ]


def test_the_same_facts_fit_one_line_of_failure_text() -> None:
    line = ci.facts_line(runs.claim("ttft_mean", 0.5, 0.4, Verdict.FAIL))

    assert line.startswith("metric=ttft_mean, verdict=FAIL, ratio=0.5, ")
    assert "\n" not in line


def test_a_runs_properties_name_it_and_its_verdict() -> None:
    properties = dict(ci.run_properties(replace(runs.report(), label="nightly\nbuild", simulated=True)))

    assert properties["mooncake.verdict"] == "PASS"
    assert properties["mooncake.label"] == "nightly build"
    assert properties["mooncake.simulated"] == "true"
    assert properties["mooncake.targets_met"] == "2/2"


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(Verdict.PASS, 0), (Verdict.FAIL, 1), (Verdict.INCONCLUSIVE, 10), (Verdict.INVALID, 11)],
)
def test_verdict_json_tells_pipelines_the_four_words_apart(verdict: Verdict, code: int) -> None:
    document = json.loads(ci.verdict_text(runs.report(verdict)))

    assert (document["verdict"], document["exit_code"]) == (verdict.value, code)
    assert document["claims"]["request_throughput"]["estimate_ratio"] == 2.96


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        (Verdict.PASS, "notice"),
        (Verdict.FAIL, "error"),
        (Verdict.INCONCLUSIVE, "warning"),
        (Verdict.INVALID, "warning"),
    ],
)
def test_there_is_one_annotation_a_verdict(verdict: Verdict, level: str) -> None:
    line = ci.annotation(runs.report(verdict))

    assert line.startswith(f"::{level} title=pytest-mooncake%3A {verdict.value}::")
    assert "\n" not in line


def test_an_annotation_cannot_be_used_to_run_another_command() -> None:
    judged = runs.judgement(Verdict.FAIL, reasons=("100% bad\n::set-output name=x::y\r",))
    line = ci.annotation(replace(runs.report(), judgement=judged))

    assert len(line.splitlines()) == 1
    assert "100%25 bad" in line


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_comment_stays_below_65_536_characters_whatever_a_server_says(lang: Lang) -> None:
    report = replace(runs.report(Verdict.FAIL), notes=tuple("x" * 5000 + str(n) for n in range(100)))
    text = ci.comment(report, lang)

    assert len(text) < 65_536
    assert text.startswith(ci.COMMENT_MARK)


def test_the_step_summary_stays_below_a_mebibyte() -> None:
    report = replace(runs.report(Verdict.FAIL), notes=tuple("字" * 5000 + str(n) for n in range(1000)))

    assert len(ci.step_summary(report).encode()) < 1024 * 1024


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_short_report_holds_the_table_and_the_verdict(lang: Lang) -> None:
    text = ci.step_summary(runs.report(Verdict.FAIL), lang)

    assert text.startswith("## pytest-mooncake: ")
    assert "FAIL" in text.partition("\n")[0]
    assert "| -67% | \\[0.317, 0.350\\] | -60% |" in text


def test_a_simulated_run_says_so_in_the_comment() -> None:
    assert "SIMULATED" in ci.comment(replace(runs.report(), simulated=True))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_hostile_text_stays_text_in_a_comment(lang: Lang) -> None:
    text = ci.comment(runs.hostile_report(), lang)

    assert "<script" not in text
    assert "@everyone" not in text
    assert "\x1b" not in text


def test_the_comment_says_how_figures_are_counted_and_how_wrong_the_client_was() -> None:
    text = ci.comment(runs.report())

    assert "TTFT = last byte of the request" in text
    assert "own error: TTFT +0.050 ms" in text
    assert "own error" not in ci.comment(original_report())


def test_verdict_json_holds_the_release_and_its_exit_code_is_the_worst_of_both() -> None:
    one = VersusMetric(metric="warm.ttft_mean_ms", title="TTFT", ratio=1.5, ci_ratio=(1.4, 1.6), standing="slower")
    versus = Versus(visits=3, confidence=0.9, metrics=(one,))
    past = [PastRun(run_id=str(n), release=f"v{n}", fingerprint="f", metrics=LEVEL) for n in range(12)]
    new = PastRun(run_id="new", release="new", fingerprint="f", metrics={**LEVEL, "warm.ttft_mean_ms": 900.0})
    release = finding_of(compare_release(new, past), versus)
    told = ci.verdict_json(replace(runs.report(), release=release, versus=versus))

    assert (told["verdict"], told["exit_code"]) == ("PASS", 1)
    assert (told["release"]["verdict"], told["release"]["confirmed"]) == ("FAIL", ["warm.ttft_mean_ms"])
    assert (told["versus"]["slower"], told["versus"]["decided"]) == (["warm.ttft_mean_ms"], True)
    plain = ci.verdict_json(runs.report())
    assert (plain["release"], plain["versus"], plain["exit_code"]) == (None, None, 0)
