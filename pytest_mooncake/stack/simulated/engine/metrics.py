"""The counters of one simulated engine under vLLM's names (0.32), written by the same library that vLLM uses."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_LABELS = ("model_name", "engine")
_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
_FINISHED = ("stop", "length", "abort", "error")
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_inference_time_seconds",
)
_COUNTERS = (
    "prompt_tokens",
    "prompt_tokens_cached",
    "generation_tokens",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
)
_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSplit:
    """Where the tokens of one prompt came from; `queried_external` is what the connector was asked for."""

    prompt_tokens: int
    local_tokens: int
    external_tokens: int
    queried_external_tokens: int

    @property
    def cached_tokens(self) -> int:
        """Tokens that were not computed."""
        return self.local_tokens + self.external_tokens

    @property
    def computed_tokens(self) -> int:
        """Tokens that were."""
        return self.prompt_tokens - self.cached_tokens


class EngineMetrics:
    """One engine's `/metrics`. Every series exists from the start, at 0, as in vLLM.

    Args:
        model: value of the label `model_name`.
        engine: value of the label `engine`.
    """

    def __init__(self, model: str, engine: str = "0") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = {"model_name": model, "engine": engine}
        self._counters = {name: self._counter(name).labels(**labels) for name in _COUNTERS}
        self._gauges = {
            name: Gauge(f"vllm:{name}", name, _LABELS, registry=self.registry).labels(**labels) for name in _GAUGES
        }
        self._histograms = {
            name: Histogram(f"vllm:{name}", name, _LABELS, buckets=_SECONDS, registry=self.registry).labels(**labels)
            for name in _HISTOGRAMS
        }
        by_source = self._counter("prompt_tokens_by_source", "source")
        self._by_source = {source: by_source.labels(**labels, source=source) for source in _SOURCES}
        cached = self._counter("prompt_tokens_cached_by_source", "source")
        self._cached_by = {name: cached.labels(**labels, source=name) for name in ("device", "external_unspecified")}
        finished = self._counter("request_success", "finished_reason")
        self._finished = {reason: finished.labels(**labels, finished_reason=reason) for reason in _FINISHED}

    def _counter(self, name: str, *extra: str) -> Counter:
        return Counter(f"vllm:{name}", name, (*_LABELS, *extra), registry=self.registry)

    def count_prompt(self, split: PromptSplit, *, prefix_caching: bool) -> None:
        """Count the tokens of a prompt by where they came from."""
        self._counters["prompt_tokens"].inc(split.prompt_tokens)
        self._counters["prompt_tokens_cached"].inc(split.cached_tokens)
        self._counters["external_prefix_cache_queries"].inc(split.queried_external_tokens)
        self._counters["external_prefix_cache_hits"].inc(split.external_tokens)
        if prefix_caching:  # vLLM records nothing of a prefix cache that is switched off
            self._counters["prefix_cache_queries"].inc(split.prompt_tokens)
            self._counters["prefix_cache_hits"].inc(split.local_tokens)
        self._by_source["local_compute"].inc(split.computed_tokens)
        self._by_source["local_cache_hit"].inc(split.local_tokens)
        self._by_source["external_kv_transfer"].inc(split.external_tokens)
        self._cached_by["device"].inc(split.local_tokens)
        self._cached_by["external_unspecified"].inc(split.external_tokens)

    def count_tokens(self, count: int) -> None:
        """Count generated tokens."""
        self._counters["generation_tokens"].inc(count)

    def observe(self, name: str, seconds: float) -> None:
        """Observe a duration in the histogram `vllm:<name>`."""
        self._histograms[name].observe(seconds)

    def count_finished(self, reason: str) -> None:
        """Count a request that ended for `reason` (stop, length, abort, error)."""
        self._finished[reason].inc()

    def set_load(self, *, running: int, waiting: int) -> None:
        """Set the gauges of requests in the engine."""
        self._gauges["num_requests_running"].set(running)
        self._gauges["num_requests_waiting"].set(waiting)

    def exposition(self) -> bytes:
        """Return everything as Prometheus text 0.0.4."""
        return generate_latest(self.registry)
