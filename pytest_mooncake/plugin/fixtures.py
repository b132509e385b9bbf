"""The pytest fixtures: the stack, the run and its two kinds of rounds. Synchronous, one per session.

The measurement runs in a thread of its own with an event loop of its own, so synchronous and asynchronous tests may
use these fixtures alike, with or without pytest-asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pytest_mooncake.analysis.regression.release import ReleaseFinding
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.plugin.session import MooncakeSession
    from pytest_mooncake.records import Claim, StackView
    from pytest_mooncake.run.runner import Outcome, RoundsOf

__all__ = [
    "claim",
    "cold_round",
    "fail_unless_quick",
    "mooncake_fact",
    "mooncake_plan",
    "release",
    "run",
    "stack",
    "warm_round",
]


@pytest.fixture(scope="session")
def mooncake_plan(mooncake_session: MooncakeSession) -> Plan:
    """The plan of this session: stack, workload, targets, limits."""
    return mooncake_session.plan


@pytest.fixture(scope="session")
def stack(mooncake_session: MooncakeSession) -> Iterator[StackView]:
    """The stack under test, started here or attached to; stopped at the end of the session if started here."""
    with mooncake_session.opened_stack() as view:
        yield view


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, mooncake_session: MooncakeSession, stack: StackView) -> Outcome:
    """The whole run: cold and warm rounds until a verdict. Measured once, at first use."""
    outcome = mooncake_session.measured(stack)
    if request.config.pluginmanager.hasplugin("junitxml"):
        from pytest_mooncake.report.formats.ci import run_properties

        record = request.getfixturevalue("record_testsuite_property")
        for name, value in run_properties(outcome.report):
            record(name, value)
    return outcome


@pytest.fixture(scope="session")
def cold_round(run: Outcome) -> RoundsOf:
    """All valid cold rounds of the chain: `.summary`, `.rounds`, `.requests`."""
    return run.cold


@pytest.fixture(scope="session")
def warm_round(run: Outcome) -> RoundsOf:
    """All valid warm rounds of the chain: `.summary`, `.rounds`, `.requests`."""
    return run.warm


@pytest.fixture(scope="session")
def release(run: Outcome) -> ReleaseFinding | None:
    """The run against its history; `None` where no history was asked for or it could not be read."""
    return run.report.release


@pytest.fixture
def mooncake_fact(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Add a JUnit property to the test; pytest's own `record_property` warns of every one under its default family."""

    def add(name: str, value: object) -> None:
        request.node.user_properties.append((f"mooncake.{name}", str(value)))

    return add


@pytest.fixture
def fail_unless_quick(mooncake_plan: Plan) -> Callable[[str], NoReturn]:
    """Fail the test with a text; in a quick run, which describes and judges nothing, skip it with the same text."""

    def end(text: str) -> NoReturn:
        if mooncake_plan.quick:
            pytest.skip(text)
        pytest.fail(text, pytrace=False)

    return end


@pytest.fixture
def claim(request: pytest.FixtureRequest, run: Outcome) -> Claim:
    """One claim of the run's targets; a test that asks for it runs once per claim, and its JUnit record names it."""
    from pytest_mooncake.report.formats.ci import claim_properties

    found = next(c for c in run.judgement.claims if c.id == request.param)
    request.node.user_properties.extend(claim_properties(found))
    return found
