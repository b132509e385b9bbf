"""How large the page of a run is and how fast a browser opens it: `python benchmarks/report_page.py [REQUESTS ...]`.

Prints one line a size; exits 1 when a page is above 2 MB or takes 2 s or longer to open and draw. Needs Chromium and
playwright (constraints/test.txt).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pytest_mooncake.report.content.build import build  # noqa: E402 - after the path is known
from pytest_mooncake.report.content.document import Report  # noqa: E402
from pytest_mooncake.report.formats.html import render  # noqa: E402
from tests.support import runs  # noqa: E402

SIZES = (1_000, 100_000)
OPENINGS = 5
MOST_BYTES = 2_000_000
MOST_S = 2.0
ROUNDS = 7
"""A left-out cold round, then three trials."""
IS_DRAWN = """() => document.querySelectorAll('.chart').length === 4 && [...document.querySelectorAll('.chart')].every(
    place => place.firstElementChild?.shadowRoot?.childElementCount > 0)"""


def report_of(requests: int) -> Report:
    """A run of about `requests` requests, with tokens by tier."""
    rounds = runs.rounds(requests=max(1, requests // ROUNDS))
    return build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=None)


def opening_s(path: Path, openings: int = OPENINGS) -> tuple[float, ...]:
    """Seconds from asking a browser for the page until every chart is drawn, each in a fresh context."""
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(openings):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            started = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_function(IS_DRAWN, timeout=60_000)
            seconds.append(time.perf_counter() - started)
            page.context.close()
        browser.close()
    return tuple(seconds)


def main(sizes: tuple[int, ...]) -> int:
    """Measure every size; 1 when one of them misses a limit."""
    missed = False
    with tempfile.TemporaryDirectory() as directory:
        for requests in sizes:
            report, path = report_of(requests), Path(directory) / f"{requests}.html"
            started = time.perf_counter()
            path.write_text(render(report), encoding="utf-8")
            rendered_s, size_bytes = time.perf_counter() - started, path.stat().st_size
            opened = opening_s(path)
            missed |= size_bytes >= MOST_BYTES or median(opened) >= MOST_S
            spread = f"of {len(opened)}: {min(opened):.2f} to {max(opened):.2f} s"
            print(
                f"{requests:>9,} requests: rendered in {rendered_s:5.2f} s, {size_bytes / 1e6:.2f} MB, "
                f"opened and drawn in {median(opened):.2f} s ({spread})"
            )
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main(tuple(int(size.replace("_", "")) for size in sys.argv[1:]) or SIZES))
