"""What was planned and is not there stands in the first lines of every format; so does that there is no verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from pytest_mooncake.cli import app
from pytest_mooncake.records import CORRECTNESS, Crash, Gate, GateStatus, Verdict
from pytest_mooncake.report.content import document
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats import ci, html, junit, markdown, no_verdict, openmetrics
from pytest_mooncake.report.formats.terminal import summary_lines
from pytest_mooncake.report.formats.write import OF_A_RUN, TEXTS
from pytest_mooncake.report.text.labels import LANGUAGES, Lang
from tests.support import runs
from tests.support.report_schema import SCHEMA

TEXT = Gate(
    id=CORRECTNESS,
    status=GateStatus.NOT_APPLICABLE,
    reason="prompts were sent as text, and it compares answers to prompts of token ids",
)
MISSING = Gate(id=CORRECTNESS, status=GateStatus.NOT_MADE, reason="the run ended before it")
CRASH = Crash(type="KeyError", message="'p50'")
SAID = {
    "en": "correctness gate: not applicable: prompts were sent as text",
    "zh": "正确性门控：不适用：prompt 以文本发送",
}
FIRST = 14
"""Lines of Markdown that everybody reads."""


def with_gate(gate: Gate, verdict: Verdict = Verdict.PASS) -> Report:
    made = runs.report(verdict)
    return replace(made, judgement=replace(made.judgement, gates=(gate,)))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verbosity", [-2, -1, 0, 1])
def test_the_terminal_says_it_before_the_table(lang: Lang, verbosity: int) -> None:
    lines = summary_lines(with_gate(TEXT), lang=lang, verbosity=verbosity, columns=120)
    assert lines[0].startswith(SAID[lang][:20])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_markdown_and_comments_say_it_in_their_first_lines(lang: Lang) -> None:
    report = with_gate(TEXT)
    for text in (markdown.render(report, lang), ci.comment(report, lang), ci.step_summary(report, lang)):
        assert SAID[lang] in "\n".join(text.splitlines()[:FIRST])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_says_it_below_its_banner(lang: Lang) -> None:
    text = html.render(with_gate(TEXT), lang)
    assert text.index('class="banner') < text.index(SAID[lang]) < text.index("<main>")


def test_pipelines_are_told() -> None:
    report = with_gate(TEXT)
    assert SAID["en"] in ci.annotation(report)
    assert ci.verdict_json(report)["gates"] == {CORRECTNESS: "not_applicable"}
    assert dict(ci.run_properties(report))["mooncake.gate.correctness"].startswith("not_applicable: prompts were sent")
    assert 'mooncake_gate{gate="correctness",status="not_applicable"} 1' in openmetrics.text(report)
    assert document.Report.to_json(report)["gates"][0]["reason"] == TEXT.reason
    first = next(ElementTree.fromstring(junit.render(report)).iter("testcase"))
    assert (first.get("classname"), first.get("name")) == ("mooncake.gates", CORRECTNESS)
    assert first.find("skipped") is not None


def test_the_verdict_command_says_it_right_below_the_verdict() -> None:
    lines = list(app._verdict_lines(with_gate(TEXT)))
    assert (lines[0], lines[1].strip()[:35]) == ("PASS", SAID["en"][:35])


def test_a_gate_that_was_not_made_is_an_error_in_junit_and_a_reason_in_chinese() -> None:
    report = with_gate(MISSING, Verdict.INVALID)
    case = next(ElementTree.fromstring(junit.render(report)).iter("testcase"))
    assert case.find("error") is not None
    assert "“正确性门控”已计划但未执行：运行在此之前已结束" in markdown.render(report, "zh")


def test_a_gate_that_was_made_is_not_worth_a_line() -> None:
    assert not any("gate" in line for line in summary_lines(runs.report(), verbosity=0))


@pytest.mark.parametrize(("name", "said"), [("cold_tax", "--mooncake-cold-tax"), ("versus", "--mooncake-versus")])
def test_parts_beside_the_run_that_are_missing_are_said_as_well(name: str, said: str) -> None:
    report = runs.report(beside_not_made={name: "the old endpoint is gone"})
    for text in (markdown.render(report), "\n".join(summary_lines(report, columns=200)), ci.comment(report)):
        line = next(line for line in text.splitlines() if said in line)
        assert "planned and not made: the old endpoint is gone" in line


def test_a_failure_is_told_in_chinese_too() -> None:
    made = runs.report(Verdict.INCONCLUSIVE)
    details = {**made.judgement.details, "unfinished": "failed", "failure": "vllm died"}
    report = replace(made, judgement=replace(made.judgement, details=details))
    assert "运行在得出结论之前因错误结束：vllm died" in markdown.render(report, "zh")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("text", sorted({*OF_A_RUN, *(t for found in TEXTS.values() for t in found)}, key=str))
def test_no_format_says_a_verdict_where_there_is_none(text: object, lang: Lang) -> None:
    made = text.make(runs.report(crash=CRASH), lang)  # type: ignore[attr-defined] # a Text
    assert "p50" in made or text.name == "metrics.prom"  # type: ignore[attr-defined] # a Text
    if text.name != "report.json":  # type: ignore[attr-defined] # a Text
        assert "PASS" not in made
        assert "通过" not in made


def test_the_terminal_says_that_there_is_no_verdict() -> None:
    assert summary_lines(runs.report(crash=CRASH))[0] == "no verdict: internal error"


def test_reports_without_a_verdict_keep_to_the_schema_whole_or_bare() -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    validator.validate(json.loads(document.as_text(runs.report(crash=CRASH))))
    validator.validate(json.loads(document.as_text(with_gate(TEXT))))
    validator.validate(no_verdict.report_json(CRASH, "r", {"run_id": "r"}))
    bare = no_verdict.report_json(CRASH, "r", None)
    assert not validator.is_valid({**bare, "internal_error": None, "verdict": "PASS"})


def test_a_release_that_was_to_be_compared_and_was_not_is_never_green() -> None:
    missing = {document.RELEASE: document.NOT_COMPARED}
    report = runs.report(beside_not_made=missing)
    assert (report.verdict, report.gate) == (Verdict.PASS, Verdict.INVALID)
    assert runs.report(Verdict.FAIL, beside_not_made=missing).gate is Verdict.FAIL
    assert any("pytest-mooncake history add DIR" in line for line in summary_lines(report, columns=200)[:3])


def test_what_the_plan_asked_of_the_history_is_held_against_the_record() -> None:
    asked = runs.plan().model_copy(update={"compares_release": True})
    made = build(asked, runs.view(), runs.rounds(), runs.judgement(Verdict.PASS), runs.ENVIRONMENT, economics=None)
    assert made.beside_not_made == {document.RELEASE: document.NOT_COMPARED}
    assert made.gate is Verdict.INVALID
