"""Lints of a stack's configuration, before anything is sent: pure functions from facts to findings."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.stack.preflight import connector, keys, pool, services, settings, sharing
from pytest_mooncake.stack.preflight.configuration import (
    EngineConfig,
    HostFacts,
    Intent,
    LintFinding,
    Severity,
    Subject,
    WorkloadShape,
)
from pytest_mooncake.stack.preflight.rule import Ending, Rule, RuleOutcome, rules_of

__all__ = [
    "RULES",
    "Ending",
    "EngineConfig",
    "Examination",
    "HostFacts",
    "Intent",
    "LintFinding",
    "Rule",
    "RuleOutcome",
    "Severity",
    "Subject",
    "WorkloadShape",
    "examine",
    "lint",
]

RULES: dict[str, Rule] = {
    rule.id: rule
    for module in (connector, settings, keys, sharing, services, pool)
    for rule in sorted(rules_of(module.__name__), key=lambda rule: rule.id[1:])
}
"""Every rule by its id."""

_ORDER = {severity: place for place, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What all rules said of a stack."""

    outcomes: tuple[RuleOutcome, ...]

    @property
    def findings(self) -> tuple[LintFinding, ...]:
        """All findings: errors first, notes last, then by number."""
        found = [finding for outcome in self.outcomes for finding in outcome.findings]
        return tuple(sorted(found, key=lambda f: (_ORDER[f.severity], f.id[1:], f.what)))

    def count(self, ending: Ending) -> int:
        """How many rules ended like this."""
        return sum(outcome.ending is ending for outcome in self.outcomes)


def examine(subject: Subject) -> Examination:
    """Apply all rules. What is not known is not held against a stack; the outcomes say what it would take."""
    return Examination(outcomes=tuple(rule.apply(subject) for rule in RULES.values()))


def lint(subject: Subject) -> tuple[LintFinding, ...]:
    """Return the findings of all rules; errors first, notes last, then by number."""
    return examine(subject).findings
