"""Before anything is measured: does the stack serve the model, and can its caches be watched?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_mooncake.api import Plan, Rung, Severity, StackView, lint_stack, misfit


def test_the_stack_serves_a_model(mooncake_stack: StackView) -> None:
    """At least one engine answers, and we know what to ask it for."""
    assert mooncake_stack.engines
    assert mooncake_stack.model


def test_the_model_takes_the_workloads_prompts(
    mooncake_is_replay: bool, mooncake_stack: StackView, mooncake_plan: Plan
) -> None:
    """The longest prompt that will be sent and its answer fit the model's context window."""
    if mooncake_stack.max_model_len is None:
        pytest.skip("the endpoint does not tell the model's context length")
    if mooncake_is_replay:
        pytest.skip("a replay sends nothing: what was sent is on record")
    wrong = misfit(mooncake_plan, mooncake_stack)
    if wrong:
        pytest.fail(wrong, pytrace=False)


def test_the_counters_can_be_read(mooncake_stack: StackView, mooncake_plan: Plan) -> None:
    """The least rung of evidence that this run asks for can be reached."""
    if mooncake_plan.evidence is Rung.STORE and mooncake_stack.store is None:
        pytest.fail(
            "no store counters: give --mooncake-master http://HOST:9003, or accept less with --mooncake-evidence usage",
            pytrace=False,
        )
    if mooncake_plan.evidence is Rung.ENGINE and not any(engine.metrics_url for engine in mooncake_stack.engines):
        pytest.fail(
            "no engine counters: give --mooncake-metrics URL, or accept less with --mooncake-evidence usage",
            pytrace=False,
        )


def test_the_configuration_has_no_errors(
    mooncake_is_replay: bool,
    mooncake_stack: StackView,
    mooncake_plan: Plan,
    mooncake_fact: Callable[[str, object], None],
) -> None:
    """Nothing that is known to make a measurement wrong: ignored keys, wrong tiers, pairs of versions that cannot work.

    Warnings are printed (`-rP`) and kept as properties of the test; `pytest-mooncake doctor` says the same of files.
    """
    if mooncake_is_replay:
        pytest.skip("a replay sends nothing: the configuration was looked at when the run was measured")
    found = lint_stack(mooncake_plan, mooncake_stack)
    for finding in found:
        mooncake_fact(finding.id, finding.what)
        print(f"{finding.id} {finding.severity}: {finding.what}; {finding.why}; fix: {finding.fix}")
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    if errors:
        pytest.fail("\n".join(f"{e.id}: {e.what}; {e.why}; fix: {e.fix}" for e in errors), pytrace=False)
