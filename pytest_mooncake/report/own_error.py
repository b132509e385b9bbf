"""The client's own error as a sentence, printed beside the metrics that it is an error of."""

from __future__ import annotations

from pytest_mooncake.report.document import Report
from pytest_mooncake.report.labels import Catalogue
from pytest_mooncake.report.numbers import MISSING, quantity


def own_error(report: Report, words: Catalogue) -> str | None:
    """Bias and P99 error of what was measured here; `None` for figures from elsewhere."""
    client = report.client
    if client is None:
        return None
    if client.bias_ms is None:
        return words("client.no_error")
    return words(
        "client.error",
        ttft=_signed(client.bias_ms),
        itl=_signed(client.itl_bias_ms),
        p99=MISSING if client.error_p99_ms is None else f"{quantity(client.error_p99_ms)} ms",
    )


def _signed(value_ms: float | None) -> str:
    if value_ms is None:
        return MISSING
    return f"{'+' if value_ms > 0 else ''}{quantity(value_ms)} ms"
