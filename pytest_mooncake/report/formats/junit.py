"""A recorded run as JUnit XML, for pipelines that read nothing else: a test case a claim, a check and a law.

The same facts are properties and, because some viewers hide properties, text of the failure. While pytest runs, its
own `--junitxml` holds them (docs/guide/reports.md); this is for a run that is reported again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from pytest_mooncake.records import GateStatus, Phase, Status, Verdict
from pytest_mooncake.report.content import evidence_groups, reasons
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.tables import claim_label, claim_reason
from pytest_mooncake.report.formats import ci, no_verdict
from pytest_mooncake.report.text.escape import one_line
from pytest_mooncake.report.text.labels import Catalogue, Lang, catalogue

SUITE = "pytest-mooncake"
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case. `outcome` is `failure`, `error`, `skipped` or `None` where it passed."""

    group: str
    name: str
    outcome: str | None = None
    message: str = ""
    properties: tuple[tuple[str, str], ...] = ()


def render(report: Report, lang: Lang = "en") -> str:
    """JUnit XML of a run. The same report gives the same bytes.

    Args:
        report: the judged run.
        lang: language of the messages; names and properties are the same in every language.
    """
    if report.crash is not None:
        return no_verdict.junit(report.crash)
    words = catalogue(lang)
    cases = (*_gates(report, words), *_claims(report, words), *_checks(report, words), *_laws(report, words))
    suite = ElementTree.Element("testsuite", _counts(cases) | _when(report))
    _add_properties(suite, ci.run_properties(report))
    suite.extend(map(_element, cases))
    suites = ElementTree.Element("testsuites", {"name": SUITE})
    suites.append(suite)
    ElementTree.indent(suites)
    return f"{DECLARATION}\n{ElementTree.tostring(suites, encoding='unicode')}\n"


def _gates(report: Report, words: Catalogue) -> Iterator[Case]:
    outcomes = {GateStatus.NOT_MADE: "error", GateStatus.NOT_APPLICABLE: "skipped"}
    for gate in report.judgement.gates:
        outcome = outcomes.get(gate.status)
        properties = (("mooncake.status", gate.status.value),)
        message = reasons.gate_sentence(gate, words) if outcome else ""
        yield Case(group="gates", name=gate.id, outcome=outcome, message=message, properties=properties)


def _claims(report: Report, words: Catalogue) -> Iterator[Case]:
    outcomes = {Verdict.PASS: None, Verdict.INVALID: "error"}
    for claim in report.judgement.claims:
        outcome = outcomes.get(claim.verdict, "failure") if claim.gating else None
        told = f"{claim_label(words, claim)}: {words(f'verdict.{claim.verdict.value}')}: {claim_reason(words, claim)}"
        yield Case(
            group="claims",
            name=claim.id,
            outcome=outcome,
            message=f"{told}\n{ci.facts_line(claim)}" if outcome else "",
            properties=ci.claim_properties(claim),
        )


def _checks(report: Report, words: Catalogue) -> Iterator[Case]:
    outcomes = {Status.BROKEN: "failure", Status.UNAVAILABLE: "skipped"}
    for group in evidence_groups.groups(report.judgement.evidence):
        outcome = outcomes.get(group.status)
        facts = {"rung": group.shown.rung.value, "status": group.status.value}
        told = reasons.evidence_sentence(group.shown, words)
        yield Case(
            group="evidence",
            name=group.id,
            outcome=outcome,
            message=f"{told}; {group.shown.detail}".rstrip("; ") if outcome else "",
            properties=tuple((f"mooncake.{name}", value) for name, value in facts.items()),
        )


def _laws(report: Report, words: Catalogue) -> Iterator[Case]:
    outcomes = {"broken": "error", "not_applicable": "skipped"}
    for finding in report.judgement.audit:
        outcome = outcomes.get(finding.status)
        told = f"{reasons.law_label(words, finding.law)}: {finding.detail}"
        properties = (("mooncake.status", finding.status),)
        message = told if outcome else ""
        yield Case(group="audit", name=finding.law, outcome=outcome, message=message, properties=properties)


def _counts(cases: tuple[Case, ...]) -> dict[str, str]:
    names = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counted = {key: str(sum(case.outcome == outcome for case in cases)) for key, outcome in names.items()}
    return {"name": SUITE, "tests": str(len(cases)), **counted}


def _when(report: Report) -> dict[str, str]:
    """When the run began and how long its rounds took, where the record tells."""
    found = {"timestamp": one_line(report.setting.started_at)} if report.setting.started_at else {}
    rounds = [r for r in report.rounds if r.phase is not Phase.WARM_UP]
    seconds = (max(r.ended_ns for r in rounds) - min(r.started_ns for r in rounds)) / 1e9 if rounds else 0.0
    return {**found, "time": f"{seconds:.3f}"}


def _element(case: Case) -> ElementTree.Element:
    attributes = {"classname": f"mooncake.{case.group}", "name": one_line(case.name), "time": "0"}
    made = ElementTree.Element("testcase", attributes)
    _add_properties(made, case.properties)
    if case.outcome:
        lines = [one_line(line) for line in case.message.splitlines()]
        ending = ElementTree.SubElement(made, case.outcome, {"message": lines[0] if lines else ""})
        ending.text = "\n".join(lines)
    return made


def _add_properties(parent: ElementTree.Element, properties: tuple[tuple[str, str], ...]) -> None:
    held = ElementTree.SubElement(parent, "properties")
    for name, value in properties:
        ElementTree.SubElement(held, "property", {"name": name, "value": one_line(value)})
