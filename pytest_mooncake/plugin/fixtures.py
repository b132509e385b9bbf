"""The pytest fixtures: the stack, the run and its two kinds of rounds. Synchronous, one per session.

Each is called `mooncake_…`. Short names (`run`, `stack`, …) are aliases that a project may shadow by fixtures of its
own: nothing here rests on them.

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
    "mooncake_claim",
    "mooncake_cold_round",
    "mooncake_fact",
    "mooncake_fail_unless_quick",
    "mooncake_is_replay",
    "mooncake_plan",
    "mooncake_release",
    "mooncake_run",
    "mooncake_stack",
    "mooncake_warm_round",
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
def mooncake_is_replay(mooncake_session: MooncakeSession) -> bool:
    """Whether a recorded run is judged again, which sends nothing to anybody."""
    return mooncake_session.is_replay


@pytest.fixture(scope="session")
def mooncake_stack(mooncake_session: MooncakeSession) -> Iterator[StackView]:
    """The stack under test, started here or attached to; stopped at the end of the session if started here."""
    with mooncake_session.opened_stack() as view:
        yield view


@pytest.fixture(scope="session")
def mooncake_run(
    request: pytest.FixtureRequest, mooncake_session: MooncakeSession, mooncake_stack: StackView
) -> Outcome:
    """The whole run: cold and warm rounds until a verdict. Measured once, at first use."""
    outcome = mooncake_session.measured(mooncake_stack)
    if request.config.pluginmanager.hasplugin("junitxml"):
        from pytest_mooncake.report.formats.ci import run_properties

        record = request.getfixturevalue("record_testsuite_property")
        for name, value in run_properties(outcome.report):
            record(name, value)
    return outcome


@pytest.fixture(scope="session")
def mooncake_cold_round(mooncake_run: Outcome) -> RoundsOf:
    """All valid cold rounds of the chain: `.summary`, `.rounds`, `.requests`."""
    return mooncake_run.cold


@pytest.fixture(scope="session")
def mooncake_warm_round(mooncake_run: Outcome) -> RoundsOf:
    """All valid warm rounds of the chain: `.summary`, `.rounds`, `.requests`."""
    return mooncake_run.warm


@pytest.fixture(scope="session")
def mooncake_release(mooncake_run: Outcome) -> ReleaseFinding | None:
    """The run against its history; `None` where no history was asked for or it could not be read."""
    return mooncake_run.report.release


@pytest.fixture
def mooncake_claim(request: pytest.FixtureRequest, mooncake_run: Outcome) -> Claim:
    """One claim of the run's targets; a test that asks for it runs once per claim, and its JUnit record names it."""
    from pytest_mooncake.report.formats.ci import claim_properties

    found = next(c for c in mooncake_run.judgement.claims if c.id == request.param)
    request.node.user_properties.extend(claim_properties(found))
    return found


@pytest.fixture
def mooncake_fact(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Add a JUnit property to the test; pytest's own `record_property` warns of every one under its default family."""

    def add(name: str, value: object) -> None:
        request.node.user_properties.append((f"mooncake.{name}", str(value)))

    return add


@pytest.fixture
def mooncake_fail_unless_quick(mooncake_plan: Plan) -> Callable[[str], NoReturn]:
    """Fail the test with a text; in a quick run, which describes and judges nothing, skip it with the same text."""

    def end(text: str) -> NoReturn:
        if mooncake_plan.quick:
            pytest.skip(text)
        pytest.fail(text, pytrace=False)

    return end


@pytest.fixture(scope="session")
def stack(mooncake_stack: StackView) -> StackView:
    """Short for `mooncake_stack`."""
    return mooncake_stack


@pytest.fixture(scope="session")
def run(mooncake_run: Outcome) -> Outcome:
    """Short for `mooncake_run`."""
    return mooncake_run


@pytest.fixture(scope="session")
def cold_round(mooncake_cold_round: RoundsOf) -> RoundsOf:
    """Short for `mooncake_cold_round`."""
    return mooncake_cold_round


@pytest.fixture(scope="session")
def warm_round(mooncake_warm_round: RoundsOf) -> RoundsOf:
    """Short for `mooncake_warm_round`."""
    return mooncake_warm_round


@pytest.fixture(scope="session")
def release(mooncake_release: ReleaseFinding | None) -> ReleaseFinding | None:
    """Short for `mooncake_release`."""
    return mooncake_release


@pytest.fixture
def claim(mooncake_claim: Claim) -> Claim:
    """Short for `mooncake_claim`."""
    return mooncake_claim


@pytest.fixture
def fail_unless_quick(mooncake_fail_unless_quick: Callable[[str], NoReturn]) -> Callable[[str], NoReturn]:
    """Short for `mooncake_fail_unless_quick`."""
    return mooncake_fail_unless_quick
