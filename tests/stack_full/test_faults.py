"""What happens in the field with HTTP 200, provoked on the real stack one by one: named by its cause, never a PASS."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from pytest_mooncake.cache.keys import run_tag
from pytest_mooncake.cache.run_keys import NONCE_DIGITS
from pytest_mooncake.errors import EndpointError, StackError, UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import StackView, Status, Verdict
from pytest_mooncake.workload.build import build
from pytest_mooncake.workload.tokens.nonce import round_nonce
from tests.support.sabotage import (
    PROMPT_TOKENS,
    Corrupter,
    assert_failed,
    broken,
    in_stack,
    lint_ids,
    plan_of,
    post,
    requests_of,
    run,
    running_store,
)

pytestmark = [pytest.mark.stack, pytest.mark.full]

CHUNK_TOKENS = 256

PLAIN_LMCACHE = """--kv-transfer-config={"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}"""
CPU_LMCACHE = (
    '--kv-transfer-config={"kv_connector":"LMCacheCPUConnector","kv_role":"kv_both",'
    '"kv_connector_module_path":"pytest_mooncake.stack.local.inside.connector"}'
)


@pytest.mark.parametrize("engines", [1, 2])
def test_a_healthy_stack_accounts_for_every_token_and_holds_the_correctness_gate(tmp_path: Path, engines: int) -> None:
    outcome = run(tmp_path, plan_of(tmp_path, f"engine:\n  count: {engines}\n"))
    assert broken(outcome) == {}
    invalid = [reason for trial in outcome.judgement.trials if not trial.valid for reason in trial.reasons]
    assert [reason for reason in invalid if "the client was" not in reason] == [], "a busy machine's fault at most"
    for row in outcome.judgement.details["attribution"]:
        assert row["unexplained_tokens"] == row["gpu_prefix_tokens"] == row["lmcache_cpu_tokens"] == 0
        assert row["prompt_tokens"] == row["tokens_sent"] == 6 * PROMPT_TOKENS
        assert row["mooncake_tokens"] == (6 * (PROMPT_TOKENS - 1) if row["kind"] == "warm" else 0)
    gate = {e.id: e.status for e in outcome.judgement.evidence if e.round is None}
    assert set(gate.values()) == {Status.HELD}
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    care = next(event for event in events if event["event"] == "store_care")
    assert care["sentences"] == []
    assert care["removed_keys"] > 6 * 9


def test_vllms_own_connector_is_accounted_for_by_its_own_formulae(tmp_path: Path) -> None:
    outcome = run(tmp_path, plan_of(tmp_path, "connector:\n  kind: mooncakestore\n  chunk_tokens: 128\n"))
    assert broken(outcome) == {}
    for row in outcome.judgement.details["attribution"]:
        assert row["unexplained_tokens"] == row["gpu_prefix_tokens"] == row["lmcache_cpu_tokens"] == 0
        assert row["mooncake_tokens"] == (6 * (PROMPT_TOKENS - 128) if row["kind"] == "warm" else 0)
    gate = {e.id: e for e in outcome.judgement.evidence if e.round is None}
    assert gate["correct_text"].status is Status.HELD
    assert gate["cached_at_chunk_edges"].status is Status.HELD
    assert "finds nothing" in gate["cache_salt"].observed, "the salt is part of this connector's keys"


def test_a_store_that_runs_is_joined_used_and_left_as_it_was_found(tmp_path: Path) -> None:
    with ExitStack() as held:
        store = running_store(held, tmp_path)
        theirs = store.keys()
        outcome = run(tmp_path, plan_of(tmp_path, **store.options))
        assert broken(outcome) == {}
        assert outcome.view.details["shared_store"]
        assert store.keys() == theirs, "all keys of the run are gone, and no key of the other tenant"
        assert [reason for reason in outcome.judgement.reasons if "stay in the store" in reason] == []


def test_clearing_a_store_with_somebody_elses_keys_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with ExitStack() as held:
        store = running_store(held, tmp_path)
        theirs = store.keys()
        with pytest.raises(UsageError, match="8 of them not from this run"):
            run(tmp_path, plan_of(tmp_path, allow_clear="1", **store.options))
        assert store.keys() == theirs


def test_a_store_that_is_not_there_is_said_before_an_engine_starts(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"mooncakestore://127\.0\.0\.1:1: .*RPC port"):
        run(tmp_path, plan_of(tmp_path, url=("mooncakestore://127.0.0.1:1",)))


def _store_what_comes_next(plan: Plan, view: StackView) -> None:
    """Send the prompts of the next cold round, as an earlier run with the same documents would have."""

    async def send() -> None:
        nonce = round_nonce(plan.run_id, 1)
        async with aiohttp.ClientSession() as http:
            workload = await build(plan.workload, view, http=http, headers={}, run_id=plan.run_id)
            prompts = [r.prompt for r in workload.requests(nonce, engines=1) if isinstance(r.prompt, tuple)]
            for body in requests_of(prompts, view.model, run_tag(plan.run_id, nonce[:NONCE_DIGITS])):
                async with http.post(
                    f"{view.engines[0].url}/v1/completions", data=body, headers={"Content-Type": "application/json"}
                ) as response:
                    assert response.status == 200

    in_stack(view, send)


def test_a_cold_round_that_was_warm_is_an_instrument_fault(tmp_path: Path) -> None:
    outcome = run(tmp_path, plan_of(tmp_path), {"left-out": _store_what_comes_next})
    assert outcome.judgement.verdict in {Verdict.INVALID, Verdict.INCONCLUSIVE}, (
        "the instrument's fault, not the cache's"
    )
    assert {"cold_no_external_hits", "cold_no_store_hits", "cold_no_cached_tokens"} <= set(broken(outcome))
    first = outcome.judgement.trials[0]
    assert not first.valid
    assert "the round was not cold" in " ".join(first.reasons)


def test_hits_of_the_gpu_prefix_cache_are_not_taken_for_the_stores(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "engine:\n  prefix_caching: true\n")
    outcome = run(tmp_path, plan)
    assert_failed(outcome, "warm_no_local_hits", "--no-enable-prefix-caching")
    warm = next(row for row in outcome.judgement.details["attribution"] if row["kind"] == "warm")
    assert warm["gpu_prefix_tokens"] > 0.9 * warm["prompt_tokens"]


def test_hits_of_lmcaches_cpu_memory_are_not_taken_for_the_stores(tmp_path: Path) -> None:
    outcome = run(tmp_path, plan_of(tmp_path, "connector:\n  local_cpu: true\n"))
    assert_failed(outcome, "warm_no_lmcache_cpu", "local_cpu: false")
    warm = next(row for row in outcome.judgement.details["attribution"] if row["kind"] == "warm")
    assert warm["lmcache_cpu_tokens"] == 6 * (PROMPT_TOKENS - 1)
    assert warm["mooncake_tokens"] == 0


def test_a_run_that_may_clear_empties_what_is_nearer_than_the_store_and_reads_the_store(tmp_path: Path) -> None:
    """The two faults above at once, with leave to clear: the counters then say that Mooncake served every hit.

    The correctness gate clears nothing: what it finds of the prefix cache, which knows no tenants, is no part of this.
    """
    nearer = "connector:\n  local_cpu: true\nengine:\n  prefix_caching: true\n"
    outcome = run(tmp_path, plan_of(tmp_path, nearer, allow_clear="1"))
    wrong = [e for e in outcome.judgement.evidence if e.status is Status.BROKEN and e.round is not None]
    assert wrong == [], "\n".join(outcome.judgement.reasons)
    warm = [row for row in outcome.judgement.details["attribution"] if row["kind"] == "warm"]
    assert warm
    for row in warm:
        assert row["gpu_prefix_tokens"] == row["lmcache_cpu_tokens"] == 0
        assert row["mooncake_tokens"] >= 6 * (PROMPT_TOKENS - CHUNK_TOKENS)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    outcomes = [one for event in events if event["event"] == "cleared" for one in event["outcome"]]
    assert {one["layer"] for one in outcomes} == {"engine", "connector", "store"}
    assert all(one["verified"] for one in outcomes), outcomes
    removed = [one["detail"] for one in outcomes if one["layer"] == "connector"]
    assert any(not detail.startswith("0 ") for detail in removed), "there was something to remove"


def test_preflight_names_the_cpu_tier_and_prefix_caching_before_anything_is_sent(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "connector:\n  local_cpu: true\nengine:\n  prefix_caching: true\n")
    assert {"E12", "W35"} <= lint_ids(tmp_path, plan)


def _wipe(_plan: Plan, view: StackView) -> None:
    assert view.store is not None
    post(f"{view.store.master_url}/api/v1/remove_all?force=true")


def test_a_store_wiped_between_the_rounds_is_named(tmp_path: Path) -> None:
    outcome = run(tmp_path, plan_of(tmp_path), {"C0": _wipe})
    assert_failed(outcome, "warm_store_hits", "somebody removed them")


def _kill_master(_plan: Plan, view: StackView) -> None:
    os.kill(view.details["pids"]["master"], signal.SIGKILL)


def test_a_master_killed_between_the_rounds_is_named(tmp_path: Path) -> None:
    outcome = run(tmp_path, plan_of(tmp_path), {"C0": _kill_master})
    reasons = "\n".join(outcome.judgement.reasons)
    assert outcome.judgement.verdict is Verdict.FAIL, reasons
    assert "master is no longer running" in reasons, reasons
    assert {"sources_answer", "warm_cached_tokens", "warm_hit_share"} <= set(broken(outcome)), reasons


def test_a_wrong_master_port_keeps_the_stack_from_ever_being_called_ready(tmp_path: Path) -> None:
    """Healthy by `/health`, and dead at the first prompt that stores."""
    wrong = tmp_path / "mooncake.json"
    settings = {
        "local_hostname": "127.0.0.1",
        "metadata_server": "P2PHANDSHAKE",
        "protocol": "tcp",
        "mooncake_master_server_addr": "127.0.0.1:1",
        "global_segment_size": 0,
        "local_buffer_size": 2**28,
        "save_chunk_meta": False,
    }
    wrong.write_text(json.dumps(settings), encoding="utf-8")
    plan = plan_of(tmp_path, f"engine:\n  extra_env:\n    MOONCAKE_CONFIG_PATH: {wrong}\n")
    with pytest.raises(StackError) as caught:
        run(tmp_path, plan)
    assert "vllm-0" in str(caught.value)
    assert "master address or port are wrong" in caught.value.details[0]


def test_a_connector_in_degraded_mode_stores_nothing_and_is_named(tmp_path: Path) -> None:
    """LMCache as released has no connector for CPUs: it says so in its log and recomputes with HTTP 200."""
    plan = plan_of(
        tmp_path, f"connector:\n  kind: none\nengine:\n  launcher: plain\n  extra_args: ['{PLAIN_LMCACHE}']\n"
    )
    outcome = run(tmp_path, plan)
    assert_failed(outcome, "cold_all_stored", "degraded")


def test_a_segment_too_small_for_the_working_set_is_named_as_evictions_or_a_full_pool(tmp_path: Path) -> None:
    small = "store:\n  nodes: 1\n  segment_bytes: 16777216\n"
    plan = plan_of(tmp_path, small, requests="24", store_budget="1GB")
    outcome = run(tmp_path, plan)
    reasons = "\n".join(outcome.judgement.reasons)
    assert outcome.judgement.verdict is Verdict.FAIL, reasons
    assert "the pool was full: raise global_segment_size" in reasons, reasons
    assert "the segments are too small" in reasons, reasons
    assert {"cold_all_stored", "no_evictions"} <= set(broken(outcome)), reasons


def test_a_need_above_the_store_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "store:\n  nodes: 1\n  segment_bytes: 16777216\n", requests="24")
    with pytest.raises(UsageError, match=r"the run would store 0\.0283 GB, the budget is"):
        run(tmp_path, plan)
    assert (tmp_path / "run" / "requests.jsonl").read_text() == ""


def test_two_engines_with_different_hash_seeds_never_find_each_others_chunks(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "engine:\n  count: 2\n  hash_seed: [0, 1]\n")
    outcome = run(tmp_path, plan)
    assert_failed(outcome, "warm_store_hits", "PYTHONHASHSEED")


def test_preflight_names_different_hash_seeds(tmp_path: Path) -> None:
    assert "E15" in lint_ids(tmp_path, plan_of(tmp_path, "engine:\n  count: 2\n  hash_seed: [0, 1]\n"))


def test_corrupted_objects_are_caught_by_the_correctness_gate(tmp_path: Path) -> None:
    """Halves of every object exchanged: right keys, right sizes, right counters, wrong values."""
    with ExitStack() as held:

        def corrupt(_plan: Plan, view: StackView) -> None:
            Corrupter(held, view, "part%gate-a")

        outcome = run(tmp_path, plan_of(tmp_path), {"left-out": corrupt})
    assert_failed(outcome, "correct_text", "what comes back is not what was stored")
    assert {e.id for e in broken(outcome).values() if e.round is not None} == set(), "no other evidence sees it"
