"""What every format says of a run that an error of this package itself left without a verdict.

No figure stands here beside `report.json`: whoever skims a page or a comment must not take it for a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from pytest_mooncake.records import REPORT_SCHEMA, Crash
from pytest_mooncake.report import exit_codes
from pytest_mooncake.report.content.crash_words import TRACEBACK, internal_error_json, sentence
from pytest_mooncake.report.text import escape
from pytest_mooncake.report.text.labels import Lang, catalogue

__all__ = [
    "TRACEBACK",
    "annotation",
    "internal_error_json",
    "junit",
    "lines",
    "markdown",
    "metrics",
    "page",
    "report_json",
    "sentence",
    "verdict_json",
]


def report_json(crash: Crash, run_id: str, plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """The least `report.json`, where not even what was measured can be told."""
    return {
        "schema": REPORT_SCHEMA,
        "run": run_id,
        "verdict": None,
        "reasons": [sentence(crash)],
        "internal_error": internal_error_json(crash),
        "plan": dict(plan or {}),
    }


def verdict_json(crash: Crash, run_id: str) -> dict[str, Any]:
    """`verdict.json`."""
    return {
        "schema": "pytest-mooncake/verdict/1",
        "run": run_id,
        "verdict": None,
        "exit_code": exit_codes.NO_VERDICT,
        "reasons": [sentence(crash)],
        "internal_error": internal_error_json(crash),
    }


def lines(crash: Crash, lang: Lang) -> tuple[str, str, str, str]:
    """Heading, error, what it means, where to report it."""
    words = catalogue(lang)
    error = escape.one_line(f"{crash.type}: {crash.message}")
    return words("crash.title"), error, words("crash.meaning"), words("crash.report_to", file=TRACEBACK)


def markdown(crash: Crash, run_id: str, lang: Lang) -> str:
    """A document, a comment or a step summary."""
    title, *rest = (escape.markdown(line) for line in (*lines(crash, lang), run_id))
    return "\n\n".join((f"## pytest-mooncake: {title}", *rest)) + "\n"


def page(crash: Crash, run_id: str, lang: Lang) -> str:
    """The page."""
    from markupsafe import escape as escaped

    title, *rest = (str(escaped(line)) for line in (*lines(crash, lang), run_id))
    body = "\n".join((f"<h1>{title}</h1>", *(f"<p>{line}</p>" for line in rest)))
    language = "zh-CN" if lang == "zh" else "en"
    head = f'<meta charset="utf-8">\n<title>{title}</title>'
    return f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def metrics() -> str:
    """OpenMetrics: no verdict is 1, and the exit code says why."""
    name = "mooncake_exit_code"
    told = "exit code of pytest-mooncake verdict: 4 there is no verdict"
    return f"# TYPE {name} gauge\n# HELP {name} {told}\n{name} {exit_codes.NO_VERDICT}\n# EOF\n"


def annotation(crash: Crash) -> str:
    """The workflow command of GitHub."""
    return f"::error title=pytest-mooncake%3A no verdict::{sentence(crash).replace('%', '%25')}"


def junit(crash: Crash) -> str:
    """JUnit XML: one test case, an error."""
    counts = {"name": "pytest-mooncake", "tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    suites = ElementTree.Element("testsuites", {"name": "pytest-mooncake"})
    suite = ElementTree.SubElement(suites, "testsuite", counts)
    case = ElementTree.SubElement(suite, "testcase", {"classname": "mooncake", "name": "internal_error", "time": "0"})
    ElementTree.SubElement(case, "error", {"message": sentence(crash)})
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'
