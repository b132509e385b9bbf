"""`report.md`: the acceptance report as a document, from one template (`templates/report.md.j2`) in both languages.

Whatever the template prints is escaped unless it is `Trusted`; the words of the catalogue are, the values filled into
them are escaped first.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_mooncake.report.charts import chart_data
from pytest_mooncake.report.content import reasons
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.tables import Row, claim_label, claim_reason, target_text
from pytest_mooncake.report.content.template_variables import shared
from pytest_mooncake.report.formats import no_verdict
from pytest_mooncake.report.text import bars, escape, numbers, phrases
from pytest_mooncake.report.text.escape import Trusted
from pytest_mooncake.report.text.labels import Catalogue, Lang, catalogue

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.md.j2"
VERDICT_MARKS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "❔", "INVALID": "🚫"}
STATUS_MARKS = {"held": "✅", "warning": "⚠", "broken": "❌", "not_applicable": "-", "unavailable": "❔"}


def render(report: Report, lang: Lang = "en") -> str:
    """The Markdown document of a run.

    Args:
        report: the judged run.
        lang: `en` or `zh`.

    Returns:
        GitHub-flavoured Markdown; its first line states the verdict. The same report gives the same bytes.
    """
    if report.crash is not None:
        return no_verdict.markdown(report.crash, report.run_id, lang)
    words = catalogue(lang)
    told = shared(report, words)
    text = (
        _environment(lang)
        .get_template(TEMPLATE)
        .render(
            **told,
            t=partial(_say, words),
            row={row.id: row for row in told["rows"]},
            tiers=chart_data.attribution(report),
            bars=bars,
        )
    )
    return text.strip() + "\n"


def _say(words: Catalogue, key: str, **values: object) -> Trusted:
    """The sentence of `key` with its values escaped."""
    return Trusted(words(key, **{name: escape.markdown(value) for name, value in values.items()}))


def _environment(lang: Lang) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    words = catalogue(lang)
    made = Environment(
        loader=PackageLoader("pytest_mooncake.report"),
        finalize=escape.markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - the output is Markdown; `finalize` escapes every value for it
    )
    made.filters.update(_filters(words))
    return made


def _filters(words: Catalogue) -> dict[str, Any]:
    return {
        **numbers.FILTERS,
        "change": change,
        "gain": lambda found: numbers.signed_percent(abs(found - 1) * 100).lstrip("+"),
        "seconds": lambda ms: numbers.MISSING if ms is None else numbers.trimmed(ms / 1000),
        "mark": lambda verdict: Trusted(VERDICT_MARKS[verdict.value] if verdict else numbers.MISSING),
        "status_mark": lambda status: Trusted(STATUS_MARKS.get(str(status), numbers.MISSING)),
        "check": lambda check: Trusted(_check(words, check)),
        "told": partial(phrases.translate, lang=words.lang),
        "ms": lambda value: words("word.not_measured") if value is None else f"{numbers.quantity(value)} ms",
        "label": lambda claim: claim_label(words, claim),
        "claim_reason": lambda claim: claim_reason(words, claim),
        "target": lambda claim, report: target_text(report, claim, words),
        "law": lambda law: reasons.law_label(words, law),
        "word": lambda key: words.find(f"word.{key}") or key,
        "status_word": lambda key: words.find(f"status.{key}") or key,
        "scenario": lambda found: words.find(f"business.{found.id}") or found.title,
        "code": lambda text: Trusted(escape.code_lines(text)),
        "fence": lambda text: Trusted(escape.fence(text)),
        "ours": Trusted,
        "date": partial(date, lang=words.lang),
        "anchor": anchor,
        "money": partial(_money, lang=words.lang),
    }


def _check(words: Catalogue, check: str) -> str:
    """A check's name and the id that records and thresholds know it by."""
    known = words.find(f"check.{check}")
    return f"{known}<br>`{check}`" if known else escape.markdown(check)


def _money(value: float, currency: str, lang: str) -> str:
    return numbers.money(value, currency, lang)


def date(text: str, lang: Lang) -> str:
    """The day of an ISO time as the language writes it; text that is no such time stays as it is.

    >>> date("2025-01-11T08:00:00+00:00", "zh"), date("2025-01-11", "en"), date("soon", "en")
    ('2025年01月11日', '2025-01-11', 'soon')
    """
    try:
        day = datetime.fromisoformat(text).date()
    except ValueError:
        return text
    return f"{day.year}年{day.month:02d}月{day.day:02d}日" if lang == "zh" else day.isoformat()


def change(row: Row) -> str:
    """The size of a change without its sign: `67%`."""
    if row.change_percent is None:
        return numbers.MISSING
    return numbers.signed_percent(abs(row.change_percent)).lstrip("+")


def anchor(heading: str) -> Trusted:
    """The fragment GitHub gives a heading: lower case, punctuation and symbols dropped, spaces to hyphens.

    >>> anchor("📋 Executive summary")
    '-executive-summary'
    """
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return Trusted("".join(kept).replace(" ", "-"))
