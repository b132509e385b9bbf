"""Lints of a stack's configuration, before anything is sent: pure functions from configuration to findings."""

from __future__ import annotations

from pytest_mooncake.cache.preflight import connector, pool, settings, sharing
from pytest_mooncake.cache.preflight.subject import (
    EngineConfig,
    Finding,
    HostFacts,
    Intent,
    Severity,
    Subject,
    WorkloadShape,
    parse_vllm_args,
)

__all__ = [
    "RULES",
    "EngineConfig",
    "Finding",
    "HostFacts",
    "Intent",
    "Severity",
    "Subject",
    "WorkloadShape",
    "lint",
    "parse_vllm_args",
]

RULES = {rule.__name__.upper(): rule for rule in (*connector.RULES, *settings.RULES, *sharing.RULES, *pool.RULES)}
"""Every rule by its id; the docstring of a rule is its title."""


def lint(subject: Subject) -> tuple[Finding, ...]:
    """Apply all rules; errors first, then by number. What is not known is not held against a stack."""
    findings = [finding for rule in RULES.values() for finding in rule(subject)]
    return tuple(sorted(findings, key=lambda f: (f.severity is not Severity.ERROR, f.id[1:], f.what)))
