"""The queue inside a simulated engine: one prefill at a time, first come first served; everybody decodes together.

Waiting, interference and closed-loop behaviour follow from that, so that Little's law and the coupling of TTFT, TPOT
and throughput hold as they do for a real engine. Times come from `SimulatedCost`; noise is seeded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.simulated.chunks import chained_hashes, external_hit, object_keys
from pytest_mooncake.stack.simulated.engine.metrics import EngineMetrics, PromptSplit
from pytest_mooncake.stack.simulated.faults import Faults
from pytest_mooncake.stack.simulated.geometry import bytes_per_token, served_name
from pytest_mooncake.stack.simulated.store import SimulatedStore

LOCAL_BLOCK_TOKENS = 128
"""vLLM's block size on a CPU."""
_CATCH_UP_S = 0.05
"""How far decoding may lag behind its schedule and still make up for it; beyond that the machine was starved."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One request inside an engine. `ready` counts the tokens of `output` that exist so far."""

    prompt: Sequence[int]
    output: list[int]
    finish_reason: str
    tags: Mapping[str, str] = field(default_factory=dict)
    skip_save: bool = False
    arrived_s: float = 0.0
    prefill_started_s: float = 0.0
    ready: int = 0
    stamps_s: list[float] = field(default_factory=list)
    split: PromptSplit | None = None
    aborted: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_complete(self) -> bool:
        """Whether every token exists."""
        return self.ready >= len(self.output)

    async def tokens_beyond(self, count: int) -> int:
        """Wait until more than `count` tokens exist and return how many do."""
        while self.ready <= count:
            self._changed.clear()
            await self._changed.wait()
        return self.ready

    def produce(self, now_s: float) -> None:
        """Add one token."""
        self.ready += 1
        self.stamps_s.append(now_s)
        self._changed.set()


class SimulatedEngine:
    """One engine over a shared store.

    Args:
        plan: cost model, connector, geometry.
        store: the store that all engines share.
        faults: `warm_misses`, `local_hits`, `wrong_text` and `slow_first_token` act here.
        index: number of the engine; enters its seed and its metrics' label.
    """

    def __init__(self, plan: StackPlan, store: SimulatedStore, faults: Faults, index: int = 0) -> None:
        self._model = served_name(plan)
        self.metrics = EngineMetrics(self._model)
        self._cost = plan.simulated
        self._connector = plan.connector
        self._max_running = plan.engine.max_num_seqs
        self._store = store
        self._faults = faults
        self._random = random.Random(f"{plan.simulated.seed}/{index}")  # noqa: S311 - noise, not secrets
        self._local: OrderedDict[str, None] = OrderedDict()
        self._keeps_local = plan.engine.prefix_caching or faults.local_hits
        self._local_blocks = plan.engine.kv_space_gb * 2**30 // (bytes_per_token(plan) * LOCAL_BLOCK_TOKENS)
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._prefilling: Job | None = None
        self._decoding: list[Job] = []
        self._decode_needed = asyncio.Event()
        self._slot_free = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prefill_forever())
            tasks.create_task(self._decode_forever())

    def submit(self, job: Job) -> None:
        """Put a request at the end of the queue."""
        job.arrived_s = time.perf_counter()
        self._queue.put_nowait(job)

    def abort(self, job: Job) -> None:
        """Forget a request whose client has gone away; nothing happens to a complete one."""
        if job.is_complete or job.aborted:
            return
        job.aborted = True
        if job in self._decoding:
            self._leave(job)
        self.metrics.count_finished("abort")

    def exposition(self) -> bytes:
        """Return `/metrics` of this moment."""
        waiting = self._queue.qsize()
        self.metrics.set_load(running=len(self._decoding) + (self._prefilling is not None), waiting=waiting)
        return self.metrics.exposition()

    async def _prefill_forever(self) -> None:
        while True:
            job = await self._queue.get()
            while len(self._decoding) >= self._max_running:
                self._slot_free.clear()
                await self._slot_free.wait()
            if job.aborted:
                continue
            self._prefilling = job
            try:
                await self._prefill(job)
            finally:
                self._prefilling = None

    async def _prefill(self, job: Job) -> None:
        job.prefill_started_s = time.perf_counter()
        split, missing = self._look_up(job)
        await asyncio.sleep(self._prefill_seconds(split))
        self.metrics.count_prompt(split, prefix_caching=self._keeps_local)
        self._store_later(missing)
        if self._faults.wrong_text and split.cached_tokens:
            job.output.reverse()
        job.split = split
        if not job.aborted:
            self._produce(job, time.perf_counter())
            if not job.is_complete:
                self._decoding.append(job)
                self._decode_needed.set()

    def _look_up(self, job: Job) -> tuple[PromptSplit, list[str]]:
        tokens, size = job.prompt, self._connector.chunk_tokens
        local = self._local_hit(tokens)
        if self._connector.kind == "none":
            return PromptSplit(
                prompt_tokens=len(tokens), local_tokens=local, external_tokens=0, queried_external_tokens=0
            ), []
        keys = object_keys(self._model, chained_hashes(tokens, size), job.tags)
        found = self._store.find(keys)
        external = external_hit(len(tokens), found, size, local)
        if external:
            self._store.read(keys[local // size : found])
        split = PromptSplit(
            prompt_tokens=len(tokens),
            local_tokens=local,
            external_tokens=external,
            queried_external_tokens=len(tokens) - local,
        )
        return split, [] if self._faults.warm_misses or job.skip_save else keys[found:]

    def _local_hit(self, tokens: Sequence[int]) -> int:
        if not self._keeps_local:
            return 0
        blocks = chained_hashes(tokens, LOCAL_BLOCK_TOKENS)
        found = next((place for place, block in enumerate(blocks) if block not in self._local), len(blocks))
        for block in blocks:
            self._local[block] = None
            self._local.move_to_end(block)
        while len(self._local) > self._local_blocks:
            self._local.popitem(last=False)
        return min(found, (len(tokens) - 1) // LOCAL_BLOCK_TOKENS) * LOCAL_BLOCK_TOKENS

    def _prefill_seconds(self, split: PromptSplit) -> float:
        cost = self._cost
        microseconds = (
            split.computed_tokens * cost.prefill_us_per_token + split.cached_tokens * cost.cached_us_per_token
        )
        seconds = (cost.base_ms * 1e-3 + microseconds * 1e-6) * self._random.lognormvariate(0.0, cost.noise)
        return seconds + (self._faults.slow_first_token or 0.0)

    def _store_later(self, keys: Sequence[str]) -> None:
        started = self._store.start_put(keys)
        delay_s = self._cost.store_delay_ms * 1e-3
        asyncio.get_running_loop().call_later(delay_s, self._store.end_put, started)

    async def _decode_forever(self) -> None:
        while True:
            await self._decode_needed.wait()
            due_s = time.perf_counter()
            while self._decoding:
                due_s = await self._until(due_s + self._step_seconds())
                for job in tuple(self._decoding):
                    self._produce(job, due_s)
            self._decode_needed.clear()

    def _step_seconds(self) -> float:
        slowdown = self._cost.decode_slowdown if self._prefilling else 1.0
        return self._cost.decode_ms_per_token * 1e-3 * slowdown

    @staticmethod
    async def _until(due_s: float) -> float:
        """Sleep until `due_s`; return it, or the present when the schedule cannot be caught up with."""
        now_s = time.perf_counter()
        await asyncio.sleep(max(0.0, due_s - now_s))
        return due_s if now_s - due_s < _CATCH_UP_S else now_s

    def _produce(self, job: Job, now_s: float) -> None:
        job.produce(now_s)
        self.metrics.count_tokens(1)
        if job.ready == 1:
            self.metrics.observe("time_to_first_token_seconds", now_s - job.arrived_s)
        if job.is_complete:
            self._leave(job)
            self._observe_finished(job)

    def _leave(self, job: Job) -> None:
        if job in self._decoding:
            self._decoding.remove(job)
        self._slot_free.set()

    def _observe_finished(self, job: Job) -> None:
        observe = self.metrics.observe
        first_s, last_s = job.stamps_s[0], job.stamps_s[-1]
        observe("request_queue_time_seconds", job.prefill_started_s - job.arrived_s)
        observe("request_prefill_time_seconds", first_s - job.prefill_started_s)
        observe("request_decode_time_seconds", last_s - first_s)
        observe("request_inference_time_seconds", last_s - job.prefill_started_s)
        observe("e2e_request_latency_seconds", last_s - job.arrived_s)
        if len(job.stamps_s) > 1:
            observe("request_time_per_output_token_seconds", (last_s - first_s) / (len(job.stamps_s) - 1))
        for earlier_s, later_s in zip(job.stamps_s, job.stamps_s[1:], strict=False):
            observe("inter_token_latency_seconds", later_s - earlier_s)
        self.metrics.count_finished(job.finish_reason)
