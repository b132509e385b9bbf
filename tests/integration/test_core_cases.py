"""Small inputs that a first version got wrong, each with its right answer.

Two more of them stand elsewhere: logs of others that a start deleted in `tests/unit/run/test_run_directory.py`, a
calibration server that is stopped in `test_load_calibration.py`; `/tokenize` that redirects in `test_border.py` too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pytest_mooncake.analysis.evidence.checks.correctness import gate_of, probe_evidence
from pytest_mooncake.analysis.evidence.round_evidence import round_evidence
from pytest_mooncake.analysis.figures.columns import columns_of
from pytest_mooncake.analysis.figures.summary import request_metrics, summarise_columns
from pytest_mooncake.analysis.regression.versus import NEW, OLD, compare_visits
from pytest_mooncake.cache.store_budget import check_budget
from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.prior_runs import past_of
from pytest_mooncake.journal import Journal
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.secrets.credentials import credentials_of
from pytest_mooncake.records import (
    Engine,
    Evidence,
    GateStatus,
    Kind,
    Phase,
    ProbeAnswer,
    ProbeRole,
    RequestRecord,
    Round,
    Scrape,
    StackView,
    Status,
    Store,
    Verdict,
)
from pytest_mooncake.run.instruments import _connections
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer

MS = 1_000_000
VIEW = StackView(
    name="a",
    provisioned=False,
    engines=(Engine(url="http://e", metrics_url="http://e/metrics"),),
    model="m",
    store=Store(master_url="http://m"),
)


def record(kind: Kind, index: int, *, tokens: int = 2049, **known: Any) -> RequestRecord:
    given = {"round": 0, "phase": Phase.CHAIN, "intended_ns": 0, "prompt_tokens": tokens, "output_tokens": 8, **known}
    return RequestRecord(kind=kind, index=index, prompt_tokens_planned=tokens, output_tokens_planned=8, **given)


def test_gaps_stand_and_itl_is_unknown_of_chunks_with_several_tokens_each() -> None:
    one = record(
        Kind.COLD, 0, sent_ns=MS, first_token_ns=10 * MS, last_token_ns=30 * MS, done_ns=31 * MS, output_tokens=12,
        chunk_ns=(10 * MS, 20 * MS, 30 * MS), chunk_tokens=(),
    )  # fmt: skip
    summary, metrics = summarise_columns(columns_of([one])), request_metrics(one)
    assert (summary.itl_ms.mean, metrics.itl_ms) == (None, None)
    assert summary.chunk_gap_ms.mean == pytest.approx(10)
    assert metrics.chunk_gap_ms == pytest.approx((10, 10))
    assert metrics.ttft_ms == pytest.approx(9)


def answer(role: ProbeRole, token: str = "a", *, cached: int | None, **known: Any) -> ProbeAnswer:
    said: dict[str, Any] = {"tokens": (token,), "logprobs": (-0.5,), "top": ({"a": -0.5, "b": -3.0},), **known}
    return ProbeAnswer(case="document", role=role, engine=0, prompt_tokens=1041, cached_tokens=cached, **said)


def test_a_refused_cache_salt_fails_nothing() -> None:
    salted = ProbeAnswer(
        case="document", role=ProbeRole.SALTED, engine=0, prompt_tokens=1041, error="HTTP 400: unknown field cache_salt"
    )
    answers = [answer(ProbeRole.COLD, cached=0), answer(ProbeRole.WARM, cached=1024), salted]
    checks = {one.id: one for one in probe_evidence(answers)}
    assert checks["cache_salt"].status is Status.UNAVAILABLE
    assert {one.id for one in checks.values() if one.status is Status.BROKEN} == set()
    assert gate_of(answers).status is GateStatus.MADE


@pytest.mark.parametrize("top", [(), ({},), (None,), None, ({"a": None},), ({"a": float("nan")},), ({"a": -0.5},)])
def test_another_token_without_alternatives_cannot_be_compared(top: Any) -> None:
    answers = [answer(ProbeRole.COLD, cached=0, top=top), answer(ProbeRole.WARM, "b", cached=1024, top=top)]
    text = next(one for one in probe_evidence(answers) if one.id == "correct_text")
    assert (text.status, gate_of(answers).status) == (Status.UNAVAILABLE, GateStatus.NOT_MADE)


def test_a_token_that_a_flat_list_does_not_hold_is_never_held() -> None:
    def flat(name: str) -> dict[str, float]:
        return {f"{name}{i}": -3.0 - 0.03 * i for i in range(5)}

    cold = answer(ProbeRole.COLD, "a0", cached=0, logprobs=(-3.0,), top=(flat("a"),))
    warm = answer(ProbeRole.WARM, "z0", cached=8, logprobs=(-3.0,), top=(flat("z"),))
    assert next(one for one in probe_evidence([cold, warm]) if one.id == "correct_text").status is Status.UNAVAILABLE


def visit(position: int, *, failed: bool) -> list[Round]:
    segment, rounds = OLD if position % 2 else NEW, []
    for kind, base in ((Kind.COLD, 1000), (Kind.WARM, 300)):
        requests = tuple(
            record(
                kind, i, phase=Phase.VERSUS, sent_ns=i * MS, first_token_ns=(i + base + position) * MS,
                last_token_ns=(i + base + position + 70) * MS, done_ns=(i + base + position + 70) * MS,
                chunk_ns=tuple((i + base + position + 10 * k) * MS for k in range(8)), chunk_tokens=(1,) * 8,
                cached_tokens=0 if kind is Kind.COLD else 2048, error="HTTP 500: boom" if failed and i == 0 else None,
            )
            for i in range(10)
        )  # fmt: skip
        rounds.append(
            Round(round=2 * position + (kind is Kind.WARM), kind=kind, phase=Phase.VERSUS, segment=segment,
                  position=position, nonce="x", started_ns=0, ended_ns=1, requests=requests)
        )  # fmt: skip
    return rounds


@pytest.mark.parametrize("last", [6, 7])
def test_failed_requests_of_a_new_endpoint_are_a_fail_and_never_not_slower(last: int) -> None:
    rounds = [one for position in range(1, last + 1) for one in visit(position, failed=position == 6)]
    found = compare_visits(rounds, (3, 4, 5))
    assert found is not None
    assert (found.verdict, found.is_decided, found.failed_new) == (Verdict.FAIL, False, 2)
    assert "2 requests of the new endpoint failed: FAIL (HTTP 500: boom)" in found.text


def test_a_store_that_a_file_names_is_filled_only_with_the_permission_that_an_option_needs(tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text(
        "kind: attached\nurls: [http://prod:8000]\nmaster_url: http://prod-master:9003\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match="--mooncake-allow-clear twice"):
        resolve(Options(stack="prod.yaml", steady=True), tmp_path)
    assert resolve(Options(stack="prod.yaml", steady=True, allow_clear="2"), tmp_path).steady


def test_a_record_of_a_later_version_stops_no_run(tmp_path: Path) -> None:
    plan = resolve(Options(url=("http://127.0.0.1:9",)), tmp_path)
    with Journal(tmp_path / "mooncake-report" / "latest", plan) as journal:
        known = {"name": "x", "provisioned": False, "engines": [], "model": "m", "store": None, "kv": None, "notes": []}
        journal.event("stack", view={**known, "a_field_of_the_next_version": 1})
    past = past_of(plan, tmp_path)
    assert past is None or past.assumed == ()


def engine(at: int, succeeded: float, prompts: float, external: float) -> Scrape:
    by, samples = "vllm:prompt_tokens_by_source_total", {}
    samples['vllm:request_success_total{finished_reason="length"}'] = succeeded
    samples["vllm:prompt_tokens_total"] = prompts
    samples[f'{by}{{source="external_kv_transfer"}}'] = external
    samples[f'{by}{{source="local_compute"}}'] = prompts - external
    samples[f'{by}{{source="local_cache_hit"}}'] = 0.0
    return Scrape(source="engine:0", at_ns=at, samples=samples)


def master(at: int, keys: float, hits: float, evicted: float = 0.0) -> Scrape:
    samples = {"master_key_count": keys, "mem_cache_hit_nums_": hits, "master_evicted_key_count": evicted}
    return Scrape(source="master", at_ns=at, samples=samples)


def a_round(
    kind: Kind, before: tuple[Scrape, ...], after: tuple[Scrape, ...], cached: int, *, tokens: int = 2049
) -> Round:
    return Round(
        round=int(kind is Kind.WARM), kind=kind, phase=Phase.CHAIN, segment=1, position=int(kind is Kind.WARM),
        nonce="x", started_ns=0, ended_ns=1, before=before, after=after,
        requests=tuple(record(kind, i, tokens=tokens, cached_tokens=cached) for i in range(10)),
    )  # fmt: skip


COLD = a_round(
    Kind.COLD,
    (engine(0, 0, 0, 0), master(0, 5000, 0)),
    (engine(1, 10, 20490, 0), master(1, 5080, 0)),
    0,
)


def broken(evidence: tuple[Evidence, ...]) -> list[str]:
    return [one.id for one in evidence if one.status is Status.BROKEN]


@pytest.mark.parametrize(
    ("before", "after", "evicted"),
    [(5079, 5079, 0), (5079, 5079, 1), (5080, 5070, 0), (5080, 5070, 10), (5080, 5200, 0)],
)
def test_keys_of_others_that_go_while_ours_are_served_are_nobodys_fault(
    before: float, after: float, evicted: float
) -> None:
    warm = a_round(
        Kind.WARM,
        (engine(2, 10, 20490, 0), master(2, before, 0)),
        (engine(3, 20, 40980, 20480), master(3, after, 80, evicted)),
        2048,
    )
    evidence = round_evidence(warm, VIEW, reference=COLD)
    assert broken(evidence) == []
    assert next(one for one in evidence if one.id == "warm_store_hits").status is Status.HELD


@pytest.mark.parametrize("reason", ["http://e/metrics: HTTP 503 instead of metrics", "no answer within 5 s"])
@pytest.mark.parametrize("source", ["engine:0", "master"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_counters_that_were_not_read_once_are_no_fault_of_the_product(reason: str, source: str, side: str) -> None:
    before, after = (engine(2, 10, 20490, 0), master(2, 5080, 0)), (engine(3, 20, 40980, 20480), master(3, 5080, 80))
    silent = Scrape(source=source, at_ns=9, samples={}, error=reason)
    warm = a_round(Kind.WARM, before, after, 2048)
    read = tuple(silent if one.source == source else one for one in getattr(warm, side))
    warm = replace(warm, before=read) if side == "before" else replace(warm, after=read)
    evidence = round_evidence(warm, VIEW, reference=COLD)
    assert broken(evidence) == []
    assert any(reason in one.detail for one in evidence if one.status is Status.UNAVAILABLE)


@pytest.mark.parametrize("block", [16, 128, 256, 1024])
def test_a_connector_that_leaves_the_last_of_whole_blocks_to_compute_is_healthy(block: int) -> None:
    stored, read, external = 10 * 2048 // block, 10 * (2048 // block - 1), 10 * (2048 - block)
    cold = a_round(
        Kind.COLD, (engine(0, 0, 0, 0), master(0, 0, 0)), (engine(1, 10, 20480, 0), master(1, stored, 0)), 0,
        tokens=2048,
    )  # fmt: skip
    warm = a_round(
        Kind.WARM,
        (engine(2, 10, 20480, 0), master(2, stored, 0)),
        (engine(3, 20, 40960, external), master(3, stored, read)),
        2048 - block,
        tokens=2048,
    )
    assert broken(round_evidence(warm, VIEW, reference=cold)) == []


def test_a_budget_that_cannot_be_kept_is_said_with_what_would_tell() -> None:
    said = check_budget(None, free_bytes=1e12, budget_bytes=1, provisioned=False)
    assert "--mooncake-store-budget cannot be kept: give --mooncake-hardware FILE" in said


def test_environment_values_of_a_stack_are_in_no_plan(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("kind: local\nengine: {extra_env: {HF_TOKEN: hf_secret}}\n", encoding="utf-8")
    assert "hf_secret" not in resolve(Options(stack="s.yaml"), tmp_path).model_dump_json()


def test_several_addresses_of_counters_may_be_given_for_one_url(tmp_path: Path) -> None:
    plan = resolve(Options(url=("http://a:1",), metrics=("http://a:2", "http://a:3")), tmp_path)
    assert "http://a:2" in str(plan.stack)
    assert "http://a:3" in str(plan.stack)


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_tokenize_takes_its_secrets_to_no_other_origin(status: int) -> None:
    asked: list[dict[str, str]] = []

    async def other(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        return web.json_response({"tokens": [1, 2, 3], "max_model_len": 9})

    async with serving(other) as elsewhere:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{elsewhere}/steal"})

        async with serving(redirect) as url:
            stack = StackPlan(name="a", kind="attached", urls=(url,), api_key_env="K", header_env="H")
            credentials = credentials_of(stack, {"K": "sk-secret", "H": "X-Gateway-Key: top-secret"})
            async with _connections(credentials) as http:
                told = ServerTokenizer(session=http, url=url, model="m", headers=credentials.headers)
                assert await told.tokenize("x") is None
    assert asked == []
