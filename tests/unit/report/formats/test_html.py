"""`report.html`: self-contained, below 2 MB, the same bytes every time, and nothing in it runs but our own script."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pytest_mooncake.records import Verdict
from pytest_mooncake.report.charts.chart_data import MOST_REQUESTS
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats.html import render
from pytest_mooncake.report.text.labels import LANGUAGES, Lang
from tests.support import runs
from tests.support.original_report import original_report
from tests.support.trend_runs import series

TWO_MB = 2_000_000
REPORT = runs.report()


class Page(HTMLParser):
    """Collects what matters: scripts, links to elsewhere, ids, labels, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        self.outside: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script"
        self.outside += [v for n, v in values.items() if n in {"src", "href"} and not v.startswith("#")]
        self.handlers += [name for name in values if name.startswith("on")]
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in {"meta", "link", "br"}:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag


def chart_data(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', text, flags=re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found.group(1))
    return data


def large_report(requests: int) -> Report:
    rounds = runs.rounds(requests=requests)
    return build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_page_is_whole_and_asks_nobody_for_anything(verdict: Verdict, lang: Lang) -> None:
    text = render(runs.report(verdict), lang)
    page = Page(text)

    assert page.outside == []
    assert page.unclosed == []
    assert len(page.ids) == len(set(page.ids))
    assert len(text.encode()) < TWO_MB
    assert f'class="banner {verdict.value}"' in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_same_report_gives_the_same_bytes(lang: Lang) -> None:
    assert render(REPORT, lang) == render(REPORT, lang)


def test_every_chart_has_its_place_and_a_description_in_words() -> None:
    text = render(REPORT)

    assert set(chart_data(text)) == {"ecdf", "requests", "ratios", "attribution"}
    for name in chart_data(text):
        assert re.search(rf'id="chart-{name}" role="img" aria-label="[^"]+"', text)


def test_hostile_text_runs_nothing_in_any_place() -> None:
    for lang in LANGUAGES:
        text = render(runs.hostile_report(), lang)
        page = Page(text)

        assert page.scripts == 3
        assert page.handlers == []
        assert "<script>alert" not in text
        assert "\x1b" not in text


def test_a_text_cannot_end_the_data_it_stands_in() -> None:
    title = "</script><script>alert(1)</script>"
    claim = replace(runs.claim("x", 0.5, 0.4), title=title)
    text = render(replace(REPORT, judgement=runs.judgement(claims=(claim,))))

    assert Page(text).scripts == 3
    assert title[:40] in json.dumps(chart_data(text))


def test_many_requests_are_drawn_as_bins_and_the_page_stays_small() -> None:
    text = render(large_report(MOST_REQUESTS))

    assert len(text.encode()) < TWO_MB
    assert '"@mean' in text.replace("\\u0040", "@") or "@mean" in text


def test_failed_requests_are_marked() -> None:
    rounds = runs.rounds(error="refused")
    report = build(runs.plan(), runs.view(), rounds, runs.judgement(Verdict.FAIL), runs.ENVIRONMENT, economics=None)

    assert "Failed requests" in json.dumps(chart_data(render(report)))


def test_figures_without_records_have_only_the_chart_of_their_ratios() -> None:
    text = render(original_report())

    assert set(chart_data(text)) == {"ratios"}
    assert "Charts need the records of a run" in text


def test_without_anything_to_draw_there_is_no_library() -> None:
    text = render(replace(original_report(), judgement=runs.judgement(claims=())))

    assert Page(text).scripts == 1
    assert len(text.encode()) < 100_000


def test_claims_of_the_same_name_are_told_apart_in_the_chart() -> None:
    one = replace(runs.claim("a", 0.5, 0.4), title="same", ci_ratio=None)
    other = replace(runs.claim("b", 0.5, 0.4), title="same", details={"trial_ratios": (0.4, 0.6)})
    text = render(replace(REPORT, judgement=runs.judgement(claims=(one, other))))

    assert {"same (1)", "same (2)"} <= set(re.findall(r"same \(\d\)", text))


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INVALID])
def test_the_business_case_of_what_did_not_pass_is_headed_as_such(verdict: Verdict) -> None:
    assert "审计未通过，不可用于决策" in render(runs.report(verdict), "zh")


def test_label_limits_and_notes_are_shown() -> None:
    report = replace(REPORT, label="nightly", limits={"load_floor_s": 0.107}, simulated=True)
    text = render(report)

    assert "Label: nightly" in text
    assert "Loading takes at least (s)" in text
    assert "SIMULATED" in text
    assert "tiny model on a CPU" in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_run_with_a_history_shows_each_metric_over_the_releases_before_it(lang: Lang) -> None:
    past = tuple(series(shifted=True))
    text = render(replace(REPORT, past=past), lang)
    page = Page(text)
    assert "trend" in page.ids
    assert "chart-trend-warm-ttft_mean_ms" in page.ids
    assert "trend-warm-ttft_mean_ms" in chart_data(text)
    assert "chart-trend-warm-tpot_mean_ms" not in page.ids, "no run measured it: that is said, not drawn"
    assert text.count('class="note"') >= 4
    assert ("since v14 (14 runs before" if lang == "en" else "自 v14 起") in text
    assert ("18 comparable runs" if lang == "en" else "可比的 18 次运行") in text
    assert text == render(replace(REPORT, past=past), lang)
    assert len(text.encode()) < TWO_MB


def test_one_run_shows_no_trend() -> None:
    for past in ((), tuple(series(shifted=False)[:1])):
        assert "trend" not in Page(render(replace(REPORT, past=past))).ids
