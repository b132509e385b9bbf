"""`report.html`: one self-contained page. No network, light and dark, readable without scripts and without sight.

Everything is escaped by the template; the charts' data lie in a JSON block that no text can leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mooncake.report.charts import run_charts
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.template_variables import shared
from pytest_mooncake.report.formats import no_verdict
from pytest_mooncake.report.formats.html_environment import environment, in_script
from pytest_mooncake.report.text.labels import Catalogue, Lang, catalogue

if TYPE_CHECKING:
    from pytest_mooncake.report.charts.trend_section import TrendSection

TEMPLATE = "report.html.j2"


def render(report: Report, lang: Lang = "en") -> str:
    """The page of a run.

    Args:
        report: the judged run; its rounds feed the charts.
        lang: `en` or `zh`.

    Returns:
        HTML below 2 MB, whatever the size of the run. The same report gives the same bytes.
    """
    if report.crash is not None:
        return no_verdict.page(report.crash, report.run_id, lang)
    words = catalogue(lang)
    trend = _trend(report, words)
    drawn = {**run_charts.charts(report, words), **(trend.drawn if trend else {})}
    text = (
        environment(words)
        .get_template(TEMPLATE)
        .render(
            **shared(report, words),
            drawn=drawn,
            described={**run_charts.descriptions(report, words), **(trend.described if trend else {})},
            trend=trend,
            data=in_script(drawn),
            library=run_charts.library() if drawn else "",
        )
    )
    return text.strip() + "\n"


def _trend(report: Report, words: Catalogue) -> TrendSection | None:
    from pytest_mooncake.report.charts.trend_section import section

    return section(report, words)
