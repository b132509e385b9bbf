"""What the document and the page both tell, worked out once: a part added here stands in both templates' reach."""

from __future__ import annotations

from typing import Any

from pytest_mooncake.report.content import evidence_groups, reasons
from pytest_mooncake.report.content.cold_tax import tax_rows
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.setting import rows_of
from pytest_mooncake.report.content.tables import Row, other_ttfts, own_error, rows
from pytest_mooncake.report.text.labels import Catalogue, definitions


def shared(report: Report, words: Catalogue) -> dict[str, Any]:
    """The variables that `report.md.j2` and `report.html.j2` have in common; `rows` are of the table of metrics."""
    table: tuple[Row, ...] = tuple(rows(report, words))
    return {
        "r": report,
        "words": words,
        "rows": table,
        "other_ttfts": other_ttfts(report, words),
        "own_error": own_error(report, words),
        "definitions": definitions(words),
        "e": report.economics,
        "advice": reasons.advice_key(report),
        "reasons": reasons.reasons(report, words),
        "originals": reasons.originals(report, words),
        "risks": reasons.risks(report, words),
        "notes": reasons.notes(report, words),
        "with_release": reasons.with_release(report, words),
        "beside": reasons.beside(report, words),
        "tax": tax_rows(report, words),
        "groups": evidence_groups.groups(report.judgement.evidence),
        "limit_rows": rows_of,
    }
