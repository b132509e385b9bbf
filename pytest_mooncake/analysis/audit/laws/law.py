"""How a law is written down as a finding: both sides as printed, by how much it is broken, what causes that."""

from __future__ import annotations

from pytest_mooncake.analysis.audit.laws.printed import Printed
from pytest_mooncake.analysis.figures.percent import percent
from pytest_mooncake.records import AuditFinding

HELD, WARNING, BROKEN, NOT_APPLICABLE = "held", "warning", "broken", "not_applicable"

SLACK = 0.02
"""Share by which sides may differ because the two were not counted over quite the same window."""


def finding(law: str, status: str, left: float | None, right: float | None, detail: str) -> AuditFinding:
    """A finding, positionally."""
    return AuditFinding(law=law, status=status, left=left, right=right, detail=detail)


def missing(law: str, needs: str) -> AuditFinding:
    """A law whose inputs are absent."""
    return finding(law, NOT_APPLICABLE, None, None, needs)


def at_most(
    law: str,
    left: Printed,
    right: Printed,
    detail: str,
    *,
    cause: str,
    slack: float = 0.0,
    warn_above: float | None = None,
) -> AuditFinding:
    """Left ≤ right·(1 + slack), with a warning from `warn_above`·right on."""
    if left.low > right.high * (1 + slack):
        return finding(law, BROKEN, left.value, right.value, f"{detail}: {too_much(left, right)}; usual cause: {cause}")
    if warn_above is not None and left.value > warn_above * right.value:
        return finding(law, WARNING, left.value, right.value, f"{detail}: close to the bound")
    return finding(law, HELD, left.value, right.value, detail)


def too_much(left: Printed, right: Printed) -> str:
    """By how much left exceeds right."""
    return f"{percent(left.value / right.value - 1)} too much" if right.value else "nothing allowed"


def at_least(law: str, left: Printed, right: Printed, detail: str, *, cause: str) -> AuditFinding:
    """Left ≥ right, two per cent of slack."""
    if left.high < right.low * (1 - SLACK):
        short = percent(1 - left.value / right.value)
        return finding(law, BROKEN, left.value, right.value, f"{detail}: {short} too little; usual cause: {cause}")
    return finding(law, HELD, left.value, right.value, detail)


def close_to(
    law: str, left: Printed, right: Printed, detail: str, *, cause: str, slack: float, broken: float | None
) -> AuditFinding:
    """Left ≈ right within `slack`; beyond it a warning, beyond `broken` (if the law can be broken) broken."""
    apart = _apart(left, right)
    if apart <= slack:
        return finding(law, HELD, left.value, right.value, detail)
    status = BROKEN if broken is not None and apart > broken else WARNING
    exact = _apart(Printed.exactly(left.value), Printed.exactly(right.value))
    return finding(law, status, left.value, right.value, f"{detail}: {percent(exact, 1)} apart; usual cause: {cause}")


def _apart(left: Printed, right: Printed) -> float:
    """The least share by which the two differ, of the larger."""
    lower, upper = (left, right) if left.value <= right.value else (right, left)
    return max(0.0, upper.low - lower.high) / upper.low if upper.low else 0.0


def only_warned(found: AuditFinding, why: str) -> AuditFinding:
    """A law that cannot condemn these figures: broken becomes a warning that says why."""
    if found.status != BROKEN:
        return found
    return finding(found.law, WARNING, found.left, found.right, f"{found.detail}; {why}")
