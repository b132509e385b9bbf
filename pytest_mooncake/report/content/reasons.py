"""What the verdict means for whoever decides: recommendation, reasons and risks, all of them from the figures."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.records import (
    AuditFinding,
    Claim,
    Evidence,
    Fault,
    Gate,
    GateStatus,
    Kind,
    Phase,
    Status,
    Trial,
    Verdict,
)
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.content.tables import claim_label, claim_reason, target_text
from pytest_mooncake.report.text.labels import Catalogue
from pytest_mooncake.report.text.numbers import MISSING, interval, percent, quantity, ratio
from pytest_mooncake.report.text.phrases import translate

SIMULATED_MARK = "SIMULATED"
"""In the notes of a simulated stack, whoever wrote them."""
RULE_OF_THREE = 3.0
"""n trials without an event bound its rate at 3/n with 95 % confidence (Hanley & Lippman-Hand, JAMA 1983)."""


def advice_key(report: Report) -> str:
    """Which recommendation the report gives; a simulated run never recommends anything about a real stack."""
    return "SIMULATED" if report.simulated and report.passed else report.verdict.value


def notes(report: Report, words: Catalogue) -> tuple[str, ...]:
    """What every output must say first: that the stack was simulated, what was not made, what there is to its stack.

    That it was simulated is said once, in the reader's language.
    """
    first = not_made(report, words)
    if not report.simulated:
        return (*first, *(translate(note, words.lang) for note in report.notes))
    others = (translate(note, words.lang) for note in report.notes if SIMULATED_MARK not in note)
    return (words("business.simulated"), *first, *others)


def not_made(report: Report, words: Catalogue) -> tuple[str, ...]:
    """What was planned and is not there: gates that do not apply or were not made, parts beside the run."""
    gates = (gate_sentence(gate, words) for gate in report.judgement.gates if gate.status is not GateStatus.MADE)
    parts = (
        words(
            f"gate.{'not_to_its_end' if getattr(report, name) is not None else 'not_made'}",
            name=gate_name(name, words),
            why=translate(why, words.lang),
        )
        for name, why in report.beside_not_made.items()
    )
    return (*gates, *parts)


def with_release(report: Report, words: Catalogue) -> str:
    """The verdict on which a pipeline acts, where the release makes it worse than the run's own; else nothing."""
    if report.gate is report.verdict:
        return ""
    return words("gate.with_release", verdict=words(f"verdict.{report.gate.value}"))


def gate_name(gate: str, words: Catalogue) -> str:
    """What a gate, or a part beside the run, is called."""
    return words.find(f"gate.{gate}") or gate


def gate_sentence(gate: Gate, words: Catalogue) -> str:
    """What became of a gate."""
    return words(f"gate.{gate.status.value}", name=gate_name(gate.id, words), why=translate(gate.reason, words.lang))


def reasons(report: Report, words: Catalogue) -> tuple[str, ...]:
    """Why the verdict is what it is: as recorded in English, from the same findings in other languages."""
    if words.lang == "en":
        return report.judgement.reasons or (words(f"advice.because_{report.verdict.value}"),)
    found = tuple(_findings(report, words))
    return found or (words(f"advice.because_{report.verdict.value}"),)


def originals(report: Report, words: Catalogue) -> tuple[str, ...]:
    """The recorded English sentences, where `reasons` had to be told in other words."""
    return () if words.lang == "en" else report.judgement.reasons


def _findings(report: Report, words: Catalogue) -> Iterator[str]:
    """What led to the verdict, and nothing that a worse finding made moot."""
    judgement = report.judgement
    is_invalid = report.verdict is Verdict.INVALID
    invalid = [trial for trial in judgement.trials if not trial.valid] if is_invalid else []
    told_already = {number for trial in invalid for number in (trial.cold, trial.warm, trial.cold_after)} - {None}
    fault = Fault.PRODUCT if report.verdict is Verdict.FAIL else Fault.INSTRUMENT
    broken = [e for e in judgement.evidence if e.status is Status.BROKEN and e.fault is fault]
    yield from (evidence_sentence(e, words) for e in broken if e.round not in told_already)
    if is_invalid:
        yield from (_law_sentence(finding, words) for finding in judgement.audit if finding.status == "broken")
        yield from (_trial_sentence(trial, words) for trial in invalid)
    if not invalid:
        claims = [c for c in judgement.claims if c.gating and c.verdict is report.verdict]
        yield from (claim_sentence(report, claim, words) for claim in claims)
    yield from (
        words("reason.gate", name=gate_name(gate.id, words), why=translate(gate.reason, words.lang))
        for gate in judgement.gates
        if gate.status is GateStatus.NOT_MADE
    )
    if unfinished := judgement.details.get("unfinished"):
        yield words(f"reason.{unfinished}", why=judgement.details.get("failure") or "")
    if report.protocol is None:
        yield words("reason.no_spread")


def _trial_sentence(trial: Trial, words: Catalogue) -> str:
    return words("reason.trial", index=trial.index, why=translate("; ".join(trial.reasons), words.lang))


def _law_sentence(finding: AuditFinding, words: Catalogue) -> str:
    sides = {"left": quantity(finding.left), "right": quantity(finding.right)}
    return words("reason.audit", law=law_label(words, finding.law), **sides)


def claim_sentence(report: Report, claim: Claim, words: Catalogue) -> str:
    """One claim with its figures: as it was judged, else ratio, interval, target, verdict."""
    if claim.details.get("reason_zh"):
        return claim_reason(words, claim)
    return words(
        "reason.claim",
        name=claim_label(words, claim),
        ratio=ratio(claim.estimate_ratio),
        interval=interval(claim.ci_ratio),
        target=target_text(report, claim, words),
        verdict=words(f"verdict.{claim.verdict.value}"),
    )


def evidence_sentence(evidence: Evidence, words: Catalogue) -> str:
    """One check of evidence with both its sides."""
    return words(
        "reason.evidence",
        id=check_name(words, evidence.id),
        round=MISSING if evidence.round is None else evidence.round,
        rung=words(f"rung.{evidence.rung.value}"),
        expected=translate(evidence.expected, words.lang),
        observed=translate("; ".join(filter(None, (evidence.observed, evidence.detail))), words.lang),
    )


def check_name(words: Catalogue, check: str) -> str:
    """What a check is about, with the id that the records know it by."""
    known = words.find(f"check.{check}")
    return f"{known} ({check})" if known else check


def beside(report: Report, words: Catalogue) -> tuple[str, ...]:
    """What the figures tell beside their verdict: control, drift, tail, what was feasible, what would settle it."""
    details = report.judgement.details
    parts = [*details.get("remarks", ()), *(details.get(name) for name in ("feasibility", "outlook", "settlement"))]
    key = "text_zh" if words.lang == "zh" else "text"
    told = tuple(str(part[key]) for part in parts if part)
    further = (one for one in (report.versus, report.release) if one is not None)
    return (*told, *(getattr(one, key) for one in further))


def law_label(words: Catalogue, law: str) -> str:
    """The name of a law of the audit in the reader's language."""
    name, _, side = law.partition(".")
    known, where = words.find(f"law.{name}"), words.find(f"word.{side}_short")
    return f"{known} ({where})" if known and where else known or law


def risks(report: Report, words: Catalogue) -> tuple[str, ...]:
    """What could make the figures mislead although they are right."""
    return tuple(_risks(report, words))


def _risks(report: Report, words: Catalogue) -> Iterator[str]:
    yield from notes(report, words)
    yield words("risk.reuse")
    if report.economics is None or report.economics.basis == "cold":
        yield words("risk.cold_tax")
    if report.tier_unproven:
        yield words("risk.unproven")
    warm = sum(len(r.requests) for r in report.rounds if r.phase is Phase.CHAIN and r.kind is Kind.WARM)
    if warm and not report.warm.failed:
        yield words("risk.stalls", n=warm, rate=percent(min(1.0, RULE_OF_THREE / warm), 1))
    warnings = sum(finding.status == "warning" for finding in report.judgement.audit)
    if warnings:
        yield words("risk.audit", n=warnings)
    if report.economics and report.economics.example:
        yield words("risk.example")
