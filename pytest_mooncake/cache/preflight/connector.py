"""Lints of what joins engine and store: is it a connector that exists, works here, and is it the one we measure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_mooncake.cache.preflight.subject import EngineConfig, Finding, Severity, Subject, json_mapping

__all__ = ["RULES"]

SINCE = {
    "LMCacheConnectorV1": "0.8.5",
    "LMCacheMPConnector": "0.11.1",
    "MooncakeConnector": "0.13.0",
    "MooncakeStoreConnector": "0.21.0",
}
"""First vLLM release of each connector. Source: vLLM's `kv_connector/factory.py` by release."""

OTHERS = frozenset(
    {"DecodeBenchConnector", "ExampleConnector", "ExampleHiddenStatesConnector", "FlexKVConnectorV1"}
    | {"HF3FSKVConnector", "HiSparseConnector", "MoRIIOConnector", "MultiConnector", "NixlConnector"}
    | {"NixlPullConnector", "NixlPushConnector", "OffloadingConnector", "P2pNcclConnector"}
    | {"SharedStorageConnector", "SimpleCPUOffloadConnector"}
)
"""Connectors that vLLM has and this project has no formulae for."""


def e01(subject: Subject) -> Iterator[Finding]:
    """`--kv-transfer-config` is a JSON object with a connector that is known and a role."""
    for engine in subject.engines:
        text = engine.args.get("kv-transfer-config")
        wrong = _wrong_transfer(engine, text)
        if wrong:
            yield Finding(
                id="E01",
                severity=Severity.ERROR,
                what=f"{engine.name}: {wrong}",
                why="vLLM ends while starting, or serves without any cache",
                fix='--kv-transfer-config \'{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}\'',
            )


def _wrong_transfer(engine: EngineConfig, text: str | None) -> str | None:
    if text is None and not engine.knows("args"):
        return None
    if text is None:
        return "no --kv-transfer-config, so the engine knows no store"
    if json_mapping(text) is None:
        return "--kv-transfer-config is no JSON object"
    known = engine.connector in SINCE or engine.connector in OTHERS or "kv_connector_module_path" in engine.transfer
    if engine.connector is None or not known:
        return f"kv_connector {engine.connector!r} is unknown"
    return "kv_role is missing" if "kv_role" not in engine.transfer else None


def e02(subject: Subject) -> Iterator[Finding]:
    """The connector exists in this vLLM."""
    for engine in subject.engines:
        since = SINCE.get(engine.connector or "")
        if since and subject.below("vllm", since):
            yield Finding(
                id="E02",
                severity=Severity.ERROR,
                what=f"{engine.name}: {engine.connector} with vLLM {subject.versions['vllm']}",
                why=f"vLLM has it since {since} only; the pair cannot work",
                fix=f"vLLM {since} or newer",
            )


def w03(subject: Subject) -> Iterator[Finding]:
    """In-process LMCache on a vLLM that packs keys and values needs a proof of correctness."""
    if subject.at_least("vllm", "0.26.0") and any(
        e.is_in_process_lmcache and e.device != "cpu" for e in subject.engines
    ):
        yield Finding(
            id="W03",
            severity=Severity.WARNING,
            what=f"LMCacheConnectorV1 with vLLM {subject.versions['vllm']}",
            why="since 0.26 vLLM packs K and V, and hits were reported to return wrong text without any error "
            "(LMCache#4463, #4614)",
            fix="run acceptance/test_correctness.py and trust no figure before it passes, or use LMCacheMPConnector",
        )


def e04(subject: Subject) -> Iterator[Finding]:
    """LMCache as released has no connector for CPU engines."""
    for engine in subject.engines:
        if engine.device == "cpu" and engine.is_in_process_lmcache:
            yield Finding(
                id="E04",
                severity=Severity.ERROR,
                what=f"{engine.name}: LMCacheConnectorV1 on a CPU engine",
                why="it logs 'No supported cpu connector found' and recomputes everything with HTTP 200",
                fix="a connector of your own by kv_connector_module_path, or MooncakeStoreConnector",
            )


def w32(subject: Subject) -> Iterator[Finding]:
    """The policy for failed loads changed its default between releases."""
    for engine in subject.engines:
        silent = engine.transfer and engine.knows("args") and "kv_load_failure_policy" not in engine.transfer
        if silent and subject.at_least("vllm", "0.13.0"):
            yield Finding(
                id="W32",
                severity=Severity.WARNING,
                what=f"{engine.name}: kv_load_failure_policy is not set",
                why="its default is recompute in vLLM 0.13 to 0.15 and fail since 0.17: a lost chunk is a slow "
                "answer or a failed one",
                fix='"kv_load_failure_policy": "recompute" in --kv-transfer-config',
            )


def w35(subject: Subject) -> Iterator[Finding]:
    """The engine's own prefix cache answers before the store is asked."""
    for engine in subject.engines:
        on = engine.args.get("enable-prefix-caching", "true") != "false"
        told = engine.args if engine.knows("args") else "enable-prefix-caching" in engine.args
        if told and on and not subject.intent.resets_prefix_cache:
            yield Finding(
                id="W35",
                severity=Severity.WARNING,
                what=f"{engine.name}: prefix caching is on (vLLM's default)",
                why="the warm round is served by GPU memory and the store is never asked",
                fix="--no-enable-prefix-caching, or reset the prefix cache between the rounds",
            )


_KINDS = {
    "hybrid": re.compile(r"mamba|rwkv|linear_attention|deltanet|\b(gdn|ssm)(_|\b)"),
    "sparse-attention": re.compile(r"index_topk|indexer|\bnsa(_|\b)"),
    "multimodal": re.compile(r"vision_config|audio_config"),
}


def w37(subject: Subject) -> Iterator[Finding]:
    """Models whose cache is more than keys and values per token."""
    text = " ".join(f"{key} {value}" for key, value in subject.model_config.items()).lower()
    kinds = [kind for kind, marks in _KINDS.items() if marks.search(text)]
    kinds += ["speculative-decoding"] if any("speculative-config" in e.args for e in subject.engines) else []
    if kinds:
        yield Finding(
            id="W37",
            severity=Severity.WARNING,
            what=f"the model is of a kind that connectors serve badly: {', '.join(kinds)}",
            why="wrong text on shared prefixes or nothing stored was reported (LMCache#4247, #5002, vllm#45785)",
            fix="run acceptance/test_correctness.py; the store's formulae may not hold either",
        )


def w41(subject: Subject) -> Iterator[Finding]:
    """Tenants are not kept apart by `cache_salt` where LMCache runs in the engine."""
    if subject.intent.separates_tenants and any(e.uses_lmcache for e in subject.engines):
        yield Finding(
            id="W41",
            severity=Severity.WARNING,
            what="tenants share a store through LMCacheConnectorV1",
            why="cache_salt is not part of its keys: equal prompts of two tenants share one cache (LMCache#2878)",
            fix='send "kv_transfer_params": {"lmcache.tag.tenant": "<name>"} with every request',
        )


RULES = (e01, e02, w03, e04, w32, w35, w37, w41)
