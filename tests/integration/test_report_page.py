"""The page in a real browser: it opens, draws, stays silent, asks nobody, and an accessibility audit finds nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.records import Verdict
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats.html import render
from tests.support import runs
from tests.support.original_report import original_report
from tests.support.trend_runs import page as trend_page
from tests.support.trend_runs import run as trend_run
from tests.support.trend_runs import series

pytestmark = pytest.mark.full
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
A4_PIXELS = 718
"""A4 at 96 dpi without the browser's margins."""
IS_DRAWN = """() => [...document.querySelectorAll('.chart')].every(
    place => place.firstElementChild && place.firstElementChild.shadowRoot
        && place.firstElementChild.shadowRoot.childElementCount > 0)"""


def large() -> Report:
    rounds = runs.rounds(requests=100_000 // 7)
    return build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)


REPORTS = {
    "healthy": runs.report,
    "failing": lambda: runs.report(Verdict.FAIL),
    "invalid": original_report,
    "hostile": runs.hostile_report,
    "100,000 requests": large,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: constraints/test.txt")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, path: Path, scheme: str, *, width: int = 1200, audited: bool = False) -> tuple[Any, list[str]]:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=audited)
    page = context.new_page()
    seen: list[str] = []
    page.on("console", lambda message: seen.extend([message.text] if message.type in {"error", "warning"} else []))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.extend([request.url] if not request.url.startswith(path.as_uri()) else []))
    page.goto(path.as_uri())
    page.wait_for_function(IS_DRAWN, timeout=20_000)
    return page, seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", list(REPORTS))
def test_the_page_draws_in_silence_and_asks_nobody(browser: Any, tmp_path: Path, name: str, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(REPORTS[name]()), encoding="utf-8")

    page, seen = opened(browser, path, scheme)

    assert seen == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button").click()
    page.wait_for_function(IS_DRAWN, timeout=20_000)
    assert seen == []
    page.context.close()


@pytest.mark.parametrize("name", ["healthy", "failing", "invalid"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_audit_finds_nothing(browser: Any, tmp_path: Path, name: str, scheme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = next(Path(next(iter(package.__path__))).rglob("axe.min.js"))
    path = tmp_path / "report.html"
    path.write_text(render(REPORTS[name](), "zh"), encoding="utf-8")

    page, _ = opened(browser, path, scheme, audited=True)
    page.evaluate(script.read_text(encoding="utf-8"))

    assert [violation["id"] for violation in page.evaluate("axe.run()")["violations"]] == []
    page.context.close()


def test_a_phone_shows_the_page_without_scrolling_sideways(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(runs.hostile_report()), encoding="utf-8")

    page, _ = opened(browser, path, "light", width=360)

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_sheet_of_paper_nothing_is_cut_off(browser: Any, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(runs.report()), encoding="utf-8")

    page, _ = opened(browser, path, scheme, width=A4_PIXELS)
    page.emulate_media(media="print")
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('table')].map(t => t.scrollWidth))")

    assert widest <= A4_PIXELS
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    figure = page.locator("figure").first
    assert figure.evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 255, 255)"
    turned = figure.locator(".chart").evaluate("one => getComputedStyle(one).filter")
    assert ("invert(1)" in turned) is (scheme == "dark"), "what was drawn for a dark page is turned for paper"
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_trend_page_draws_in_silence_and_an_audit_finds_nothing(browser: Any, tmp_path: Path, scheme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = next(Path(next(iter(package.__path__))).rglob("axe.min.js"))
    path = tmp_path / "trend.html"
    path.write_text(trend_page([*series(shifted=True), trend_run(60, verdict="FAIL")]), encoding="utf-8")

    page, seen = opened(browser, path, scheme, width=360, audited=True)
    page.evaluate(script.read_text(encoding="utf-8"))

    assert seen == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert [violation["id"] for violation in page.evaluate("axe.run()")["violations"]] == []
    page.context.close()
