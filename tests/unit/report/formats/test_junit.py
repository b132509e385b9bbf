"""A recorded run as JUnit XML: what failed, what was skipped, with the same facts twice."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pytest_mooncake.records import AuditFinding, Status, Verdict
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats.junit import render
from pytest_mooncake.report.text.labels import LANGUAGES, Lang
from tests.support import runs


def suite_of(report: Report, lang: Lang = "en") -> ElementTree.Element:
    suite = ElementTree.fromstring(render(report, lang).encode()).find("testsuite")
    assert suite is not None
    return suite


def case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    (found,) = [c for c in suite.iter("testcase") if c.get("name") == name]
    return found


def properties(element: ElementTree.Element) -> dict[str, str]:
    return {str(p.get("name")): str(p.get("value")) for p in element.findall("properties/property")}


def test_every_claim_check_and_law_is_a_test_case() -> None:
    suite = suite_of(runs.report())
    names = {(c.get("classname"), c.get("name")) for c in suite.iter("testcase")}

    assert ("mooncake.claims", "ttft_mean") in names
    assert ("mooncake.evidence", "warm_hits_external") in names
    assert ("mooncake.audit", "little") in names
    assert suite.get("tests") == str(len(names))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_a_claims_case_has_its_metric_ratio_interval_and_verdict() -> None:
    held = properties(case(suite_of(runs.report()), "request_throughput"))

    assert held["mooncake.metric"] == "request_throughput"
    assert held["mooncake.verdict"] == "PASS"
    assert held["mooncake.ratio"] == "2.96"
    assert float(held["mooncake.interval_low"]) < 2.96 < float(held["mooncake.interval_high"])


@pytest.mark.parametrize(
    ("verdict", "outcome"), [(Verdict.FAIL, "failure"), (Verdict.INCONCLUSIVE, "failure"), (Verdict.INVALID, "error")]
)
def test_a_claim_that_did_not_pass_repeats_its_facts_in_the_text(verdict: Verdict, outcome: str) -> None:
    suite = suite_of(runs.report(verdict))
    ending = case(suite, "ttft_mean").find(outcome)

    assert ending is not None
    assert f"metric=ttft_mean, verdict={verdict}, ratio=0.333333" in str(ending.text)
    assert int(str(suite.get("failures"))) + int(str(suite.get("errors"))) == 1


def test_a_claim_that_gates_nothing_fails_nothing() -> None:
    judged = runs.judgement(claims=(replace(runs.claim("e2e_mean", 2.0, 1.0, Verdict.FAIL), gating=False),))
    suite = suite_of(replace(runs.report(), judgement=judged))

    assert suite.get("failures") == "0"
    assert properties(case(suite, "e2e_mean"))["mooncake.verdict"] == "FAIL"


def test_broken_evidence_fails_and_what_could_not_be_checked_is_skipped() -> None:
    held = runs.judgement().evidence[0]
    broken = replace(held, id="cold_misses", status=Status.BROKEN, observed="12 tokens", detail="why")
    blind = replace(held, id="tier", status=Status.UNAVAILABLE)
    suite = suite_of(replace(runs.report(), judgement=runs.judgement(evidence=(held, broken, blind))))

    failure = case(suite, "cold_misses").find("failure")
    assert failure is not None
    assert "observed 12 tokens; why" in str(failure.text)
    assert case(suite, "tier").find("skipped") is not None
    assert list(case(suite, "warm_hits_external").iter("failure")) == []


def test_a_broken_law_is_an_error_of_the_instrument() -> None:
    audit = (
        AuditFinding(law="tokens", status="broken", left=1, right=2, detail="do not add up"),
        AuditFinding(law="bytes", status="not_applicable", left=None, right=None, detail="no network given"),
    )
    suite = suite_of(replace(runs.report(), judgement=runs.judgement(audit=audit)))

    assert case(suite, "tokens").find("error") is not None
    assert case(suite, "bytes").find("skipped") is not None


def test_the_run_is_named_with_its_start_and_length() -> None:
    suite = suite_of(runs.report())

    assert properties(suite)["mooncake.verdict"] == "PASS"
    assert suite.get("timestamp") == "2026-11-24T20:00:00+00:00"
    assert float(str(suite.get("time"))) > 0


@pytest.mark.parametrize("lang", LANGUAGES)
def test_hostile_text_is_text_and_the_bytes_are_the_same_every_time(lang: Lang) -> None:
    first = render(runs.hostile_report(), lang)

    assert first == render(runs.hostile_report(), lang)
    assert first.startswith('<?xml version="1.0" encoding="utf-8"?>\n')
    assert "\x1b" not in first
    assert suite_of(runs.hostile_report(), lang).get("name") == "pytest-mooncake"
