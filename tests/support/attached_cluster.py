"""An attached cluster that keeps prompts in units of its own: rounds with replies, and counters where it shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_mooncake.analysis.evidence.expected.formulae import HitRule, chunks_stored, external_tokens
from pytest_mooncake.analysis.evidence.round_evidence import round_evidence
from pytest_mooncake.records import Evidence, Fault, Kind, PlannedReuse, Round, Scrape, StackView, Status
from tests.support.scripted_world import record, view

ATTACHED = view(kv=None, provisioned=False)
DECISIVE = ("warm_external_tokens", "warm_cached_tokens", "warm_hit_share", "warm_store_hits")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a cluster is, and what it shows. `template` tokens stand in front of every prompt, in its own GPU cache."""

    chunk: int
    rule: HitRule = HitRule.LAST_TOKEN
    ranks: int = 1
    template: int = 0
    counts: bool = True
    tells: bool = True
    series: str = ""
    stored_before: float = 5000.0

    def external(self, prompt: int) -> int:
        return external_tokens(prompt, self.chunk, rule=self.rule, local_tokens=self.template)

    def reads(self, prompt: int) -> int:
        whole = prompt % self.chunk == 0 and self.rule is HitRule.LAST_CHUNK
        return chunks_stored(prompt, self.chunk) - whole

    def trial(
        self, prompts: Sequence[int], *, missed: Sequence[int] = (), others: float = 0.0, lost: float = 0.0
    ) -> tuple[Round, Round]:
        """A cold and a warm round; requests `missed` find nothing in the warm one.

        `others` keys are read by other tenants in the warm round, `lost` keys of theirs go between the rounds.
        """
        stored = self.ranks * sum(chunks_stored(prompt, self.chunk) for prompt in prompts)
        keys = self.stored_before + stored
        cold = self._round(Kind.COLD, prompts, [0] * len(prompts), keys=(self.stored_before, keys), read=0.0)
        found = [0 if i in missed else self.external(prompt) for i, prompt in enumerate(prompts)]
        read = self.ranks * sum(0 if i in missed else self.reads(prompt) for i, prompt in enumerate(prompts))
        warm = self._round(Kind.WARM, prompts, found, keys=(keys - lost, keys - lost), read=read + others)
        return cold, warm

    def _round(
        self, kind: Kind, prompts: Sequence[int], external: Sequence[int], *, keys: tuple[float, float], read: float
    ) -> Round:
        local = self.template
        cached = [local + one if self.tells else None for one in external]
        number = int(kind is Kind.WARM)
        sums = {"external_kv_transfer": sum(external), "local_cache_hit": local * len(prompts)}
        sums["local_compute"] = sum(prompts) - sum(sums.values())
        return replace(
            EMPTY,
            round=number,
            kind=kind,
            position=number,
            requests=tuple(
                record(i, prompt, cached[i], kind, ttft_ms=100 + 800 * (not external[i]))
                for i, prompt in enumerate(prompts)
            ),
            before=(*self._engine(prompts, number), *self._master(keys[0], 0.0)),
            after=(*self._engine(prompts, number + 1, sums), *self._master(keys[1], read)),
        )

    def _engine(self, prompts: Sequence[int], rounds: int, sums: dict[str, int] | None = None) -> tuple[Scrape, ...]:
        """Counters after so many rounds, the last of which served by `sums`; those before were cold."""
        if not self.counts:
            return ()
        local = self.template * len(prompts)
        computed = {"local_cache_hit": local, "local_compute": sum(prompts) - local}
        served = [computed] * (rounds - (sums is not None)) + ([sums] if sums is not None else [])
        samples = {
            f'vllm:prompt_tokens_by_source_total{{source="{source}"}}': float(sum(one.get(source, 0) for one in served))
            for source in ("external_kv_transfer", "local_cache_hit", "local_compute")
        }
        samples["vllm:prompt_tokens_total"] = float(rounds * sum(prompts))
        samples['vllm:request_success_total{finished_reason="length"}'] = float(rounds * len(prompts))
        if self.series:
            samples[self.series] = 1.0
        return (Scrape(source="engine:0", at_ns=0, samples=samples),)

    def _master(self, keys: float, read: float) -> tuple[Scrape, ...]:
        samples = {"master_key_count": keys, "mem_cache_hit_nums_": read, "master_evicted_key_count": 0.0}
        return (Scrape(source="master", at_ns=0, samples=samples),) if self.counts else ()


EMPTY = Round(
    round=0, kind=Kind.COLD, phase=record(0, 1, 0, Kind.COLD).phase, segment=1, position=0, nonce="n", started_ns=0,
    ended_ns=1, requests=(),
)  # fmt: skip


def evidence_of(
    this: Round, cold: Round | None, seen: StackView = ATTACHED, *, rounds: Sequence[Round] = ()
) -> dict[str, Evidence]:
    return {item.id: item for item in round_evidence(this, seen, reference=cold, rounds=rounds)}


def broken(found: dict[str, Evidence]) -> dict[str, Fault]:
    return {name: item.fault for name, item in found.items() if item.status is Status.BROKEN}


def statuses(found: dict[str, Evidence], names: Sequence[str] = DECISIVE) -> list[Status]:
    return [found[name].status for name in names]


def planned(requests: int, *, common_tokens: int | None, chunk_tokens: int = 16) -> PlannedReuse:
    """A plan of prompts that share nothing."""
    return PlannedReuse(
        requests=requests,
        chunk_tokens=chunk_tokens,
        chunks=requests,
        distinct_chunks=requests,
        cold_chunks=0,
        cold_cached_tokens=0,
        warm_cached_tokens=requests,
        common_tokens=common_tokens,
    )
