"""The summary on a terminal: compact, unmistakable, aligned, harmless."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

from pytest_mooncake.analysis.audit.external_figures import RoundFigures
from pytest_mooncake.records import AuditFinding, Rung, Status, Verdict
from pytest_mooncake.report.content.document import side_of
from pytest_mooncake.report.formats.terminal import MAX_REASONS, summary_lines
from pytest_mooncake.report.text.labels import LANGUAGES, Lang
from tests.support import runs
from tests.support.original_report import original_report

FILES = (Path("/tmp/run/report.json"), Path("/tmp/run/report.md"))
REPORT = runs.report()


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_line_is_wider_than_80_columns(verdict: Verdict, lang: Lang) -> None:
    lines = summary_lines(runs.report(verdict), lang=lang, files=FILES)

    assert max(map(wcswidth, lines)) <= 80


@given(st.integers(10, 200))
@settings(max_examples=20, deadline=None)
def test_a_narrow_terminal_gets_a_narrower_summary(columns: int) -> None:
    lines = summary_lines(REPORT, columns=columns)

    assert any("PASS" in line for line in lines)
    assert max(map(wcswidth, lines)) <= max(72, columns)


@pytest.mark.parametrize(
    ("lang", "names"),
    [("en", ("TTFT (mean), ms", "TTFT (P90), ms", "TPOT (mean), ms")), ("zh", ("TTFT (平均), ms", "TTFT (P90), ms"))],
)
def test_at_60_columns_metrics_can_still_be_told_apart_and_means_give_way(lang: Lang, names: tuple[str, ...]) -> None:
    lines = summary_lines(REPORT, lang=lang, columns=60)
    assert max(map(wcswidth, lines)) <= 72
    assert all(any(line.startswith(name) for line in lines) for name in names)
    assert not any("(+42%)" in line or "In brackets" in line or "括号内" in line for line in lines)


@pytest.mark.parametrize(("lang", "word"), [("en", "Verdict: PASS"), ("zh", "结论: 通过")], ids=["English", "Chinese"])
def test_the_verdict_is_said_in_the_readers_language(lang: Lang, word: str) -> None:
    assert word in summary_lines(REPORT, lang=lang)


def test_the_columns_of_a_chinese_table_are_aligned() -> None:
    lines = summary_lines(REPORT, lang="zh")
    start = next(n for n, line in enumerate(lines) if line.startswith("指标"))
    table = [lines[start], *lines[start + 2 : start + 7]]

    assert len({wcswidth(line) - wcswidth(line.split()[-1]) for line in table}) == 1


def test_the_table_shows_what_report_json_holds() -> None:
    document = REPORT.to_json()["summary"]
    (line,) = [line for line in summary_lines(REPORT) if line.startswith("TTFT (mean) ") and "PASS" in line]

    assert f"{document['cold']['ttft_ms']['mean']:.0f} ms" in line
    assert f"{document['warm']['ttft_ms']['mean']:.0f} ms" in line
    assert line.split()[-3:] == ["-67%", "-60%", "PASS"]


def test_an_estimate_that_differs_from_the_printed_means_is_shown_beside_them() -> None:
    text = "\n".join(summary_lines(REPORT))

    assert "+196% (+42%)" in text
    assert "In brackets: the ratio of the printed means" in text


def test_bars_are_in_proportion() -> None:
    lines = summary_lines(original_report())
    cold, warm = (line.count("█") for line in lines if line.startswith("  ") and " ms" in line)

    assert (cold, warm) == (48, 16)


def test_colour_is_painted_only_when_asked_for() -> None:
    assert "\x1b" not in "\n".join(summary_lines(REPORT))
    painted = summary_lines(REPORT, color=True)

    assert "Verdict: \x1b[32;1mPASS\x1b[0m" in painted
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in painted] == list(summary_lines(REPORT))


def test_a_failed_run_gives_its_reasons_and_a_passed_one_needs_none() -> None:
    assert "- the recorded reason" in summary_lines(runs.report(Verdict.FAIL))
    assert not any(line.startswith("- ") for line in summary_lines(REPORT))


def test_many_reasons_are_cut_and_counted() -> None:
    judged = runs.judgement(Verdict.FAIL, reasons=tuple(f"reason {n}" for n in range(MAX_REASONS + 3)))
    lines = summary_lines(replace(REPORT, judgement=judged))

    assert sum(line.startswith("- reason") for line in lines) == MAX_REASONS
    assert "  … +3" in lines


def test_notes_and_simulation_come_first() -> None:
    lines = summary_lines(replace(REPORT, simulated=True))

    assert lines[0].startswith("SIMULATED")
    assert lines[1] == "tiny model on a CPU: figures do not transfer"


def test_a_note_that_says_simulated_is_not_said_twice_but_told_in_chinese() -> None:
    report = replace(REPORT, simulated=True, notes=("SIMULATED: no model ran",))

    assert sum("SIMULATED" in line for line in summary_lines(report)) == 1
    assert summary_lines(report, lang="zh")[0].startswith("模拟（SIMULATED）")


def test_a_pass_below_store_counters_is_printed_with_tier_unproven() -> None:
    weaker = tuple(replace(e, rung=Rung.USAGE) for e in runs.judgement().evidence)
    text = "\n".join(summary_lines(replace(REPORT, judgement=runs.judgement(evidence=weaker))))

    assert "Verdict: PASS (tier unproven)" in text
    assert "strongest proof: cached_tokens of the server" in text.replace("\n          ", " ")


def test_evidence_is_counted_and_the_served_share_is_named() -> None:
    evidence = (*runs.judgement().evidence, replace(runs.judgement().evidence[0], status=Status.UNAVAILABLE))
    text = " ".join(summary_lines(replace(REPORT, judgement=runs.judgement(evidence=evidence))))

    assert "2 checks held, 0 broken, 1 unavailable" in text
    assert "98.4% of the warm prompt tokens" in re.sub(r"\s+", " ", text)


def test_evidence_that_proves_nothing_says_none() -> None:
    evidence = tuple(replace(e, status=Status.UNAVAILABLE) for e in runs.judgement().evidence)

    assert "strongest proof: none" in " ".join(
        summary_lines(replace(REPORT, judgement=runs.judgement(evidence=evidence)))
    )


def test_a_warning_of_the_audit_is_shown() -> None:
    warning = AuditFinding(law="bytes", status="warning", left=318.0, right=400.0, detail="close to the bound")
    lines = summary_lines(replace(REPORT, judgement=runs.judgement(audit=(warning,))))

    assert "warning: network bound: close to the bound" in lines


def test_handed_in_figures_have_no_evidence_and_are_invalid_by_their_own_laws() -> None:
    lines = summary_lines(original_report())
    text = " ".join(lines)

    assert "Verdict: INVALID" in lines
    assert "there is no evidence of what was cached: figures alone" in text
    assert "16.6 requests in flight" in text
    assert "numeric targets met by point estimate: 2/2; TPOT stands apart" in lines


def test_where_the_files_are_comes_last() -> None:
    lines = summary_lines(REPORT, files=FILES)

    assert lines[-2:] == ("Files: /tmp/run/", "  report.json  report.md")
    assert not any("Files" in line for line in summary_lines(REPORT))


def test_without_figures_there_are_dashes_and_no_bars() -> None:
    nothing = side_of(RoundFigures(), None)
    text = "\n".join(summary_lines(replace(REPORT, cold=nothing, warm=nothing, judgement=runs.judgement(claims=()))))

    assert "█" not in text
    assert "TTFT (mean)" in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_hostile_text_cannot_move_the_cursor_or_break_a_line(lang: Lang) -> None:
    lines = summary_lines(runs.hostile_report(), lang=lang)

    assert all(line.isprintable() for line in lines)
    assert max(map(wcswidth, lines)) <= 80


def test_quiet_leaves_out_what_is_in_order_and_quietest_all_but_the_verdict() -> None:
    usual, quiet = "\n".join(summary_lines(REPORT)), "\n".join(summary_lines(REPORT, verbosity=-1))
    quietest = summary_lines(replace(runs.report(Verdict.FAIL), simulated=True), verbosity=-2)

    assert "█" in usual
    assert "█" not in quiet
    assert "TTFT (mean)" in quiet
    assert "\n\n\n" not in f"{usual}\n{quiet}"
    assert quietest[0].startswith("SIMULATED")
    assert quietest[1] == "- the recorded reason"
    assert any(line == "Verdict: FAIL" for line in quietest)
    assert not any("TTFT" in line for line in quietest)


@pytest.mark.parametrize(("lang", "line"), [("en", "held (2/0/0), 64,512 tokens"), ("zh", "64,512 个 Token")])
def test_verbose_has_a_line_for_every_check(lang: Lang, line: str) -> None:
    assert any("warm_hits_external" in told and line in told for told in summary_lines(REPORT, lang=lang, verbosity=1))


@pytest.mark.parametrize(
    ("lang", "line"),
    [
        ("en", "Client's own error: TTFT +0.050 ms, ITL -0.020 ms, P99 0.20 ms; not subtracted"),
        ("zh", "客户端自身误差：TTFT +0.050 ms，ITL -0.020 ms，P99 0.20 ms；未从数据中扣除"),
    ],
)
def test_the_clients_own_error_stands_under_the_metrics(lang: Lang, line: str) -> None:
    client = replace(REPORT.client, itl_bias_ms=-0.02)  # type: ignore[type-var]  # a measured run has one
    lines = summary_lines(replace(REPORT, client=client), lang=lang)

    assert line in lines
    assert wcswidth(line) <= 80


def test_a_client_that_could_not_be_calibrated_says_so_and_handed_in_figures_have_none() -> None:
    unknown = replace(REPORT.client, bias_ms=None, error_p99_ms=None)  # type: ignore[type-var]
    assert "Client's own error: not measured" in summary_lines(replace(REPORT, client=unknown))
    assert not any("own error" in line for line in summary_lines(original_report()))
