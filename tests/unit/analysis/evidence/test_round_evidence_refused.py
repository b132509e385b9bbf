"""An endpoint that does not take what is sent is told from a product that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.analysis.judge import judge, judge_round
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Fault, Round, Verdict
from tests.support.attached_cluster import ATTACHED, Cluster, broken, evidence_of


def refused(*errors: str | None, number: int = 0) -> Round:
    """A cold round that ended so."""
    cold, _ = Cluster(chunk=256).trial([2048] * len(errors))
    requests = (replace(one, error=error) for one, error in zip(cold.requests, errors, strict=True))
    return replace(cold, round=number, requests=tuple(requests))


ALL = ("HTTP 400: unknown field ignore_eos", "HTTP 422: extra fields not permitted")


def test_an_endpoint_that_refuses_every_request_of_the_first_round_is_not_at_fault() -> None:
    assert broken(evidence_of(refused(*ALL), None))["requests_served"] is Fault.INSTRUMENT


@pytest.mark.parametrize(
    "measured",
    [
        refused(*ALL, None),
        refused(*ALL, "HTTP 500: boom"),
        refused("HTTP 429: slow down", "HTTP 429: slow down"),
        refused("HTTP 503: busy", "no answer within 60 s"),
        refused(*ALL, number=3),
    ],
)
def test_requests_that_failed_otherwise_are_the_products(measured: Round) -> None:
    assert broken(evidence_of(measured, None))["requests_served"] is Fault.PRODUCT


def test_what_was_started_here_takes_what_it_is_sent() -> None:
    provisioned = replace(ATTACHED, provisioned=True)
    assert broken(evidence_of(refused(*ALL), None, provisioned))["requests_served"] is Fault.PRODUCT


def test_a_run_that_was_refused_is_no_fail(tmp_path: Path) -> None:
    plan, measured = resolve(Options(), tmp_path), refused(*ALL)
    assert judge_round(measured, [measured], ATTACHED, plan).refusal == ALL[-1]
    judgement = judge(plan, ATTACHED, [measured], ended="failed")
    assert judgement.verdict is Verdict.INVALID
    assert not judgement.details["product_fault"]


def test_a_request_that_failed_beside_is_one(tmp_path: Path) -> None:
    plan, measured = resolve(Options(), tmp_path), refused(*ALL, None)
    assert judge_round(measured, [measured], ATTACHED, plan).refusal is None
    assert judge(plan, ATTACHED, [measured], ended="failed").verdict is Verdict.FAIL
