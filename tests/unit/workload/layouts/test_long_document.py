from __future__ import annotations

import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.workload.layouts.long_document import document_layout
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.tokens.pools import Pool, TokenPool, WordPool, pool_of_ids

POOL = pool_of_ids(range(1000, 1400), "test")


def documents(pool: Pool | None = POOL, *, max_model_len: int | None = None, **changes: int) -> Workload:
    plan = WorkloadPlan(name="long-document", **{"prompt_tokens": 512, **changes})
    return Workload(plan, document_layout(plan), pool, max_model_len=max_model_len)


@settings(max_examples=25)
@given(prompt_tokens=st.integers(16, 3000), requests=st.integers(1, 40), nonce=st.text(min_size=1))
def test_every_document_has_exactly_the_tokens_asked_for_and_only_ordinary_ones(
    prompt_tokens: int, requests: int, nonce: str
) -> None:
    planned = documents(prompt_tokens=prompt_tokens, requests=requests).requests(nonce)
    assert len(planned) == requests
    for request in planned:
        assert len(request.prompt) == prompt_tokens == request.prompt_tokens
        assert set(request.prompt) <= set(POOL.ids)


def test_the_same_nonce_gives_the_same_documents_and_another_nonce_others() -> None:
    work = documents()
    cold = [r.prompt for r in work.requests("first")]
    assert cold == [r.prompt for r in work.requests("first", shift=1)]
    assert all(
        a[0] != b[0] or a[:16] != b[:16] for a, b in zip(cold, [r.prompt for r in work.requests("2")], strict=True)
    )


def test_a_new_nonce_changes_the_beginning_only_so_that_rounds_do_the_same_work() -> None:
    work = documents()
    first, second = work.requests("1")[5].prompt, work.requests("2")[5].prompt
    assert first[:16] != second[:16]
    assert first[16:] == second[16:]


def test_two_runs_with_the_same_seed_and_round_send_different_documents() -> None:
    plan = WorkloadPlan(name="w", prompt_tokens=256)
    first, second = (
        Workload(plan, document_layout(plan), POOL, run_id=run).requests("0")[0].prompt for run in ("a", "b")
    )
    assert first != second


def test_documents_differ_from_each_other_from_the_first_token() -> None:
    planned = documents(requests=100).requests("n")
    assert len({request.prompt[0] for request in planned}) == 100
    assert len({request.prompt[16:] for request in planned}) == 100


def test_the_seed_changes_the_bodies() -> None:
    bodies = {documents(seed=seed).requests("n")[0].prompt[16:] for seed in range(3)}
    assert len(bodies) == 3


@pytest.mark.parametrize(
    ("engines", "shift", "expected"),
    [(1, 0, [0, 0, 0, 0]), (1, 1, [0, 0, 0, 0]), (3, 0, [0, 1, 2, 0]), (3, 1, [1, 2, 0, 1])],
)
def test_a_warm_round_asks_another_engine_for_every_request(engines: int, shift: int, expected: list[int]) -> None:
    planned = documents(requests=4).requests("n", engines=engines, shift=shift)
    assert [request.engine for request in planned] == expected


def test_requests_behave_like_a_sequence() -> None:
    planned = documents(requests=5).requests("n")
    assert planned[-1] == planned[4]
    assert [request.index for request in planned[1:4]] == [1, 2, 3]
    with pytest.raises(IndexError):
        planned[5]
    with pytest.raises(IndexError):
        planned[-6]


def test_requests_carry_the_output_length_and_are_sent_as_soon_as_a_slot_is_free() -> None:
    request = documents(output_tokens=7).requests("n")[3]
    assert (request.index, request.output_tokens, request.offset_ns, request.after) == (3, 7, None, None)
    assert request.body == {}


def test_without_any_pool_the_prompt_is_text_whose_tokens_are_not_claimed() -> None:
    request = documents(None, prompt_tokens=100).requests("n")[0]
    assert isinstance(request.prompt, str)
    assert len(request.prompt.split()) == 101
    assert request.prompt_tokens is None


def test_counted_words_make_text_of_exactly_the_tokens_asked_for() -> None:
    pool = WordPool(overhead_tokens=9, source="test")
    request = documents(pool, prompt_tokens=100).requests("n")[0]
    assert isinstance(request.prompt, str)
    assert len(request.prompt.split()) == 1 + (100 - 9)
    assert request.prompt_tokens == 100


def test_what_of_a_prompt_is_not_ours_to_choose_is_planned_with_it() -> None:
    counted, uncounted = WordPool(overhead_tokens=31, source="test"), None
    told = [documents(pool).planned(256).common_tokens for pool in (POOL, counted, uncounted)]
    assert told == [0, 31, None]


def test_text_prompts_differ_from_the_second_word() -> None:
    planned = documents(None, requests=200).requests("n")
    assert len({str(request.prompt).split()[1] for request in planned}) == 200


@pytest.mark.parametrize(
    ("changes", "limit", "message"),
    [
        (
            {"prompt_tokens": 16384, "output_tokens": 128},
            16384,
            r"request 0 needs 16384 \+ 128 = 16512 tokens, but the model takes 16384; "
            r"give --mooncake-prompt-tokens 16256 or less",
        ),
        ({"prompt_tokens": 100, "output_tokens": 500}, 400, r"--mooncake-output-tokens 192 or less"),
    ],
)
def test_what_exceeds_the_context_is_refused_with_the_option_to_change(
    changes: dict[str, int], limit: int, message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        documents(POOL, max_model_len=limit, **changes)


def test_what_fills_the_context_exactly_is_taken() -> None:
    assert len(documents(max_model_len=640, prompt_tokens=512, output_tokens=128).requests("n")) == 30


def test_the_context_that_the_tokenizer_reported_counts_too() -> None:
    pool = TokenPool(ids=POOL.ids, source="server", max_model_len=100)
    with pytest.raises(WorkloadError, match="the model takes 100"):
        documents(pool)


def test_prompts_too_short_for_a_nonce_are_refused() -> None:
    with pytest.raises(WorkloadError, match=r"prompts of 15 tokens are too short.*--mooncake-prompt-tokens 16"):
        documents(prompt_tokens=15)


def test_nothing_is_reused_within_a_round_and_everything_whole_in_the_next() -> None:
    reuse = documents(requests=3, prompt_tokens=600).reuse(256)
    assert reuse.cold_cached_tokens == (0, 0, 0)
    assert reuse.warm_cached_tokens == (512, 512, 512)
    assert (reuse.cold_ratio, reuse.distinct_chunks) == (0.0, 6)


@pytest.mark.parametrize(
    ("prompt_tokens", "cached"), [(255, 0), (256, 255), (257, 256), (511, 256), (512, 511), (513, 512), (9728, 9727)]
)
def test_the_last_token_of_a_wholly_cached_prompt_is_computed_again(prompt_tokens: int, cached: int) -> None:
    # the engine's own rule: LMCache serves whole chunks, and vLLM always computes at least one token
    assert documents(requests=1, prompt_tokens=prompt_tokens).reuse(256).warm_cached_tokens == (cached,)


def test_making_a_long_prompt_is_cheap_beside_encoding_it() -> None:
    planned = documents(requests=10, prompt_tokens=16384).requests("n")
    making, encoding = [], []
    for i in range(10):
        began = time.perf_counter()
        prompt = planned[i].prompt
        made = time.perf_counter()
        str(prompt).encode()
        making.append(made - began)
        encoding.append(time.perf_counter() - made)
    assert statistics.median(making) < 5 * statistics.median(encoding)
