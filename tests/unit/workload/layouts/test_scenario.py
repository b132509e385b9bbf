from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.plan.models import Traffic, WorkloadPlan
from pytest_mooncake.workload.layouts.scenario import scenario_layout
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.tokens.pools import WordPool, pool_of_ids
from tests.support.brute_force_reuse import unbounded_hits

POOL = pool_of_ids(range(100, 9000), "test")


def traffic(**changes: Any) -> Traffic:
    return Traffic.model_validate({"name": "qa", "reuse": 0.8, **changes})


def scenario(*kinds: Traffic, chunk_tokens: int = 256, **changes: Any) -> Workload:
    plan = WorkloadPlan.model_validate(
        {"name": "s", "kind": "scenario", "prompt_tokens": 2560, "requests": 40, "traffic": kinds, **changes}
    )
    return Workload(plan, scenario_layout(plan, chunk_tokens=chunk_tokens), POOL)


PROMPTS = st.fixed_dictionaries({"shape": st.sampled_from(["fixed", "lognormal"]), "spread": st.floats(0, 1)})
QUESTIONS = st.builds(
    traffic,
    reuse=st.floats(0.2, 0.75),
    shared_prefix_ratio=st.sampled_from([0.0, 0.001, 0.1, 0.2]),
    documents=st.sampled_from([1, 3, 10]),
    zipf=st.floats(0, 2),
    prompt=PROMPTS,
)
CONVERSATIONS = st.integers(2, 6).flatmap(
    lambda turns: st.builds(
        traffic,
        turns=st.just(turns),
        reuse=st.floats(1 - 1.8 / (turns + 1), 1 - 1.2 / turns),
        shared_prefix_ratio=st.sampled_from([0.0, 0.05]),
        documents=st.sampled_from([None, 10]),
        prompt=PROMPTS,
    )
)


@settings(max_examples=30, deadline=None)
@given(
    kind=QUESTIONS | CONVERSATIONS,
    requests=st.integers(20, 40),
    chunk_tokens=st.sampled_from([64, 256]),
    seed=st.integers(0, 9),
)
def test_the_reuse_asked_for_is_the_reuse_a_cache_fed_with_the_very_tokens_gives(
    kind: Traffic, requests: int, chunk_tokens: int, seed: int
) -> None:
    try:
        work = scenario(kind, requests=requests, chunk_tokens=chunk_tokens, seed=seed)
    except WorkloadError as refused:
        event(str(refused).split(",")[0])
        return
    planned = list(work.requests("n"))
    hits = unbounded_hits([request.prompt for request in planned], chunk_tokens)  # type: ignore[misc]  # token ids
    reuse = work.reuse(chunk_tokens)
    assert reuse.cold_hits.tolist() == hits
    assert abs(sum(hits) - kind.reuse * int(reuse.chunks.sum())) <= requests
    for request in planned:
        # what it waited for is enough: hits do not depend on how many requests are in flight
        known = [] if request.after is None else [planned[request.after].prompt]
        assert unbounded_hits([*known, request.prompt], chunk_tokens)[-1] == hits[request.index]  # type: ignore[list-item]
        assert request.after is None or request.after < request.index


def test_every_request_has_the_prompt_length_that_was_planned() -> None:
    work = scenario(traffic(turns=4, reuse=0.7, prompt={"shape": "lognormal", "spread": 0.5}))
    for request in work.requests("n"):
        assert len(request.prompt) == request.prompt_tokens


def test_single_turn_prompts_keep_the_length_asked_for_whatever_is_shared() -> None:
    lengths = {r.prompt_tokens for r in scenario(traffic(documents=3, shared_prefix_ratio=0.2)).requests("n")}
    assert lengths == {2560}


def test_a_conversation_grows_by_carrying_its_earlier_prompts() -> None:
    planned = list(scenario(traffic(turns=5, reuse=0.7, think_time_s=1.5), requests=20).requests("n"))
    later = [request for request in planned if request.think_ns]
    assert len(later) == 16
    for request in later:
        assert request.after is not None
        before = planned[request.after].prompt
        assert request.prompt[: len(before)] == before
        assert len(request.prompt) > len(before) + request.output_tokens
        assert request.think_ns == 1_500_000_000


def test_all_requests_of_a_kind_begin_with_its_system_prompt_and_other_kinds_do_not() -> None:
    first, second = (
        traffic(shared_prefix_ratio=0.2, documents=2),
        traffic(name="b", shared_prefix_ratio=0.2, documents=2),
    )
    planned = list(scenario(first, second).requests("n"))
    assert len({request.prompt[:512] for request in planned}) == 2


def test_popular_documents_are_asked_for_more_often() -> None:
    work = scenario(traffic(documents=4, zipf=1.5, reuse=0.7), requests=100)
    bodies = [request.prompt[:1000] for request in work.requests("n")]
    counts = sorted((bodies.count(body) for body in set(bodies)), reverse=True)
    assert len(counts) == 4
    assert counts[0] > 2 * counts[1]


def test_without_reuse_nothing_is_shared() -> None:
    work = scenario(traffic(reuse=0.0))
    assert int(work.reuse(256).cold_hits.sum()) == 0
    assert all(request.after is None for request in work.requests("n"))


def test_a_pool_too_large_for_the_reuse_asked_for_is_cut_and_this_is_said() -> None:
    work = scenario(traffic(documents=30, reuse=0.8))
    assert work.layout.notes == ("qa: 4 of 30 documents are used: 40 requests reuse 80% from no more",)
    assert work.reuse(256).cold_ratio == pytest.approx(0.8, abs=0.003)


def test_reuse_missed_by_less_than_a_chunk_a_request_is_delivered_as_far_as_it_can_be_and_this_is_said() -> None:
    work = scenario(traffic(documents=3, reuse=0.85), requests=6)
    assert work.layout.notes == (
        "qa: 6 requests of about 2560 tokens reuse at most 75% of their chunks, 85% was asked; "
        "the difference is below one chunk a request",
    )
    reuse = work.reuse(256)
    assert reuse.cold_ratio == pytest.approx(0.75)
    assert 0.85 * int(reuse.chunks.sum()) - int(reuse.cold_hits.sum()) <= 6


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            traffic(documents=3, reuse=0.85),
            {"requests": 3},
            r"qa: 3 requests of about 2560 tokens reuse at most 60% of their chunks, 85% was asked; "
            r"give --mooncake-requests 6 or more",
        ),
        (traffic(reuse=0.5), {}, r"reuse at most 0% of their chunks, 50% was asked; give the workload more turns"),
        (
            traffic(turns=4, reuse=0.1, shared_prefix_ratio=0.5),
            {},
            r"qa: shared prefix and 4 turns alone reuse \d+% of all chunks, 10% was asked; lower shared_prefix_ratio",
        ),
    ],
)
def test_reuse_that_cannot_be_had_is_refused_with_what_would_do(
    kind: Traffic, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        scenario(kind, **changes)


def test_what_a_refusal_advises_is_taken() -> None:
    kinds = (traffic(documents=3, reuse=0.85), traffic(name="b", reuse=0.0))
    with pytest.raises(WorkloadError, match=r"--mooncake-requests (\d+) or more") as refused:
        scenario(*kinds, requests=6)
    advised = int(str(refused.value).split("--mooncake-requests ")[1].split()[0])
    assert len(scenario(*kinds, requests=advised).layout) == advised


def test_kinds_are_mixed_evenly_in_proportion_to_their_weights() -> None:
    work = scenario(traffic(weight=3, documents=1, reuse=0.7), traffic(name="b", reuse=0.0, prompt={"scale": 0.5}))
    long = [request.prompt_tokens == 2560 for request in work.requests("n")]
    assert sum(long) == 30
    assert all(5 <= sum(long[i : i + 8]) <= 7 for i in range(32))


def test_a_kind_too_light_to_get_a_request_is_named() -> None:
    work = scenario(traffic(weight=1000, documents=1), traffic(name="rare", weight=1))
    assert work.layout.notes == ("rare: no request, its weight is too small for 40 requests",)


def test_outputs_vary_as_asked() -> None:
    work = scenario(traffic(documents=2, output={"shape": "uniform", "spread": 0.4}), output_tokens=100)
    outputs = [request.output_tokens for request in work.requests("n")]
    assert len(set(outputs)) > 20
    assert sum(outputs) / 40 == pytest.approx(100, abs=1)


def test_the_same_plan_gives_the_same_scenario_and_another_seed_another_order() -> None:
    kind = traffic(documents=4, prompt={"shape": "lognormal", "spread": 0.5})
    first, again, other = (scenario(kind, seed=seed).layout for seed in (1, 1, 2))
    assert first.path.tolist() == again.path.tolist()
    assert first.prompt_tokens.tolist() != other.prompt_tokens.tolist()


def test_the_servers_own_answer_stands_in_later_prompts_where_that_was_asked() -> None:
    work = scenario(traffic(turns=3, reuse=0.5, reply="real"), requests=6, output_tokens=20)
    planned = work.requests("n")
    first = next(request for request in planned if request.after is None)
    second = next(request for request in planned if request.after == first.index)
    before = planned[second.index].prompt
    assert first.body == {"return_token_ids": True}
    planned.answered(first.index, tuple(range(20)))
    after = planned[second.index].prompt
    start = len(first.prompt)
    assert after[start : start + 20] == tuple(range(20))
    assert (after[:start], after[start + 20 :]) == (before[:start], before[start + 20 :])
    assert work.requests("n", shift=1)[second.index].prompt == after
    assert work.requests("m")[second.index].prompt[start : start + 20] != tuple(range(20))


def test_an_answer_of_the_wrong_length_or_where_answers_are_fixed_changes_nothing() -> None:
    real = scenario(traffic(turns=3, reuse=0.5, reply="real"), requests=6, output_tokens=20).requests("n")
    fixed = scenario(traffic(turns=3, reuse=0.5), requests=6, output_tokens=20).requests("n")
    for planned, answer in ((real, tuple(range(19))), (fixed, tuple(range(20)))):
        before = [request.prompt for request in planned]
        planned.answered(0, answer)
        assert [request.prompt for request in planned] == before
    assert all(request.body == {} for request in fixed)


def test_text_made_of_counted_words_shares_what_token_ids_share() -> None:
    ids = scenario(traffic(documents=2), requests=12)
    words = Workload(ids.plan, ids.layout, WordPool(overhead_tokens=1))
    drowned = Workload(ids.plan, ids.layout, WordPool(overhead_tokens=2500))
    assert [len(str(request.prompt).split()) - 1 for request in drowned.requests("n")] == [60] * 12
    prompts = [str(request.prompt).split() for request in words.requests("n")]
    assert [len(prompt) for prompt in prompts] == ids.layout.prompt_tokens.tolist()
    assert unbounded_hits(prompts, 256) == ids.reuse(256).cold_hits.tolist()  # type: ignore[arg-type]  # words
