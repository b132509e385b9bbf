"""The correctness gate against servers that were there before: what they get wrong is theirs, what they hide is not."""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
import pytest

from pytest_mooncake.analysis.evidence.checks.correctness import probe_evidence
from pytest_mooncake.cache import quiesce
from pytest_mooncake.cache.clear import Permission
from pytest_mooncake.cache.keys import run_tag
from pytest_mooncake.cache.probes.gate import run_gate
from pytest_mooncake.cache.run_keys import RunKeys
from pytest_mooncake.cache.scrape import scrape, sources_of
from pytest_mooncake.records import Evidence, Gate, GateStatus, ProbeAnswer, ProbeRole, Status
from tests.support.cached_server import CachedServer

HELD, BROKEN, UNAVAILABLE = Status.HELD, Status.BROKEN, Status.UNAVAILABLE
MADE, NOT_APPLICABLE, NOT_MADE = GateStatus.MADE, GateStatus.NOT_APPLICABLE, GateStatus.NOT_MADE


@pytest.fixture(autouse=True)
def no_blind_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiesce, "BLIND_S", 0.0)


async def made(
    server: CachedServer, *, tagged: bool = True, may_clear: bool = False, longest: int = 0, **limits: float
) -> tuple[dict[str, Evidence], Gate, tuple[ProbeAnswer, ...]]:
    """Run the gate as a run does it."""
    async with (
        server.serving() as view,
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as fresh,
    ):
        read = partial(scrape, session, sources_of(view))
        permission = Permission.OWN if may_clear else Permission.NONE
        run_keys = RunKeys(session, view, "run-1", read=read, permission=permission, note=lambda *_a, **_v: None)
        answers, gate = await run_gate(
            session,
            view,
            "run-1",
            range(300, 4000),
            read=read,
            headers={},
            params=(lambda tenant: run_tag("run-1", tenant)) if tagged else None,
            clear=run_keys.clear_nearer if run_keys.may_clear else None,
            fresh=fresh,
            longest=longest,
            **limits,
        )
    return {e.id: e for e in probe_evidence(answers)}, gate, answers


async def test_a_healthy_endpoint_of_which_nothing_is_known_is_made() -> None:
    checks, gate, answers = await made(CachedServer())
    assert gate == Gate(id="correctness", status=MADE)
    held = {name for name, check in checks.items() if check.status is HELD}
    assert held == {"probes_answered", "correct_text", "tenants_share_nothing", "cache_salt"}
    assert checks["correct_text"].observed == "5 of 5 texts equal, largest distance 0 nat (one-chunk)"
    assert {a.external_tokens for a in answers if a.role is ProbeRole.COLD} == {0}


@pytest.mark.parametrize("alternatives", [1, 2, 5])
@pytest.mark.parametrize("shows_metrics", [True, False])
async def test_wrong_bytes_are_never_held(alternatives: int, shows_metrics: bool) -> None:
    server = CachedServer(wrong_bytes=True, alternatives=alternatives, shows_metrics=shows_metrics)
    checks, gate, _ = await made(server, tagged=False)
    if alternatives == 1:
        assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_MADE)
        assert "at least 2 alternatives are needed" in gate.reason
    else:
        assert (checks["correct_text"].status, gate.status) == (BROKEN, MADE)
        assert "at least" in checks["correct_text"].observed


async def test_wrong_bytes_on_flat_tops_cannot_be_told_from_a_tie() -> None:
    checks, gate, _ = await made(CachedServer(wrong_bytes=True, spread=0.01))
    assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_MADE)
    assert "too alike to exclude it" in gate.reason


@pytest.mark.parametrize(("nudge", "status"), [(0.05, HELD), (0.3, BROKEN)])
async def test_equal_text_is_held_to_its_log_probabilities(nudge: float, status: Status) -> None:
    checks, _, _ = await made(CachedServer(nudge=nudge, alternatives=1))
    assert checks["correct_text"].status is status


async def test_planted_corruption_is_found_behind_a_prefix_cache_that_may_be_cleared() -> None:
    server = CachedServer(prefix_cache=True, wrong_bytes=True)
    checks, gate, _ = await made(server, may_clear=True, tagged=False)
    assert (checks["correct_text"].status, gate.status) == (BROKEN, MADE)
    assert server.resets > 1


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("may_clear", [True, False])
async def test_what_only_the_prefix_cache_answered_says_nothing_of_the_store(wrong: bool, may_clear: bool) -> None:
    server = CachedServer(prefix_cache=True, can_reset=False, wrong_bytes=wrong, salt_in_store_keys=True)
    checks, gate, _ = await made(server, may_clear=may_clear, tagged=False)
    assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_MADE)
    assert "the engine's own prefix cache answered, not the store" in gate.reason


@pytest.mark.parametrize("wrong", [True, False])
async def test_a_salt_gets_past_a_prefix_cache_where_the_stores_keys_do_not_hold_it(wrong: bool) -> None:
    checks, gate, _ = await made(CachedServer(prefix_cache=True, wrong_bytes=wrong), tagged=False)
    assert gate.status is MADE
    assert checks["correct_text"].status is (BROKEN if wrong else HELD)


@pytest.mark.parametrize("may_clear", [True, False])
async def test_a_healthy_lmcache_with_tags_and_a_prefix_cache_is_not_at_fault(may_clear: bool) -> None:
    checks, gate, _ = await made(CachedServer(prefix_cache=True), may_clear=may_clear)
    assert not [check for check in checks.values() if check.status is BROKEN]
    assert checks["tenants_share_nothing"].status is (HELD if may_clear else UNAVAILABLE)
    assert gate.status is MADE


@pytest.mark.parametrize("prefix_cache", [True, False])
async def test_a_connector_that_serves_one_tenants_chunks_to_another_is(prefix_cache: bool) -> None:
    server = CachedServer(prefix_cache=prefix_cache, tags_in_keys=False)
    checks, gate, _ = await made(server, may_clear=True)
    assert (checks["tenants_share_nothing"].status, gate.status) == (BROKEN, MADE)


async def test_without_counters_a_hit_under_another_tag_may_be_the_engines_own() -> None:
    checks, _, _ = await made(CachedServer(prefix_cache=True, shows_metrics=False))
    assert checks["tenants_share_nothing"].status is UNAVAILABLE


async def test_without_counters_the_check_says_what_it_rests_on() -> None:
    checks, gate, _ = await made(CachedServer(shows_metrics=False), tagged=False)
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)
    assert "cached_tokens alone tells which cache answered" in checks["correct_text"].detail


@pytest.mark.parametrize("chunk", [256, 512, 544, 1024])
async def test_without_counters_the_size_of_the_chunks_tells_the_store(chunk: int) -> None:
    checks, gate, _ = await made(CachedServer(shows_metrics=False, chunk=chunk), tagged=False)
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)


@pytest.mark.parametrize("server", [{"prefix_cache": True}, {"chunk": 16}, {"prefix_cache": True, "wrong_bytes": True}])
async def test_without_counters_what_a_prefix_cache_may_have_answered_proves_nothing(server: dict[str, Any]) -> None:
    checks, gate, _ = await made(CachedServer(shows_metrics=False, **server), tagged=False)
    assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_APPLICABLE)
    assert "no counter tells the engine's own prefix cache from the store" in gate.reason


@pytest.mark.parametrize("deals_out", ["requests", "connections"])
@pytest.mark.parametrize("engines", [2, 3])
@pytest.mark.parametrize("wrong", [True, False])
async def test_behind_one_address_another_engine_is_made_to_ask_the_store(
    wrong: bool, engines: int, deals_out: str
) -> None:
    server = CachedServer(
        shows_metrics=False, prefix_cache=True, engines=engines, deals_out=deals_out, wrong_bytes=wrong
    )
    checks, gate, _ = await made(server, tagged=False)
    assert gate.status is MADE
    assert checks["correct_text"].status is (BROKEN if wrong else HELD)


async def test_wrong_bytes_in_chunks_as_small_as_blocks_are_found_all_the_same() -> None:
    checks, gate, _ = await made(CachedServer(shows_metrics=False, chunk=16, wrong_bytes=True), tagged=False)
    assert (checks["correct_text"].status, gate.status) == (BROKEN, MADE)


@pytest.mark.parametrize("unsure", [{"foreign_tokens": 7}, {"replicas": 2}])
async def test_counters_that_others_move_are_not_read_as_ones_own(unsure: dict[str, Any]) -> None:
    checks, gate, answers = await made(CachedServer(**unsure), tagged=False)
    assert all(a.external_tokens in (None, a.cached_tokens) for a in answers)
    assert None in {a.external_tokens for a in answers}
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)


async def test_a_server_that_tells_nothing_of_its_cache_cannot_be_asked() -> None:
    checks, gate, _ = await made(CachedServer(shows_metrics=False, shows_cached=False), tagged=False)
    assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_APPLICABLE)
    assert "neither counters nor cached_tokens" in gate.reason
    _, gate, _ = await made(CachedServer(shows_metrics=False, shows_cached=False, wrong_bytes=True), tagged=False)
    assert gate.status is NOT_MADE


async def test_a_refused_salt_is_a_finding_that_is_not_made() -> None:
    checks, gate, _ = await made(CachedServer(refuses=frozenset({"cache_salt"})))
    assert checks["cache_salt"].status is UNAVAILABLE
    assert (checks["probes_answered"].status, gate.status) == (HELD, MADE)


async def test_refused_tags_leave_tenants_open_and_text_compared() -> None:
    checks, gate, answers = await made(CachedServer(refuses=frozenset({"kv_transfer_params"})))
    assert checks["tenants_share_nothing"].status is UNAVAILABLE
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)
    assert ProbeRole.OTHER_TENANT not in {a.role for a in answers}


async def test_a_field_that_is_only_convenient_is_left_out_where_it_is_refused() -> None:
    checks, gate, _ = await made(CachedServer(refuses=frozenset({"return_tokens_as_token_ids", "ignore_eos"})))
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)


async def test_an_endpoint_that_refuses_log_probabilities_is_quoted() -> None:
    checks, gate, _ = await made(CachedServer(refuses=frozenset({"logprobs"})))
    assert {check.status for check in checks.values()} == {UNAVAILABLE}
    assert gate.status is NOT_APPLICABLE
    assert "unknown field logprobs" in gate.reason


SHAPES: dict[str, Any] = {
    "null": None,
    "text": "none",
    "list": [],
    "no steps": {"tokens": [], "token_logprobs": [], "top_logprobs": []},
    "tokens null": {"tokens": None, "token_logprobs": None, "top_logprobs": None},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_server_without_log_probabilities_cannot_be_asked(shape: str) -> None:
    _, gate, _ = await made(CachedServer(reshape=lambda _logprobs: SHAPES[shape]))
    assert (gate.status, gate.reason) == (NOT_APPLICABLE, "the engine returns no log-probabilities")


TOPS: dict[str, Any] = {
    "null": None,
    "empty": [],
    "empty steps": [{}] * 16,
    "null steps": [None] * 16,
    "fewer": [{"a0": -0.5}],
    "text": "none",
    "no numbers": [{"a0": "-0.5", "a1": float("nan"), "a2": float("-inf"), "a3": None, "a4": True}] * 16,
}


@pytest.mark.parametrize("tops", TOPS)
@pytest.mark.parametrize("wrong", [True, False])
async def test_without_alternatives_only_equal_texts_are_held(tops: str, wrong: bool) -> None:
    server = CachedServer(wrong_bytes=wrong, reshape=lambda found: {**found, "top_logprobs": TOPS[tops]})
    checks, gate, _ = await made(server)
    expected = (UNAVAILABLE, NOT_MADE) if wrong else (HELD, MADE)
    assert (checks["correct_text"].status, gate.status) == expected
    if not wrong:
        assert "the server lists 0 of 5 alternatives" in checks["correct_text"].detail


async def test_texts_alone_are_compared_where_there_are_no_numbers_and_that_is_said() -> None:
    server = CachedServer(reshape=lambda found: {**found, "token_logprobs": None})
    checks, gate, _ = await made(server)
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)
    assert "log-probabilities not compared" in checks["correct_text"].observed
    assert "texts alone were compared" in checks["correct_text"].detail


async def test_log_probabilities_in_the_shape_of_chat_are_read_too() -> None:
    def chat(found: dict[str, Any]) -> dict[str, Any]:
        steps = zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)
        best = [(token, value, [{"token": t, "logprob": v} for t, v in top.items()]) for token, value, top in steps]
        return {"content": [{"token": t, "logprob": v, "top_logprobs": top} for t, v, top in best]}

    for wrong in (True, False):
        checks, _, _ = await made(CachedServer(wrong_bytes=wrong, reshape=chat))
        assert checks["correct_text"].status is (BROKEN if wrong else HELD)


async def test_an_endpoint_that_never_answers_does_not_hold_up_a_run() -> None:
    _, gate, answers = await made(CachedServer(hangs=True), limit_s=0.3)
    assert gate == Gate(id="correctness", status=NOT_MADE, reason="the gate was not over after its limit of 0.3 s")
    assert answers == ()
    checks, gate, answers = await made(CachedServer(hangs=True), request_s=0.2)
    assert gate.status is NOT_MADE
    assert "failed twice: short-of-a-chunk (cold): no answer within 0.2 s" in gate.reason
    assert len(answers) == 1
    assert checks["probes_answered"].status is UNAVAILABLE


def once(status: int) -> Any:
    """Fail the seventh request and no other."""
    numbers = iter(range(1, 100))
    return lambda _body, _external: status if next(numbers) == 7 else 0


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_one_failure_is_asked_for_again_and_told(status: int) -> None:
    checks, gate, answers = await made(CachedServer(fails=once(status)))
    assert gate.status is MADE
    assert checks["probes_answered"].detail == "1 at the second try"
    assert [a.retried for a in answers if a.retried] == [f'HTTP {status}: {{"error": {{"message": "boom"}}}}']


@pytest.mark.parametrize("status", [400, 500])
async def test_requests_that_fail_only_from_the_store_are_the_products_fault(status: int) -> None:
    checks, gate, _ = await made(CachedServer(fails=lambda _body, external: status if external else 0))
    assert (checks["probes_answered"].status, gate.status) == (BROKEN, MADE)
    assert f"one-chunk (warm): HTTP {status}" in checks["probes_answered"].detail


async def test_lengths_that_an_endpoint_refuses_are_left_out_and_told() -> None:
    checks, gate, answers = await made(CachedServer(fails=lambda body, _found: 400 * (len(body["prompt"]) > 300)))
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)
    assert checks["probes_answered"].detail == "2 lengths were refused and left out"
    assert {a.case for a in answers if a.role is ProbeRole.WARM} == {"short-of-a-chunk", "one-chunk", "a-token-more"}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_a_proxy_may_have_said_is_nobodys_fault(status: int) -> None:
    checks, gate, _ = await made(CachedServer(fails=lambda _body, external: status if external else 0))
    assert (checks["probes_answered"].status, gate.status) == (UNAVAILABLE, NOT_MADE)
    assert f"HTTP {status}" in gate.reason


async def test_an_endpoint_that_went_down_is_not_a_fault_of_its_cache() -> None:
    numbers = iter(range(1, 100))
    checks, gate, _ = await made(CachedServer(fails=lambda _body, _external: 500 if next(numbers) > 6 else 0))
    assert (checks["probes_answered"].status, gate.status) == (UNAVAILABLE, NOT_MADE)


async def test_chunks_larger_than_the_usual_ones_are_found_by_a_prompt_as_long_as_the_runs() -> None:
    server = CachedServer(chunk=2048, wrong_bytes=True)
    checks, gate, _ = await made(server, longest=4_500)
    assert (checks["correct_text"].status, gate.status) == (BROKEN, MADE)
    assert "(long-document)" in checks["correct_text"].observed
    checks, gate, _ = await made(CachedServer(chunk=2048), longest=4_500)
    assert (checks["correct_text"].status, gate.status) == (HELD, MADE)


async def test_a_store_that_serves_nothing_leaves_the_gate_unmade() -> None:
    checks, gate, _ = await made(CachedServer(store_on=False), longest=4_500)
    assert (checks["correct_text"].status, gate.status) == (UNAVAILABLE, NOT_MADE)
    assert "nothing of the short prompts was cached" in gate.reason
