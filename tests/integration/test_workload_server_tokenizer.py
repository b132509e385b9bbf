from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from pytest_mooncake.errors import EndpointError, WorkloadError
from pytest_mooncake.plan.models import TraceSpec, WorkloadPlan
from pytest_mooncake.workload.build import build
from pytest_mooncake.workload.tokens.pools import TokenPool, WordPool
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer, fetch_token_pool, fetch_word_pool
from tests.support.tokenizer_server import Answer, one_token_a_word, serving, view_of


async def test_ordinary_ids_are_learnt_in_two_questions_without_the_marks_around_them() -> None:
    async with serving(one_token_a_word) as (tokenizer, asked):
        pool = await fetch_token_pool(tokenizer)
    assert pool is not None
    assert len(asked) == 2
    assert all(body["model"] == "m" and body["add_special_tokens"] is False for body in asked)
    assert min(pool.ids) >= 100
    assert len(pool.ids) > 500
    assert pool.max_model_len == 4096


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda _: {"detail": "Not Found"}, 404),
        (lambda _: "<html>welcome</html>", 200),
        (lambda _: {"tokens": "none"}, 200),
        (lambda _: {"tokens": [1, "2"]}, 200),
        (lambda _: [], 200),
    ],
)
async def test_a_server_without_a_usable_tokenizer_is_no_error(answer: Answer, status: int) -> None:
    async with serving(answer, status=status) as (tokenizer, _):
        assert await fetch_token_pool(tokenizer) is None
        assert await fetch_word_pool(tokenizer) is None


@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_refuses_us_is_an_error_that_names_the_option(status: int) -> None:
    async with serving(lambda _: {}, status=status) as (tokenizer, _):
        with pytest.raises(
            EndpointError, match=rf"/tokenize: HTTP {status}, access refused; give --mooncake-api-key-env"
        ):
            await fetch_token_pool(tokenizer)


async def test_a_server_that_is_gone_is_an_error_in_one_line() -> None:
    async with aiohttp.ClientSession() as session:
        gone = ServerTokenizer(session=session, url="http://127.0.0.1:1", model="m")
        with pytest.raises(EndpointError, match=r"^http://127\.0\.0\.1:1/tokenize refuses .*is the server up"):
            await fetch_token_pool(gone)


async def test_a_server_with_hardly_any_vocabulary_is_refused() -> None:
    async with serving(lambda body: {"tokens": [len(body["prompt"]) % 7]}) as (tokenizer, _):
        with pytest.raises(WorkloadError, match="64 are needed"):
            await fetch_token_pool(tokenizer)


async def test_single_token_words_are_found_with_the_template_around_them_in_few_questions() -> None:
    async with serving(one_token_a_word, chat=True) as (tokenizer, asked):
        pool = await fetch_word_pool(tokenizer)
    assert pool is not None
    assert pool.is_exact
    assert pool.overhead_tokens == 8  # seven of the template and the opener
    assert pool.max_model_len == 4096
    assert max(map(len, pool.words)) <= 8
    assert len(pool.words) > 64
    assert len(asked) < 210
    assert all(body["add_generation_prompt"] for body in asked)


async def test_a_server_where_words_are_never_single_tokens_gives_no_exact_text() -> None:
    async with serving(lambda body: {"tokens": [1] * len(body["prompt"])}) as (tokenizer, _):
        assert await fetch_word_pool(tokenizer) is None


async def test_a_workload_is_built_of_the_servers_own_tokens() -> None:
    plan = WorkloadPlan(name="w", prompt_tokens=300, output_tokens=4)
    async with serving(one_token_a_word) as (tokenizer, _):
        work = await build(plan, view_of(tokenizer.url), http=tokenizer.session, run_id="r")
    assert isinstance(work.pool, TokenPool)
    assert work.requests("n")[0].prompt_tokens == 300


async def test_a_workload_for_the_chat_interface_counts_what_the_server_counts() -> None:
    plan = WorkloadPlan(name="w", prompt_tokens=300, output_tokens=4)
    async with serving(one_token_a_word, chat=True) as (tokenizer, _):
        work = await build(plan, view_of(tokenizer.url), http=tokenizer.session, api="chat")
        request = work.requests("n")[0]
        assert await tokenizer.count(str(request.prompt)) == 300 == request.prompt_tokens


async def test_a_workload_for_a_bare_gateway_is_text_that_claims_no_length() -> None:
    plan = WorkloadPlan(name="w", prompt_tokens=300, output_tokens=4)
    async with serving(lambda _: {}, status=404) as (tokenizer, _):
        work = await build(plan, view_of(tokenizer.url), http=tokenizer.session)
    assert isinstance(work.pool, WordPool)
    assert work.requests("n")[0].prompt_tokens is None


async def test_a_workload_that_exceeds_the_models_context_is_refused() -> None:
    plan = WorkloadPlan(name="w", prompt_tokens=5000)
    async with serving(one_token_a_word) as (tokenizer, _):
        with pytest.raises(WorkloadError, match="the model takes 4096"):
            await build(plan, view_of(tokenizer.url), http=tokenizer.session)


async def test_a_trace_is_cut_to_the_context_that_the_tokenizer_tells_where_nobody_else_does(tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": 9000, "output_length": 8, "hash_ids": list(range(18))}
    (tmp_path / "day.jsonl").write_text(json.dumps(row), encoding="utf-8")
    plan = WorkloadPlan(name="t", kind="trace", trace=TraceSpec(path=str(tmp_path / "day.jsonl")))
    async with serving(one_token_a_word) as (tokenizer, _):
        work = await build(
            plan, replace(view_of(tokenizer.url), max_model_len=None), http=tokenizer.session, run_id="r"
        )
    assert work.requests("n")[0].prompt_tokens == 4096 - 8
