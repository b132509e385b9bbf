"""The Jinja environment of all pages: filters, escaping, what goes into scripts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_mooncake.report.content import reasons
from pytest_mooncake.report.content.tables import claim_label, claim_reason, target_text
from pytest_mooncake.report.formats.markdown import date
from pytest_mooncake.report.text import escape, numbers, phrases
from pytest_mooncake.report.text.labels import Catalogue, plain

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


NO_BREAK = "\N{NO-BREAK SPACE}"


def in_script(values: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    import orjson

    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def environment(words: Catalogue) -> Environment:
    """Templates of the pages: everything is escaped, control characters of foreign text are shown, never sent."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("pytest_mooncake.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_filters(words))
    return made


def _shown(value: object) -> object:
    """Foreign text without control characters; line ends stay, a page folds them by itself."""
    return escape.code_lines(value) if type(value) is str and not value.isprintable() else value


def _filters(words: Catalogue) -> dict[str, Any]:
    return {
        **numbers.FILTERS,
        "check": lambda check: words.find(f"check.{check}"),
        "told": partial(phrases.translate, lang=words.lang),
        "ms": lambda value: words("word.not_measured") if value is None else f"{numbers.quantity(value)} ms",
        "unmarked": _unmarked,
        "label": partial(claim_label, words),
        "claim_reason": partial(claim_reason, words),
        "target": lambda claim, report: target_text(report, claim, words),
        "law": partial(reasons.law_label, words),
        "word": lambda key: words.find(f"word.{key}") or key,
        "status_word": lambda key: words.find(f"status.{key}") or key,
        "scenario": lambda found: words.find(f"business.{found.id}") or found.title,
        "plain": plain,
        "code": escape.code_lines,
        "date": partial(date, lang=words.lang),
        "money": partial(_money, lang=words.lang),
        "together": lambda text: _keep_spaces(text.replace(", ", f",{NO_BREAK}")),
    }


def _unmarked(markdown: str) -> str:
    """A sentence of the catalogue without its Markdown, for a page."""
    return markdown.replace("**", "")


def _money(value: float, currency: str, lang: str) -> Markup:
    """An amount that a narrow column breaks before its second form only."""
    return _keep_spaces(numbers.money(value, currency, lang).replace(" ", NO_BREAK).replace(f"{NO_BREAK}(", " ("))


def _keep_spaces(text: str) -> Markup:
    """Text whose unusual spaces are meant, so that they are not cleaned away as foreign ones are."""
    from markupsafe import escape as escaped

    return escaped(text)
