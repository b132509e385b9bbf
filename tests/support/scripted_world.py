"""A stack that consists of counters: rounds are played on it and every tier's counting is as the real one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_mooncake.analysis.evidence.expected.formulae import chunks_stored, external_tokens
from pytest_mooncake.records import (
    Engine,
    Kind,
    KVGeometry,
    Phase,
    RequestRecord,
    Round,
    Scrape,
    Settle,
    StackView,
    Store,
)

KV = KVGeometry(bytes_per_token=512, chunk_tokens=256, ranks=1)
OBJECT = 256 * 512
PROMPTS = (1024, 1000, 1024, 257)
CHUNKS = 4 + 3 + 4 + 1
EXTERNAL = 1023 + 768 + 1023 + 256
MS = 1_000_000

Tier = Literal["mooncake", "gpu", "lmcache_cpu", "none"]


def view(*, engines: int = 1, store: bool = True, kv: KVGeometry | None = KV, provisioned: bool = True) -> StackView:
    return StackView(
        name="made",
        provisioned=provisioned,
        engines=tuple(Engine(url=f"http://127.0.0.1:{8000 + i}", metrics_url="x") for i in range(engines)),
        model="tiny",
        store=Store(master_url="http://127.0.0.1:9003") if store else None,
        kv=kv,
    )


def _engine_zero() -> dict[str, float]:
    labels = 'engine="0",model_name="tiny"'
    zero = {f"vllm:{name}_total{{{labels}}}": 0.0 for name in _ENGINE_TOTALS}
    zero |= {f'vllm:prompt_tokens_by_source_total{{{labels},source="{s}"}}': 0.0 for s in _SOURCES}
    zero |= {f'vllm:request_success_total{{engine="0",finished_reason="{r}",model_name="tiny"}}': 0.0 for r in _REASONS}
    zero |= {f"vllm:request_prefill_time_seconds_{end}{{{labels}}}": 0.0 for end in ("sum", "count")}
    return zero | {f"vllm:num_requests_{state}{{{labels}}}": 0.0 for state in ("running", "waiting")}


_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
_REASONS = ("stop", "length", "abort", "error")
_ENGINE_TOTALS = ("prompt_tokens", "prompt_tokens_cached", "num_preemptions", "generation_tokens")
_MASTER = (
    "master_key_count",
    "master_allocated_bytes",
    "master_batch_put_start_items_total",
    "master_batch_put_start_failed_items_total",
    "master_batch_put_end_items_total",
    "master_put_start_requests_total",
    "master_put_end_requests_total",
    "master_batch_put_revoke_items_total",
    "master_put_start_discard_cnt",
    "master_put_start_alloc_failures_total",
    "master_evicted_key_count",
    "master_remove_requests_total",
    "master_remove_all_requests_total",
    "master_remove_by_regex_requests_total",
    "master_mount_segment_requests_total",
    "master_unmount_segment_requests_total",
    "master_remount_segment_requests_total",
    "mem_cache_hit_nums_",
    "mem_cache_hit_bytes_total",
)


@dataclass
class World:
    """Counters of `engines` engines and one master; `down` sources refuse, `hidden` ones are not scraped at all."""

    engines: int = 1
    down: dict[str, str] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.sources = {f"engine:{i}": _engine_zero() for i in range(self.engines)}
        self.sources["master"] = dict.fromkeys(_MASTER, 0.0)
        self.master["master_mount_segment_requests_total"] = 2.0
        self.master["master_key_count"] = 5.0
        self.master["mem_cache_hit_nums_"] = 5.0

    @property
    def master(self) -> dict[str, float]:
        return self.sources["master"]

    def add(self, source: str, start: str, amount: float, *, label: str = "") -> None:
        series = next(s for s in self.sources[source] if s.startswith(start) and label in s)
        self.sources[source][series] += amount

    def restart(self, source: str) -> None:
        self.sources[source] = dict.fromkeys(self.sources[source], 0.0)

    def scrapes(self) -> tuple[Scrape, ...]:
        self.now_ns += MS
        return tuple(
            Scrape(source=s, at_ns=self.now_ns, samples={}, error=self.down[s])
            if s in self.down
            else Scrape(source=s, at_ns=self.now_ns, samples=dict(samples))
            for s, samples in self.sources.items()
            if s not in self.hidden
        )

    def store(self, keys: int) -> None:
        """Store that many objects."""
        self.master["master_key_count"] += keys
        self.master["master_allocated_bytes"] += keys * OBJECT
        self.master["master_batch_put_start_items_total"] += keys
        self.master["master_batch_put_end_items_total"] += keys

    def hand_out(self, keys: int) -> None:
        """Answer reads of that many objects."""
        self.master["mem_cache_hit_nums_"] += keys
        self.master["mem_cache_hit_bytes_total"] += keys * OBJECT

    def serve(self, engine: int, prompt: int, tier: Tier, *, prefill_s: float | None = None) -> int:
        """Serve one prompt from a tier, count it everywhere and return its cached tokens."""
        name = f"engine:{engine}"
        cached = 0 if tier == "none" else external_tokens(prompt, KV.chunk_tokens)
        source = "local_cache_hit" if tier == "gpu" else "external_kv_transfer"
        by_source = "vllm:prompt_tokens_by_source_total"
        self.add(name, by_source, cached, label=source)
        self.add(name, by_source, prompt - cached, label="local_compute")
        self.add(name, "vllm:prompt_tokens_total", prompt)
        self.add(name, "vllm:prompt_tokens_cached_total", cached)
        self.add(name, "vllm:request_success_total", 1, label='"length"')
        seconds = prefill_s if prefill_s is not None else (prompt - cached) / 1000
        self.add(name, "vllm:request_prefill_time_seconds_sum", seconds)
        self.add(name, "vllm:request_prefill_time_seconds_count", 1)
        if tier == "mooncake":
            self.hand_out(chunks_stored(prompt, KV.chunk_tokens))
        return cached


def record(
    index: int, prompt: int, cached: int | None, kind: Kind, *, ttft_ms: float = 100, error: str | None = None
) -> RequestRecord:
    return RequestRecord(
        round=0,
        kind=kind,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=prompt,
        output_tokens_planned=4,
        intended_ns=0,
        sent_ns=0,
        first_token_ns=round(ttft_ms * MS),
        prompt_tokens=None if error else prompt,
        cached_tokens=None if error else cached,
        error=error,
    )


def play(
    world: World,
    kind: Kind,
    *,
    number: int = 0,
    tier: Tier | None = None,
    prompts: Sequence[int] = PROMPTS,
    stored: int | None = None,
    foreign: int = 0,
    failed: int = 0,
    settle: Settle | None = None,
    prefill_s: float | None = None,
) -> Round:
    """Play one healthy round, or one that differs by what the arguments say.

    Request i goes to engine i (cold) or i + 1 (warm). `foreign` further prompts are served for somebody else,
    `failed` of ours at the end fail before they reach an engine.
    """
    tier = tier or ("none" if kind is Kind.COLD else "mooncake")
    before = world.scrapes()
    records = []
    for i, prompt in enumerate(prompts):
        if i >= len(prompts) - failed:
            records.append(record(i, prompt, None, kind, error="connection refused"))
            continue
        engine = (i + (kind is Kind.WARM)) % world.engines
        cached = world.serve(engine, prompt, tier, prefill_s=prefill_s)
        records.append(record(i, prompt, cached, kind, ttft_ms=100 if cached else 900))
    for _ in range(foreign):
        world.serve(0, 1024, tier)
    if kind is Kind.COLD:
        world.store(sum(chunks_stored(p, KV.chunk_tokens) for p in prompts) if stored is None else stored)
    return Round(
        round=number,
        kind=kind,
        phase=Phase.CHAIN,
        segment=1,
        position=number,
        nonce=f"n{number}",
        started_ns=0,
        ended_ns=world.now_ns,
        requests=tuple(records),
        before=before,
        after=world.scrapes(),
        settle=settle,
    )


def without_cached_tokens(measured: Round) -> Round:
    return replace(measured, requests=tuple(replace(r, cached_tokens=None) for r in measured.requests))
