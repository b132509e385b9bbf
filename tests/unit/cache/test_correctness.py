"""What came back from the cache is judged by near ties, cached tokens by formula, tenants by what they find."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.cache import probes
from pytest_mooncake.cache.correctness import TIE_NATS, compare, probe_evidence
from pytest_mooncake.records import Engine, Evidence, Fault, KVGeometry, ProbeAnswer, ProbeRole, StackView, Status

VIEW = StackView(
    name="s",
    provisioned=True,
    engines=(Engine(url="http://127.0.0.1:1"), Engine(url="http://127.0.0.1:2")),
    model="m",
    kv=KVGeometry(bytes_per_token=512, chunk_tokens=256),
)
IDS = range(300, 8000)


def answer(
    *chosen: str, role: ProbeRole = ProbeRole.WARM, case: str = "document", lead: float = 0.05, cached: int | None = 0
) -> ProbeAnswer:
    """An answer that held its tokens for likelier than `other` by `lead` nats each."""
    return ProbeAnswer(
        case=case,
        role=role,
        engine=0,
        prompt_tokens=1041,
        cached_expected=cached,
        cached_tokens=cached,
        tokens=chosen,
        logprobs=tuple(-0.7 for _ in chosen),
        top=tuple({token: -0.7, **{t: -0.7 - lead for t in "abxy" if t != token}} for token in chosen),
    )


COLD = answer("a", "b", role=ProbeRole.COLD)


def gate(**changes: ProbeAnswer | None) -> tuple[ProbeAnswer, ...]:
    """A healthy gate over one document, with answers exchanged."""
    answers: dict[str, ProbeAnswer | None] = {
        "cold": COLD,
        "warm": answer("a", "b", cached=1024),
        "other": answer("a", "b", role=ProbeRole.OTHER_TENANT),
        "salted": replace(answer("a", "b", role=ProbeRole.SALTED, cached=1024), cached_expected=None),
    }
    return tuple(a for a in (answers | changes).values() if a is not None)


def found(answers: tuple[ProbeAnswer, ...], check: str) -> Evidence:
    return next(e for e in probe_evidence(answers) if e.id == check)


def test_a_healthy_gate_holds_every_check_and_names_no_round() -> None:
    evidence = probe_evidence(gate())
    assert [e.id for e in evidence] == [
        "probes_answered",
        "correct_text",
        "cached_at_chunk_edges",
        "tenants_share_nothing",
        "cache_salt",
    ]
    assert {e.status for e in evidence} == {Status.HELD}
    assert {(e.fault, e.round) for e in evidence} == {(Fault.PRODUCT, None)}


def test_where_no_gate_ran_there_is_no_evidence() -> None:
    assert probe_evidence(()) == ()


def test_another_token_at_a_near_tie_is_no_fault() -> None:
    warm = answer("a", "x", cached=1024, lead=0.1)
    assert compare(COLD, warm).gap_nats == pytest.approx(0.1)
    assert found(gate(warm=warm), "correct_text").status is Status.HELD


def test_another_token_where_one_was_clearly_likelier_is_wrong_text() -> None:
    broken = found(gate(warm=answer("x", "y", cached=1024, lead=0.6)), "correct_text")
    assert broken.status is Status.BROKEN
    assert "0 of 1 texts equal, largest distance 0.6 nat (document)" in broken.observed
    assert "MOONCAKE_STORE_CHECKSUM" in broken.detail


def test_equal_text_with_other_log_probabilities_is_wrong_too() -> None:
    warm = replace(answer("a", "b", cached=1024), logprobs=(-0.7, -1.0))
    assert compare(COLD, warm).shift_nats == pytest.approx(0.3)
    assert found(gate(warm=warm), "correct_text").status is Status.BROKEN


def test_a_token_that_the_other_answer_does_not_list_is_at_least_as_far_away_as_the_last_that_it_does() -> None:
    assert compare(COLD, answer("q", "b", lead=0.0)).gap_nats == pytest.approx(0.05)


@given(
    shifts=st.lists(st.floats(min_value=-TIE_NATS, max_value=TIE_NATS), min_size=1, max_size=16),
    base=st.floats(min_value=-5, max_value=0),
)
def test_noise_within_the_tolerance_never_condemns_and_is_symmetric(shifts: list[float], base: float) -> None:
    tokens = tuple("a" for _ in shifts)
    cold = replace(COLD, tokens=tokens, logprobs=tuple(base for _ in shifts))
    warm = replace(answer(*tokens, cached=1024), logprobs=tuple(base + shift for shift in shifts))
    one, other = compare(cold, warm), compare(warm, cold)
    assert one.distance_nats == other.distance_nats <= TIE_NATS + 1e-9
    assert one.agreed == len(shifts)


@given(st.floats(min_value=TIE_NATS + 0.01, max_value=50), st.integers(min_value=0, max_value=9))
def test_one_shifted_step_is_always_seen(shift: float, step: int) -> None:
    tokens = ("a",) * 10
    cold = replace(COLD, tokens=tokens, logprobs=(-1.0,) * 10)
    moved = tuple(-1.0 - (shift if i == step else 0) for i in range(10))
    assert compare(cold, replace(cold, logprobs=moved)).distance_nats > TIE_NATS


def test_a_warm_answer_without_a_hit_proves_nothing_about_text() -> None:
    check = found(gate(warm=replace(answer("x", "y", lead=3, cached=0), cached_expected=1024)), "correct_text")
    assert check.status is Status.UNAVAILABLE
    assert "nothing of the short prompts was cached" in check.detail


def test_a_cold_answer_that_hit_is_no_reference() -> None:
    assert found(gate(cold=replace(COLD, cached_tokens=512)), "correct_text").status is Status.UNAVAILABLE


def test_an_engine_without_log_probabilities_cannot_be_judged() -> None:
    bare = tuple(replace(a, tokens=(), logprobs=(), top=()) for a in gate())
    assert found(bare, "correct_text").detail == "the engine returns no log-probabilities"


def test_too_few_cached_tokens_at_the_edge_of_a_chunk_are_named_by_case() -> None:
    edge = replace(answer("a", case="one-chunk", cached=0), prompt_tokens=256, cached_expected=255)
    broken = found((*gate(), edge), "cached_at_chunk_edges")
    assert broken.status is Status.BROKEN
    assert (broken.expected, broken.observed) == ("1041: 1024, 256: 255", "1041: 1024, 256: 0")
    assert broken.detail.startswith("one-chunk:")


def test_edges_cannot_be_judged_without_geometry_or_without_cached_tokens() -> None:
    unknown = tuple(replace(a, cached_expected=None) for a in gate())
    assert found(unknown, "cached_at_chunk_edges").status is Status.UNAVAILABLE
    silent = tuple(replace(a, cached_tokens=None) for a in gate())
    assert "no cached_tokens" in found(silent, "cached_at_chunk_edges").detail


def test_a_tenant_that_is_served_anothers_cache_is_a_fault() -> None:
    leak = replace(answer("a", "b", role=ProbeRole.OTHER_TENANT), cached_tokens=1024)
    assert found(gate(other=leak), "tenants_share_nothing").status is Status.BROKEN
    assert found(gate(other=None), "tenants_share_nothing").status is Status.UNAVAILABLE


def test_tenants_cannot_be_judged_where_not_even_ones_own_document_was_found() -> None:
    cold_again = replace(answer("a", "b", cached=0), cached_expected=1024)
    assert found(gate(warm=cold_again), "tenants_share_nothing").status is Status.UNAVAILABLE


@pytest.mark.parametrize("cached", [0, 1024])
def test_what_a_salt_isolates_is_a_finding_and_never_a_fault(cached: int) -> None:
    salted = replace(answer("a", "b", role=ProbeRole.SALTED), cached_tokens=cached, cached_expected=None)
    finding = found(gate(salted=salted), "cache_salt")
    assert finding.status is Status.HELD
    assert finding.expected == "reported, not judged"
    assert ("finds nothing" in finding.observed) == (cached == 0)


def test_a_request_that_fails_only_when_it_was_cached_is_a_fault_of_the_product() -> None:
    nan = replace(answer(cached=None), error="HTTP 400: Out of range float values are not JSON compliant")
    broken = found(gate(warm=nan), "probes_answered")
    assert broken.status is Status.BROKEN
    assert "document (warm): HTTP 400" in broken.detail


def test_an_endpoint_that_refuses_every_probe_cannot_be_judged_and_is_not_at_fault() -> None:
    refused = tuple(replace(a, error="HTTP 400: logprobs are not supported", tokens=()) for a in gate())
    assert {e.status for e in probe_evidence(refused)} == {Status.UNAVAILABLE}
    gone = tuple(replace(a, error="ClientConnectorError: refused", tokens=()) for a in gate())
    assert found(gone, "probes_answered").status is Status.BROKEN


def test_cold_probes_have_the_lengths_at_which_chunks_begin_and_end() -> None:
    lengths = {p.case: len(p.prompt) for p in probes.colds("run", IDS, VIEW, tagged=True)}
    assert lengths == {
        "short-of-a-chunk": 255,
        "one-chunk": 256,
        "a-token-more": 257,
        "document": 1041,
        "shared-beginning": 1024,
    }


def test_warm_probes_expect_what_the_formulae_say() -> None:
    warm = probes.warms("run", IDS, VIEW, tagged=True)
    expected = {p.case: p.cached_expected for p in warm if p.role is ProbeRole.WARM}
    assert expected == {
        "short-of-a-chunk": 0,
        "one-chunk": 255,
        "a-token-more": 256,
        "document": 1024,
        "shared-beginning": 512,
    }
    assert {p.role for p in warm} == set(ProbeRole) - {ProbeRole.COLD}


def test_vllms_own_connector_leaves_the_last_chunk_to_compute() -> None:
    own = replace(VIEW, details={"connector": "mooncakestore"}, kv=KVGeometry(bytes_per_token=512, chunk_tokens=128))
    warm = probes.warms("run", IDS, own, tagged=False)
    expected = {p.case: p.cached_expected for p in warm if p.role is ProbeRole.WARM}
    assert (expected["one-chunk"], expected["a-token-more"], expected["document"]) == (0, 128, 512)


def test_the_second_document_shares_its_beginning_and_is_computed_by_another_tenant() -> None:
    cold = {p.case: p for p in probes.colds("run", IDS, VIEW, tagged=True)}
    shared, document = cold["shared-beginning"], cold["document"]
    assert shared.prompt[:512] == document.prompt[:512]
    assert shared.prompt[512:520] != document.prompt[512:520]
    assert (shared.tenant, document.tenant) == ("b", "a")
    assert "shared-beginning" not in {p.case for p in probes.colds("run", IDS, VIEW, tagged=False)}


def test_two_runs_share_no_prompt() -> None:
    first = {p.prompt[:16] for p in probes.colds("run-1", IDS, VIEW, tagged=True)}
    second = {p.prompt[:16] for p in probes.colds("run-2", IDS, VIEW, tagged=True)}
    assert first.isdisjoint(second)
    assert probes.colds("run-1", IDS, VIEW, tagged=True) == probes.colds("run-1", IDS, VIEW, tagged=True)


def test_the_keys_that_cold_probes_leave_are_known_where_the_geometry_is() -> None:
    cold = probes.colds("run", IDS, VIEW, tagged=True)
    assert probes.keys_of(cold, VIEW) == 0 + 1 + 1 + 4 + 4
    assert probes.keys_of(cold, replace(VIEW, kv=None)) is None


def test_an_impossible_token_is_very_unlikely_and_not_a_crash() -> None:
    warm = replace(answer("a", "b", cached=1024), logprobs=(-9999.0, -0.7))
    assert math.isfinite(compare(COLD, warm).distance_nats)
