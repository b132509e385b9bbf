"""Lints of what joins engine and store: is it a connector that exists, works here, and is it the one we measure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from pytest_mooncake.stack.preflight.configuration import Connector, EngineConfig, Fact, Part, Severity
from pytest_mooncake.stack.preflight.known import GONE, OTHERS, SINCE
from pytest_mooncake.stack.preflight.rule import Found, Look, rule
from pytest_mooncake.stack.preflight.values import json_mapping, version_key

ROLES = ("kv_producer", "kv_consumer", "kv_both")
POLICIES = ("recompute", "fail")
_TRANSFER = '--kv-transfer-config \'{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}\''


def _told(connector: Connector) -> Fact:
    return Fact(connector.name, connector.where)


def _is_vllm(engine: EngineConfig) -> bool:
    return engine.program == "vllm"


@rule(
    "E01",
    why="vLLM ends while starting, or serves without any cache",
    fix=_TRANSFER,
    versions="roles and policies: vLLM 0.13 and newer; V0 names are gone since 0.10",
    facts="vLLM `config/kv_transfer.py`, `kv_connector/factory.py`",
)
def connector_is_one(look: Look) -> Iterator[Found]:
    """The engine has a connector that vLLM takes, with a role and a policy that exist."""
    for engine in look.engines(Part.ARGS, when=_is_vllm):
        if engine.transfer is None:
            yield _without_connector(engine)
            continue
        if not engine.connectors and engine.transfer.name != "MultiConnector":
            yield Found(
                f"{engine.name}: which connector --kv-offloading-backend {engine.arg('kv-offloading-backend')} sets "
                "depends on vLLM's version",
                engine.args.get("kv-offloading-backend"),
                why="LMCacheMPConnector in vLLM 0.32 and newer, in-process before: other rules hold for each",
                fix="give --version vllm=X.Y.Z",
                severity=Severity.NOTE,
            )
            continue
        for connector in (engine.transfer, *(c for c in engine.connectors if c.inner)):
            for what in _refused(connector, look):
                yield Found(f"{engine.name}: {what}", _told(connector))


def _without_connector(engine: EngineConfig) -> Found:
    text = engine.args.get("kv-transfer-config")
    if text is not None and json_mapping(text.value) is None:
        return Found(f"{engine.name}: --kv-transfer-config is no JSON object", text)
    if "kv-offloading-backend" in engine.args:
        return Found(
            f"{engine.name}: --kv-offloading-backend without --kv-offloading-size, which switches it on",
            engine.args["kv-offloading-backend"],
            fix="--kv-offloading-size <GiB>",
        )
    return Found(f"{engine.name}: no --kv-transfer-config, so the engine knows no store", engine.args.get("model"))


def _refused(connector: Connector, look: Look) -> Iterator[str]:
    name, settings = connector.name, connector.settings
    if name is None:
        yield "kv_connector is missing"
    elif name in GONE and not _is_old(look):
        yield f"kv_connector {name!r} is vLLM's V0 one, which is gone since 0.10"
    elif (near := _other_case(name)) is not None:
        yield f"kv_connector {name!r} is unknown; it is spelt {near!r}"
    if "kv_role" not in settings:
        yield "kv_role is missing" + (f" for {name}" if connector.inner else "")
    elif settings["kv_role"] not in ROLES:
        yield f"kv_role {settings['kv_role']!r} is none of {', '.join(ROLES)}"
    if settings.get("kv_load_failure_policy", "fail") not in POLICIES:
        yield f"kv_load_failure_policy {settings['kv_load_failure_policy']!r} is none of {', '.join(POLICIES)}"
    if name == "MultiConnector" and not connector.extra.get("connectors"):
        yield "MultiConnector has no inner connectors (kv_connector_extra_config.connectors)"


def _is_old(look: Look) -> bool:
    """Whether vLLM is known to be from before V0 was removed; not knowing it is no reason to hold back."""
    known = version_key(look.subject.versions.get("vllm", ""))
    return known is not None and known < (0, 10)


def _other_case(name: str) -> str | None:
    return next((known for known in (*SINCE, *OTHERS) if known.lower() == name.lower() and known != name), None)


@rule(
    "E02",
    why="vLLM has the connector since a later release only; the pair cannot work",
    fix="a newer vLLM",
    versions="all releases of vLLM from 0.8.5 to 0.33",
    facts="vLLM `kv_connector/factory.py` by release",
)
def connector_exists(look: Look) -> Iterator[Found]:
    """The connector exists in this vLLM."""
    for engine in look.engines(when=lambda e: any(c.name in SINCE for c in e.connectors)):
        for connector in engine.connectors:
            since = SINCE.get(connector.name or "")
            if since and not connector.has_own_module and look.below("vllm", since):
                yield Found(
                    f"{engine.name}: {connector.name} with vLLM {look.subject.versions['vllm']}",
                    _told(connector),
                    why=f"vLLM has it since {since} only; the pair cannot work",
                    fix=f"vLLM {since} or newer",
                )


@rule(
    "W03",
    why="since 0.26 vLLM packs K and V, and hits were reported to return wrong text without any error "
    "(LMCache#4463, #4614)",
    fix="run acceptance/test_correctness.py and trust no figure before it passes, or use LMCacheMPConnector",
    versions="vLLM 0.26 and newer",
    facts="vllm#44455, LMCache#4463, #4467, #4614",
)
def packed_keys_and_values(look: Look) -> Iterator[Found]:
    """In-process LMCache on a vLLM that packs keys and values needs a proof of correctness."""
    engines = list(look.engines(when=lambda e: e.is_released_lmcache and e.device != "cpu"))
    if engines and look.at_least("vllm", "0.26.0"):
        yield Found(f"{engines[0].connector_name} with vLLM {look.subject.versions['vllm']}")


@rule(
    "E04",
    why="it logs 'No supported cpu connector found' and recomputes everything with HTTP 200",
    fix="a connector of your own by kv_connector_module_path, or MooncakeStoreConnector, or LMCacheMPConnector",
    versions="LMCache up to 0.5.6",
    facts="LMCache `gpu_connector/__init__.py`; LMCache#4268",
)
def cpu_engine(look: Look) -> Iterator[Found]:
    """LMCache as released has no in-process connector for CPU engines."""
    for engine in look.engines(when=lambda e: e.is_released_lmcache):
        if engine.device == "cpu":
            yield Found(f"{engine.name}: LMCacheConnectorV1 on a CPU engine")


@rule(
    "W32",
    why="its default is recompute in vLLM 0.13 to 0.15 and fail since 0.17: a lost chunk is a slow answer or a "
    "failed one",
    fix='"kv_load_failure_policy": "recompute" in --kv-transfer-config',
    versions="vLLM 0.13 and newer",
    facts="vLLM `config/kv_transfer.py` of 0.12 to 0.32",
)
def load_failure_policy(look: Look) -> Iterator[Found]:
    """The policy for failed loads changed its default between releases."""
    for engine in look.engines(Part.ARGS, when=lambda e: e.transfer is not None):
        silent = engine.transfer is not None and "kv_load_failure_policy" not in engine.transfer.settings
        if silent and look.at_least("vllm", "0.13.0"):
            yield Found(f"{engine.name}: kv_load_failure_policy is not set")


@rule(
    "W35",
    why="the warm round is served by GPU memory and the store is never asked",
    fix="--no-enable-prefix-caching, or reset the prefix cache between the rounds",
    facts="vLLM's default since 0.8",
)
def prefix_caching(look: Look) -> Iterator[Found]:
    """The engine's own prefix cache answers before the store is asked."""
    if look.subject.intent.resets_prefix_cache:
        return
    needs = () if any("enable-prefix-caching" in e.args for e in look.subject.engines) else (Part.ARGS,)
    for engine in look.engines(*needs, when=lambda e: e.program in {"vllm", "dynamo"}):
        told = engine.args.get("enable-prefix-caching")
        if (told is not None or engine.knows(Part.ARGS)) and (told is None or told.value != "false"):
            yield Found(f"{engine.name}: prefix caching is on" + ("" if told else " (vLLM's default)"), told)


_KINDS = {
    "hybrid": re.compile(r"mamba|rwkv|linear_attn|linear_attention|deltanet|\b(gdn|ssm)(_|\b)"),
    "sparse-attention": re.compile(r"index_topk|indexer|\bnsa(_|\b)"),
    "multimodal": re.compile(r"vision_config|audio_config"),
}
_NAMES = {
    "hybrid": re.compile(
        r"qwen3\.5|qwen3-next|jamba|mamba|bamba|zamba|rwkv|falcon-?h1|granite-4|nemotron-(h|nano-[v-]*2|3)|lfm2"
        r"|kimi-linear|minimax-(m1|text-01)|plamo-2|hymba|-linear-|olmo-hybrid|recurrentgemma|phi-4-mini-flash"
    ),
    "sparse-attention": re.compile(r"deepseek-v3\.2|deepseek-v4|glm-5"),
    "multimodal": re.compile(r"-vl\b|-vl-|llava|internvl|pixtral|-vision|-omni|qwen2-audio|-audio|whisper|molmo"),
}


@rule(
    "W37",
    why="wrong text on shared prefixes or nothing stored was reported (LMCache#4094, #4247, #5002, vllm#45785)",
    fix="run acceptance/test_correctness.py; the store's formulae may not hold either",
    facts="the model's config.json (--model-config), else its name",
)
def kind_of_model(look: Look) -> Iterator[Found]:
    """Models whose cache is more than keys and values per token."""
    kinds: dict[str, None] = {}
    config = look.subject.model_config
    if config is not None:
        look.see()
        text = " ".join(_words(config)).lower()
        kinds |= dict.fromkeys(kind for kind, marks in _KINDS.items() if marks.search(text))
    else:
        kinds |= dict.fromkeys(_kinds_by_name(look))
    if any(engine.args.keys() & {"speculative-config", "speculative-model"} for engine in look.subject.engines):
        kinds["speculative-decoding"] = None
    if kinds:
        by_name = " by its name" if config is None and set(kinds) - {"speculative-decoding"} else ""
        yield Found(f"the model is{by_name} of a kind that connectors serve badly: {', '.join(kinds)} model")


def _words(config: object, depth: int = 4) -> Iterator[str]:
    """All keys and texts of a config.json, as deep as models nest theirs."""
    if isinstance(config, dict) and depth:
        for key, value in config.items():
            # null, an empty list and 0 are how a shared configuration class says "not this model"
            if value not in (None, [], 0, ""):
                yield str(key)
                yield from _words(value, depth - 1)
    elif isinstance(config, list) and depth:
        for value in dict.fromkeys(str(value) for value in config[:1000]):
            yield value
    elif isinstance(config, str):
        yield config


def _kinds_by_name(look: Look) -> Iterator[str]:
    for engine in look.engines(when=lambda e: e.program in {"vllm", "dynamo"}):
        model = (engine.arg("model") or "").lower()
        found = [kind for kind, marks in _NAMES.items() if marks.search(model)]
        if not found and (not model or model.startswith(("/", ".", "$"))):
            look.give("--model-config FILE, the model's config.json")
        yield from found


@rule(
    "W41",
    why="cache_salt is not part of its keys: equal prompts of two tenants share one cache (LMCache#2878)",
    fix='send "kv_transfer_params": {"lmcache.tag.tenant": "<name>"} with every request',
    facts="LMCache `utils.py` CacheEngineKey; LMCache#2878, #4825",
)
def tenants(look: Look) -> Iterator[Found]:
    """Tenants are not kept apart by `cache_salt` where LMCache runs in the engine."""
    if look.subject.intent.separates_tenants:
        engines = list(look.engines(when=lambda e: e.uses_lmcache))
        if engines:
            yield Found(f"tenants share a store through {engines[0].connector_name or 'LMCacheConnectorV1'}")


@rule(
    "W46",
    why="a platform plugin or a later vLLM may have it: what it stores and counts is not known here, so nothing is "
    "judged that depends on it",
    fix="check the spelling; evidence for it ends at what the engine itself counts",
    facts="vLLM 0.33 `kv_connector/factory.py`",
)
def unknown_connector(look: Look) -> Iterator[Found]:
    """The connector is one that this tool knows."""
    known = {*SINCE, *OTHERS, *GONE}
    for engine in look.engines(when=lambda e: e.program == "sglang" and e.knows(Part.ARGS)):
        yield Found(
            f"{engine.name} is SGLang: the lints for vLLM and LMCache do not apply to it",
            why="its evidence ends at cached_tokens; what its HiCache is told is not judged here",
            fix="compare cached_tokens of cold and warm rounds",
            severity=Severity.NOTE,
        )
    for engine in look.engines(when=lambda e: bool(e.connectors)):
        for connector in engine.connectors:
            name = connector.name
            if name is None or name in known or connector.has_own_module or _other_case(name):
                continue
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f" (nearest: {near[0]})" if near else ""
            yield Found(f"{engine.name}: kv_connector {name!r} is unknown to this tool{hint}", _told(connector))


@rule(
    "W47",
    why="with kv_consumer LMCache never stores, with kv_producer it never loads",
    fix="kv_role: kv_both on the engines that are measured",
    facts="LMCache `vllm_v1_adapter.py` (force_skip_save); Mooncake#868, #878, LMCache#2213, #2471",
)
def roles(look: Look) -> Iterator[Found]:
    """Somebody in the pool stores, somebody loads, and prefill and decode engines are not measured as equals."""
    engines = list(look.engines(when=lambda e: any(c.role in ROLES for c in e.connectors)))
    prefill = [engine for engine in engines if _has_role(engine, "kv_producer")]
    decode = [engine for engine in engines if _has_role(engine, "kv_consumer")]
    if prefill and decode:
        yield _prefill_decode(prefill, decode)
    elif decode and _transfers(decode):
        yield Found(
            f"{_named(decode)} decodes what another engine has prefilled (kv_consumer)",
            why="a decode engine is served from outside in cold rounds too: its hits prove no cache",
            fix="take cold and warm evidence from the prefill engines",
        )
    else:
        yield from _one_sided(engines)
    for engine in engines:
        if (told := engine.env.get("LMCACHE_FORCE_SKIP_SAVE")) and told.value:
            yield Found(f"{engine.name}: LMCACHE_FORCE_SKIP_SAVE is set (to any text), so it never stores", told)


def _has_role(engine: EngineConfig, role: str) -> bool:
    return any(connector.role == role for connector in engine.connectors)


def _transfers(engines: list[EngineConfig]) -> bool:
    """Whether the role is that of a connector between engines, not of one to a store."""
    return any(c.role == "kv_consumer" and not c.is_store for engine in engines for c in engine.connectors)


def _one_sided(engines: list[EngineConfig]) -> Iterator[Found]:
    stores = [connector for engine in engines for connector in engine.connectors if connector.is_store]
    saving = [c for c in stores if c.role != "kv_consumer" or c.extra.get("save_decode_cache") is True]
    if stores and not saving:
        yield Found(
            f"no engine of the pool may store: kv_role is kv_consumer ({_named(engines)})",
            _told(stores[0]),
            why="nothing is stored with kv_consumer: a cold round on these engines leaves nothing for the warm one",
        )
    elif stores and all(c.role == "kv_producer" and c.is_in_process_lmcache for c in stores):
        yield Found(
            f"no engine of the pool may load: kv_role is kv_producer ({_named(engines)})",
            _told(stores[0]),
            why="LMCache asks the store for nothing with kv_producer: a warm round computes everything again",
        )


def _named(engines: list[EngineConfig]) -> str:
    return ", ".join(engine.name for engine in engines)


def _prefill_decode(prefill: list[EngineConfig], decode: list[EngineConfig]) -> Found:
    return Found(
        f"prefill and decode engines: {_named(prefill)} has kv_producer, {_named(decode)} has kv_consumer",
        why="a decode engine is served from outside in cold rounds too, and never stores with kv_consumer: measured as "
        "equals, they prove nothing",
        fix=f"take cold and warm evidence from the prefill engine ({_named(prefill)}), and give only the front as "
        "--mooncake-url",
    )


@rule(
    "E50",
    why="vLLM's MooncakeStoreConnector reads its settings from that file only, and ends while starting without it",
    fix="MOONCAKE_CONFIG_PATH=/path/mooncake.json in the engine's environment",
    versions="vLLM 0.21 and newer",
    facts="vLLM `distributed/mooncake_store.py`",
)
def config_path(look: Look) -> Iterator[Found]:
    """MooncakeStoreConnector is told where its settings are."""
    for engine in look.engines(when=lambda e: bool(e.connectors) and e.uses_own_store):
        if engine.mooncake is not None or "MOONCAKE_CONFIG_PATH" in engine.env:
            continue
        known = engine.knows(Part.ENV)
        yield Found(
            f"{engine.name}: MooncakeStoreConnector, and MOONCAKE_CONFIG_PATH is not set" + ("" if known else " here"),
            severity=None if known else Severity.NOTE,
        )
