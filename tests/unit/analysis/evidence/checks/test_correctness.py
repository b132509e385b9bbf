"""What came back from the cache is judged by near ties, cached tokens by formula, tenants by what they find."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.evidence.checks.correct_text import SHARED, Tier, tier_of
from pytest_mooncake.analysis.evidence.checks.correctness import TIE_NATS, compare, gate_of, probe_evidence
from pytest_mooncake.cache.probes import gate as gate_module
from pytest_mooncake.cache.probes.prompts import longer
from pytest_mooncake.cache.probes.replies import read_reply
from pytest_mooncake.records import (
    Engine,
    Evidence,
    Fault,
    GateStatus,
    KVGeometry,
    ProbeAnswer,
    ProbeRole,
    Rung,
    StackView,
    Status,
)

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
    """An answer that held its tokens for likelier than each of `abxy` by `lead` nats."""
    return ProbeAnswer(
        case=case,
        role=role,
        engine=0,
        prompt_tokens=1279,
        cached_expected=cached,
        cached_tokens=cached,
        tokens=chosen,
        logprobs=tuple(-0.7 for _ in chosen),
        top=tuple({token: -0.7, **{t: -0.7 - lead for t in "abxy" if t != token}} for token in chosen),
    )


def counted(given: ProbeAnswer, *, local: int | None, external: int | None, keys: int | None = None) -> ProbeAnswer:
    """An answer of which counters tell who served it."""
    cached = (local or 0) + (external or 0)
    return replace(given, local_tokens=local, external_tokens=external, store_keys=keys, cached_tokens=cached)


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
    assert {e.id: e.fault for e in evidence if e.fault is not Fault.PRODUCT} == {"cache_salt": Fault.INSTRUMENT}
    assert {e.round for e in evidence} == {None}


def test_where_no_gate_ran_there_is_no_evidence() -> None:
    assert probe_evidence(()) == ()


def test_another_token_at_a_near_tie_is_no_fault() -> None:
    cold, warm = answer("a", "b", role=ProbeRole.COLD, lead=0.1), answer("a", "x", cached=1024, lead=0.1)
    assert compare(cold, warm).gap_nats == pytest.approx(0.1)
    assert found(gate(cold=cold, warm=warm), "correct_text").status is Status.HELD


def test_another_token_where_one_was_clearly_likelier_is_wrong_text() -> None:
    broken = found(gate(warm=answer("x", "y", cached=1024, lead=0.6)), "correct_text")
    assert broken.status is Status.BROKEN
    assert "0 of 1 texts equal, largest distance 0.6 nat (document)" in broken.observed
    assert "MOONCAKE_STORE_CHECKSUM" in broken.detail


def test_equal_text_with_other_log_probabilities_is_wrong_too() -> None:
    warm = replace(answer("a", "b", cached=1024), logprobs=(-0.7, -1.0))
    assert compare(COLD, warm).shift_nats == pytest.approx(0.3)
    assert found(gate(warm=warm), "correct_text").status is Status.BROKEN


def test_nothing_is_compared_after_the_first_token_that_differs() -> None:
    cold, warm = answer("a", "b", "a", role=ProbeRole.COLD), answer("a", "x", "q", cached=1024)
    warm = replace(warm, logprobs=(-0.7, -0.7, -30.0))
    assert compare(cold, warm).status is Status.HELD


@pytest.mark.parametrize("lead", [0.0, 0.05, TIE_NATS])
def test_a_token_that_is_not_listed_cannot_be_cleared_by_a_flat_list(lead: float) -> None:
    compared = compare(answer("a", "b", role=ProbeRole.COLD, lead=lead), answer("q", "b", lead=lead))
    assert (compared.status, compared.gap_nats) == (Status.UNAVAILABLE, None)
    assert "too alike to exclude it" in compared.why
    check = found(gate(warm=answer("q", "b", cached=1024, lead=lead)), "correct_text")
    assert check.status is Status.UNAVAILABLE
    assert "1 of 1 answers from the cache cannot be compared" in check.detail


def test_a_token_that_is_not_listed_is_wrong_where_the_list_proves_it_to_be_further_than_a_tie() -> None:
    cold, warm = answer("a", "b", role=ProbeRole.COLD, lead=0.5), answer("q", "b", cached=1024, lead=0.01)
    compared = compare(cold, warm)
    assert compared.status is Status.BROKEN
    assert compared.least_nats == pytest.approx(0.5)
    broken = found(gate(cold=cold, warm=warm), "correct_text")
    assert broken.observed == "0 of 1 texts equal, a token is at least 0.5 nat away (document)"


def test_a_list_of_the_chosen_token_alone_proves_nothing_about_another_one() -> None:
    alone = [replace(a, top=tuple({t: -0.7} for t in a.tokens)) for a in (COLD, answer("x", "y", cached=1024))]
    compared = compare(*alone)
    assert compared.status is Status.UNAVAILABLE
    assert "at least 2 alternatives" in compared.why


def test_a_list_without_the_chosen_token_is_of_another_notation_and_proves_nothing() -> None:
    other = [
        replace(a, top=tuple({"token_id:1": -0.1, "token_id:2": -9.0} for _ in a.tokens))
        for a in (COLD, answer("x", "y", cached=1024))
    ]
    assert compare(*other).status is Status.UNAVAILABLE


def test_a_text_that_cannot_be_cleared_is_not_outvoted_by_others_that_are_equal() -> None:
    fine = [answer("a", role=role, case="one-chunk", cached=256 * role.startswith("w")) for role in ProbeRole][:2]
    check = found((*gate(warm=answer("q", "b", cached=1024)), *fine), "correct_text")
    assert check.status is Status.UNAVAILABLE
    assert "1 of 2 answers from the cache cannot be compared" in check.detail


def test_an_answer_that_ends_early_is_not_equal_to_a_longer_one() -> None:
    compared = compare(COLD, answer("a", cached=1024))
    assert (compared.status, compared.equal, compared.why) == (
        Status.UNAVAILABLE,
        False,
        "one answer ended after 1 tokens",
    )


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "-0.7", 3.0, True])
def test_what_is_no_log_probability_on_one_side_is_not_taken_for_equal(value: Any) -> None:
    warm = replace(answer("a", "b", cached=1024), logprobs=(-0.7, value))
    assert compare(COLD, warm).status is Status.UNAVAILABLE
    both = replace(COLD, logprobs=(-0.7, value))
    assert compare(both, warm).status is Status.HELD, "of the first token there are two"


@given(
    shifts=st.lists(st.floats(min_value=-TIE_NATS, max_value=TIE_NATS), min_size=1, max_size=16),
    base=st.floats(min_value=-5, max_value=0),
)
def test_noise_within_the_tolerance_never_condemns_and_is_symmetric(shifts: list[float], base: float) -> None:
    tokens = tuple("a" for _ in shifts)
    cold = replace(COLD, tokens=tokens, logprobs=tuple(base for _ in shifts))
    warm = replace(answer(*tokens, cached=1024), logprobs=tuple(base + shift for shift in shifts))
    one, other = compare(cold, warm), compare(warm, cold)
    assert one.distance_nats == other.distance_nats
    assert one.status is other.status is Status.HELD
    assert one.agreed == len(shifts)


@given(st.floats(min_value=TIE_NATS + 0.01, max_value=50), st.integers(min_value=0, max_value=9))
def test_one_shifted_step_is_always_seen(shift: float, step: int) -> None:
    tokens = ("a",) * 10
    cold = replace(COLD, tokens=tokens, logprobs=(-1.0,) * 10)
    moved = tuple(-1.0 - (shift if i == step else 0) for i in range(10))
    assert compare(cold, replace(cold, logprobs=moved)).status is Status.BROKEN


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
    assert (broken.expected, broken.observed) == ("1279: 1024, 256: 255", "1279: 1024, 256: 0")
    assert broken.detail.startswith("one-chunk:")


def test_edges_cannot_be_judged_without_geometry_or_without_cached_tokens() -> None:
    unknown = tuple(replace(a, cached_expected=None) for a in gate())
    assert found(unknown, "cached_at_chunk_edges").status is Status.UNAVAILABLE
    silent = tuple(replace(a, cached_tokens=None) for a in gate())
    assert "no cached_tokens" in found(silent, "cached_at_chunk_edges").detail


def test_edges_that_the_engines_own_prefix_cache_explains_are_held_and_it_is_named() -> None:
    warm = counted(answer("a", "b", cached=1024), local=1040, external=0)
    held = found(gate(warm=warm), "cached_at_chunk_edges")
    assert held.status is Status.HELD
    assert "the engine's own prefix cache" in held.detail
    mixed = counted(answer("a", "b", cached=1024), local=144, external=880)
    assert found(gate(warm=mixed), "cached_at_chunk_edges").status is Status.HELD
    short = counted(answer("a", "b", cached=1024), local=144, external=624)
    assert found(gate(warm=short), "cached_at_chunk_edges").status is Status.BROKEN


def test_more_than_whole_chunks_is_no_fault_where_nothing_tells_who_served_it() -> None:
    more = replace(answer("a", "b", cached=1024), cached_tokens=1040)
    assert found(gate(warm=more), "cached_at_chunk_edges").status is Status.UNAVAILABLE
    known = counted(answer("a", "b", cached=1024), local=0, external=1040)
    assert found(gate(warm=known), "cached_at_chunk_edges").status is Status.BROKEN


def test_a_reply_without_cached_tokens_is_not_one_with_none_of_them_cached() -> None:
    silent = replace(answer("a", case="one-chunk", cached=256), cached_tokens=None)
    held = found((*gate(), silent), "cached_at_chunk_edges")
    assert (held.status, held.detail) == (Status.HELD, "1 replies carry no cached_tokens")


def test_a_tenant_whom_the_connector_serves_anothers_chunks_is_a_fault() -> None:
    other = answer("a", "b", role=ProbeRole.OTHER_TENANT)
    leak = counted(other, local=0, external=1024)
    assert found(gate(other=leak), "tenants_share_nothing").status is Status.BROKEN
    assert found(gate(other=None), "tenants_share_nothing").status is Status.UNAVAILABLE


@pytest.mark.parametrize("known", [True, False])
def test_what_a_prefix_cache_serves_under_another_tag_is_no_leak(known: bool) -> None:
    other = answer("a", "b", role=ProbeRole.OTHER_TENANT)
    served = counted(other, local=1040, external=0) if known else replace(other, cached_tokens=1040)
    check = found(gate(other=served), "tenants_share_nothing")
    assert check.status is Status.UNAVAILABLE
    assert "--no-enable-prefix-caching" in check.detail


def test_tenants_are_not_held_apart_by_silence() -> None:
    silent = replace(answer("a", "b", role=ProbeRole.OTHER_TENANT), cached_tokens=None)
    assert found(gate(other=silent), "tenants_share_nothing").status is Status.UNAVAILABLE
    refused = replace(silent, error="HTTP 400: kv_transfer_params", tokens=())
    check = found(gate(other=refused), "tenants_share_nothing")
    assert (check.status, "HTTP 400" in check.detail) == (Status.UNAVAILABLE, True)


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


NAN = "HTTP 400: Out of range float values are not JSON compliant"
CONTROL = answer("a", "b", role=ProbeRole.CONTROL)


def test_a_request_that_fails_only_when_it_was_cached_is_a_fault_of_the_product() -> None:
    nan = replace(answer(cached=None), error=NAN, retried=NAN)
    answers = (*gate(warm=nan), CONTROL)
    broken = found(answers, "probes_answered")
    assert broken.status is Status.BROKEN
    assert "document (warm): HTTP 400" in broken.detail
    assert gate_of(answers).status is GateStatus.MADE


@pytest.mark.parametrize(
    ("failed", "control"),
    [
        ({"error": NAN}, CONTROL),
        ({"error": NAN, "retried": NAN}, None),
        ({"error": NAN, "retried": NAN}, replace(CONTROL, error=NAN)),
        ({"error": "HTTP 503: busy", "retried": "HTTP 503: busy"}, CONTROL),
        ({"error": "no answer within 60 s", "retried": "HTTP 500: boom"}, CONTROL),
        ({"error": "ServerDisconnectedError", "retried": "HTTP 500: boom"}, CONTROL),
    ],
)
def test_a_failure_that_may_be_anybodys_leaves_the_gate_unmade(
    failed: dict[str, str], control: ProbeAnswer | None
) -> None:
    answers = gate(warm=replace(answer(cached=None), **failed))  # type: ignore[arg-type]
    answers = (*answers, control) if control else answers
    check = found(answers, "probes_answered")
    assert check.status is Status.UNAVAILABLE
    assert gate_of(answers).status is GateStatus.NOT_MADE
    assert failed["error"] in gate_of(answers).reason


def test_an_endpoint_that_refuses_every_probe_cannot_be_judged_and_is_not_at_fault() -> None:
    refused = tuple(replace(a, error="HTTP 400: logprobs are not supported", tokens=()) for a in gate())
    assert {e.status for e in probe_evidence(refused)} == {Status.UNAVAILABLE}
    made = gate_of(refused)
    assert (made.status, "logprobs are not supported" in made.reason) == (GateStatus.NOT_APPLICABLE, True)
    gone = tuple(replace(a, error="ClientConnectorError: refused", tokens=()) for a in gate())
    assert found(gone, "probes_answered").status is Status.UNAVAILABLE
    assert gate_of(gone).status is GateStatus.NOT_MADE


def test_a_refused_salt_fails_nothing() -> None:
    salted = replace(answer(role=ProbeRole.SALTED, cached=None), error="HTTP 400: unknown field cache_salt")
    answers = gate(salted=salted)
    assert found(answers, "probes_answered").status is Status.HELD
    assert found(answers, "cache_salt").status is Status.UNAVAILABLE
    assert gate_of(answers).status is GateStatus.MADE


def test_a_gate_that_was_cut_off_was_not_made_unless_it_found_something() -> None:
    assert gate_of(gate(), "the limit").status is GateStatus.NOT_MADE
    assert gate_of(()).status is GateStatus.NOT_MADE
    wrong = gate(warm=answer("x", "y", cached=1024, lead=0.6))
    assert gate_of(wrong, "the limit").status is GateStatus.MADE


SERVED = answer("a", "b", cached=1024)


@pytest.mark.parametrize(
    ("warm", "rung", "said"),
    [
        (counted(SERVED, local=0, external=1024, keys=4), Rung.STORE, ""),
        (counted(SERVED, local=512, external=512, keys=2), Rung.STORE, ""),
        (counted(SERVED, local=0, external=1024), Rung.ENGINE, "the connector answered"),
        (SERVED, Rung.USAGE, "cached_tokens alone"),
    ],
)
def test_a_held_text_says_on_what_it_rests(warm: ProbeAnswer, rung: Rung, said: str) -> None:
    held = found(gate(warm=warm), "correct_text")
    assert (held.status, held.rung) == (Status.HELD, rung)
    assert said in held.detail
    assert bool(said) == bool(held.detail)


@pytest.mark.parametrize(
    ("warm", "why"),
    [
        (counted(SERVED, local=1040, external=0, keys=0), "the engine's own prefix cache answered"),
        (counted(SERVED, local=0, external=1024, keys=0), "LMCache's CPU memory answered"),
        (counted(SERVED, local=0, external=0, keys=0), "nothing of the short prompts was cached"),
    ],
)
def test_an_answer_of_a_nearer_cache_does_not_speak_for_the_store(warm: ProbeAnswer, why: str) -> None:
    answers = gate(warm=warm)
    check = found(answers, "correct_text")
    assert (check.status, why in check.detail) == (Status.UNAVAILABLE, True)
    made = gate_of(answers)
    assert made.status is (GateStatus.MADE if warm.cached_tokens == 0 else GateStatus.NOT_MADE), "broken at the edges"
    wrong = replace(warm, tokens=("x", "y"), top=answer("x", "y", lead=0.6).top)
    expected = Status.UNAVAILABLE if warm.cached_tokens == 0 else Status.BROKEN
    assert found(gate(warm=wrong), "correct_text").status is expected


def test_a_salted_answer_from_the_store_speaks_for_it_where_a_prefix_cache_answered_the_others() -> None:
    near = counted(SERVED, local=1040, external=0)
    salted = counted(answer("a", "b", role=ProbeRole.SALTED), local=0, external=1024)
    held = found(gate(warm=near, salted=salted), "correct_text")
    assert held.status is Status.HELD
    assert "1 more came from a nearer cache" in held.detail
    wrong = counted(answer("x", "y", role=ProbeRole.SALTED, lead=0.6), local=0, external=1024)
    assert found(gate(warm=near, salted=wrong), "correct_text").status is Status.BROKEN


NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.floats(), st.floats(-5, 0), st.sampled_from([-0.0, 0.0, -0.7, -9999.0]), st.text(max_size=2)
)
TOKENS = st.sampled_from("abcq")


@st.composite
def replies(draw: st.DrawFn, role: ProbeRole) -> ProbeAnswer:
    """An answer of any shape: lists too short, empty or of something else than numbers."""
    tops: st.SearchStrategy[Any] = st.one_of(st.dictionaries(TOKENS, NUMBERS, max_size=4), st.none(), st.just({}))
    counters = st.one_of(st.none(), st.integers(0, 2000))
    return ProbeAnswer(
        case="document",
        role=role,
        engine=0,
        prompt_tokens=1279,
        cached_expected=draw(st.sampled_from([None, 0, 1024])),
        cached_tokens=draw(counters),
        local_tokens=draw(counters),
        external_tokens=draw(counters),
        store_keys=draw(counters),
        tokens=tuple(draw(st.lists(TOKENS, max_size=4))),
        logprobs=tuple(draw(st.lists(NUMBERS, max_size=5))),
        top=tuple(draw(st.lists(tops, max_size=5))),
        error=draw(st.sampled_from([None, None, None, "HTTP 400: no", "HTTP 500: boom", "gone"])),
        retried=draw(st.sampled_from([None, "HTTP 500: boom"])),
    )


@given(replies(ProbeRole.COLD), replies(ProbeRole.WARM))
def test_no_shape_of_answers_raises_and_an_unlisted_token_is_never_held(cold: ProbeAnswer, warm: ProbeAnswer) -> None:
    compared = compare(cold, warm)
    steps = min(len(cold.tokens), len(warm.tokens))
    differing = next((i for i in range(steps) if cold.tokens[i] != warm.tokens[i]), None)
    if differing is None:
        return
    listed = cold.top[differing] if differing < len(cold.top) else None
    if warm.tokens[differing] not in (listed or {}):
        assert compared.status is not Status.HELD
        assert found((cold, warm), "correct_text").status is not Status.HELD


@given(st.lists(st.one_of([replies(role) for role in ProbeRole]), max_size=6))
def test_every_set_of_answers_is_judged_and_a_made_gate_was_held_or_broken(answers: list[ProbeAnswer]) -> None:
    checks = probe_evidence(answers)
    made = gate_of(answers)
    if made.status is GateStatus.MADE:
        text = next(check for check in checks if check.id == "correct_text")
        assert text.status is Status.HELD or any(check.status is Status.BROKEN for check in checks)
    else:
        assert made.reason


@given(st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))
def test_any_log_probabilities_in_a_reply_are_read_or_left_out(logprobs: Any) -> None:
    for value in (
        logprobs,
        {"tokens": logprobs, "token_logprobs": logprobs, "top_logprobs": logprobs},
        {"content": logprobs},
    ):
        reply = json.dumps({"choices": [{"logprobs": value}], "usage": value})
        read = read_reply(reply)
        assert all(one is None or math.isfinite(one) for one in read.get("logprobs", ()))
        orjson.dumps(read)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"choices": []}', '{"choices": [1]}', "[" * 200_000, "1" * 6_000]
)
def test_what_is_no_completion_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="the reply is n"):
        read_reply(text)


def test_half_a_character_and_a_number_without_end_do_not_break_the_record() -> None:
    logprobs = {"tokens": ["\ud83d"], "token_logprobs": [-0.5], "top_logprobs": [{"\udc00": -0.5}]}
    usage = {"prompt_tokens_details": {"cached_tokens": 10**30}}
    read = read_reply(json.dumps({"choices": [{"logprobs": logprobs}], "usage": usage}))
    assert orjson.dumps(read)
    assert read["cached_tokens"] is None


def test_cold_probes_have_the_lengths_at_which_chunks_begin_and_end() -> None:
    lengths = {p.case: len(p.prompt) for p in gate_module.colds("run", IDS, VIEW, tagged=True)}
    assert lengths == {
        "short-of-a-chunk": 255,
        "one-chunk": 256,
        "a-token-more": 257,
        "document": 1279,
        "shared-beginning": 1024,
    }


def test_warm_probes_expect_what_the_formulae_say() -> None:
    warm = gate_module.warms("run", IDS, VIEW, tagged=True)
    expected = {p.case: p.cached_expected for p in warm if p.role is ProbeRole.WARM}
    assert expected == {
        "short-of-a-chunk": 0,
        "one-chunk": 255,
        "a-token-more": 256,
        "document": 1024,
        "shared-beginning": 512,
    }
    assert {p.role for p in warm} == set(ProbeRole) - {ProbeRole.COLD, ProbeRole.CONTROL}


def test_prompts_that_do_not_fit_the_context_are_left_out() -> None:
    small = replace(VIEW, max_model_len=300)
    assert {p.case for p in gate_module.colds("run", IDS, small, tagged=True)} == {
        "short-of-a-chunk",
        "one-chunk",
        "a-token-more",
    }
    assert {p.role for p in gate_module.warms("run", IDS, small, tagged=True)} == {ProbeRole.WARM}
    assert gate_module.colds("run", IDS, replace(VIEW, max_model_len=64), tagged=True) == ()


@pytest.mark.parametrize(
    ("longest", "context", "tokens"), [(9_000, None, 8_999), (9_000, 8_192, 8_176), (None, 64, None)]
)
def test_a_prompt_as_long_as_the_runs_is_kept_for_chunks_of_unknown_size(
    longest: int | None, context: int | None, tokens: int | None
) -> None:
    unknown = replace(VIEW, kv=None, max_model_len=context)
    pair = longer("run", IDS, unknown, longest)
    assert (len(pair[0].prompt) if pair else None) == tokens
    assert longer("run", IDS, VIEW, longest) is None


def test_vllms_own_connector_leaves_the_last_chunk_to_compute() -> None:
    own = replace(VIEW, details={"connector": "mooncakestore"}, kv=KVGeometry(bytes_per_token=512, chunk_tokens=128))
    warm = gate_module.warms("run", IDS, own, tagged=False)
    expected = {p.case: p.cached_expected for p in warm if p.role is ProbeRole.WARM}
    assert (expected["one-chunk"], expected["a-token-more"], expected["document"]) == (0, 128, 512)


def test_the_second_document_shares_its_beginning_and_is_computed_by_another_tenant() -> None:
    cold = {p.case: p for p in gate_module.colds("run", IDS, VIEW, tagged=True)}
    shared, document = cold["shared-beginning"], cold["document"]
    assert shared.prompt[:512] == document.prompt[:512]
    assert shared.prompt[512:520] != document.prompt[512:520]
    assert (shared.tenant, document.tenant) == ("b", "a")
    assert "shared-beginning" not in {p.case for p in gate_module.colds("run", IDS, VIEW, tagged=False)}


def test_two_runs_share_no_prompt() -> None:
    first = {p.prompt[:16] for p in gate_module.colds("run-1", IDS, VIEW, tagged=True)}
    second = {p.prompt[:16] for p in gate_module.colds("run-2", IDS, VIEW, tagged=True)}
    assert first.isdisjoint(second)
    assert gate_module.colds("run-1", IDS, VIEW, tagged=True) == gate_module.colds("run-1", IDS, VIEW, tagged=True)


def test_the_keys_that_cold_probes_leave_are_known_where_the_geometry_is() -> None:
    cold = gate_module.colds("run", IDS, VIEW, tagged=True)
    assert gate_module.keys_of(cold, VIEW) == 0 + 1 + 1 + 4 + 4
    assert gate_module.keys_of(cold, replace(VIEW, kv=None)) is None


def test_an_impossible_token_is_very_unlikely_and_not_a_crash() -> None:
    warm = replace(answer("a", "b", cached=1024), logprobs=(-9999.0, -0.7))
    assert compare(COLD, warm).status is Status.BROKEN


@pytest.mark.parametrize(
    ("prompt_tokens", "cached", "tier"),
    [
        (1279, 1024, Tier.CHUNKED),
        (1279, 1088, Tier.CHUNKED),
        (1279, 1278, Tier.CACHED),
        (1279, 1264, Tier.CACHED),
        (1279, 1216, Tier.CACHED),
        (1279, 1152, Tier.CACHED),
        (256, 255, Tier.CACHED),
        (257, 256, Tier.CACHED),
        (1041, 1024, Tier.CHUNKED),
        (1041, 1040, Tier.CACHED),
        (1279, 0, Tier.NOTHING),
    ],
)
def test_without_counters_an_amount_tells_chunks_from_an_engines_blocks(
    prompt_tokens: int, cached: int, tier: Tier
) -> None:
    given = replace(answer("a", cached=cached), prompt_tokens=prompt_tokens)
    assert tier_of(given) is tier
    shared = replace(given, case=SHARED)
    assert tier_of(shared) is (Tier.CACHED if cached else Tier.NOTHING)


@pytest.mark.parametrize("token", [None, True, {}, [], 1.5])
def test_what_is_no_token_is_no_text_that_could_equal_another(token: object) -> None:
    steps = [{"token": token, "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}]}]
    plain = {"tokens": [token], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1}]}
    for logprobs in ({"content": steps}, plain):
        assert "tokens" not in read_reply(json.dumps({"choices": [{"logprobs": logprobs}]}))
