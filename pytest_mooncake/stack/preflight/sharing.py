"""Lints of what all engines of one pool must have in common, else they never find each other's chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from pytest_mooncake.stack.preflight.configuration import EngineConfig, Fact, Part, Severity
from pytest_mooncake.stack.preflight.known import HASHES
from pytest_mooncake.stack.preflight.rule import Found, Look, rule
from pytest_mooncake.stack.preflight.values import is_true, version_key, whole_number

_NO_SEED = {None, "random", ""}


def _differ(engines: Sequence[EngineConfig], read: Callable[[EngineConfig], object]) -> str | None:
    """Say which engine has which value when they differ."""
    values = {engine.name: read(engine) for engine in engines}
    if len({str(value) for value in values.values()}) < 2:
        return None
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _chunk_tokens(engine: EngineConfig) -> int | None:
    value = engine.setting("chunk_size")
    return 256 if value is None else whole_number(value)


@rule(
    "E14",
    why="keys of different chunks never match, and chunks that end within a block cannot be loaded",
    fix="one chunk_size for all, a multiple of --block-size",
    facts="LMCache `token_database.py`, `config.py`",
)
def chunks(look: Look) -> Iterator[Found]:
    """One chunk size, and whole blocks in a chunk."""
    engines = list(look.lmcache())
    if different := _differ(engines, _chunk_tokens):
        yield Found(f"chunk_size differs ({different})", engines[0].lmcache.get("chunk_size"))
    for engine in engines:
        block, tokens = whole_number(engine.arg("block-size")), _chunk_tokens(engine)
        if tokens == 0:
            yield Found(f"{engine.name}: chunk_size is 0", engine.lmcache.get("chunk_size"))
        elif block and tokens and tokens % block:
            yield Found(
                f"{engine.name}: chunk_size {tokens} is no multiple of --block-size {block}",
                engine.lmcache.get("chunk_size"),
                fix=f"chunk_size: {(tokens // block + 1) * block}",
            )


@rule(
    "E15",
    why="another engine, or this one restarted, never finds what is stored",
    fix="PYTHONHASHSEED=0 in every process, and pre_caching_hash_algorithm: sha256_cbor",
    versions="vLLM below 0.29: the seed, whatever the algorithm; 0.29 and newer: for all but sha256 and sha256_cbor",
    facts="vLLM `v1/core/kv_cache_utils.py` (NONE_HASH), LMCache `token_database.py`; vllm#51875, LMCache#1095, #2597",
)
def hashes(look: Look) -> Iterator[Found]:
    """One hash of chunks in every process, from one seed."""
    engines = list(_hashing(look))
    if different := _differ([e for e in engines if e.uses_lmcache], _algorithm):
        yield Found(
            f"hash algorithms differ ({different})", why="equal prompts get different keys", fix="one algorithm for all"
        )
    unknown = [engine for engine in engines if _algorithm(engine) not in HASHES]
    for engine in unknown:
        yield Found(
            f"{engine.name}: vLLM has no hash {_algorithm(engine)}",
            engine.lmcache.get("pre_caching_hash_algorithm"),
            why="LMCache falls back to Python's builtin hash() with one log line",
            fix="pre_caching_hash_algorithm: sha256_cbor",
        )
    seeded = [e for e in engines if e.knows(Part.ENV)]
    for engine in engines:
        if not engine.knows(Part.ENV):
            look.give("the environment of the engines (PYTHONHASHSEED)")
    yield from _seeds(look, seeded)


def _hashing(look: Look) -> Iterator[EngineConfig]:
    """Engines whose keys come from hashes that are made in the engine."""
    yield from look.lmcache()
    yield from look.engines(when=lambda e: e.uses_own_store and bool(e.connectors))


def _algorithm(engine: EngineConfig) -> str:
    """The hash of keys by vLLM's name, `sha256_cbor_64bit` being one that LMCache maps to `sha256_cbor`."""
    told = engine.setting("pre_caching_hash_algorithm") if engine.uses_lmcache else None
    default = "builtin" if engine.uses_lmcache else engine.arg("prefix-caching-hash-algo", "sha256")
    name = str(told or default)
    return "sha256_cbor" if name == "sha256_cbor_64bit" else name


def _seeds(look: Look, engines: Sequence[EngineConfig]) -> Iterator[Found]:
    if not engines:
        return
    seeds = {engine.variable("PYTHONHASHSEED") for engine in engines}
    if len(seeds) < 2 and not seeds & _NO_SEED:
        return
    said = ", ".join(f"{engine.name}: {engine.variable('PYTHONHASHSEED') or 'not set'}" for engine in engines)
    what = f"PYTHONHASHSEED is not one number everywhere ({said})"
    told = next((fact for engine in engines if (fact := engine.env.get("PYTHONHASHSEED"))), None)
    fixed = all(_algorithm(engine) in {"sha256", "sha256_cbor"} for engine in engines)
    if seeds - _NO_SEED or not fixed:
        yield Found(what, told, why=f"keys are hashed from it: {_LOST}")
    elif not look.tells("vllm"):
        yield Found(
            f"depends on vLLM's version: {what}",
            why=f"vLLM below 0.29 starts its hashes from random bytes without it, whatever the algorithm: {_LOST}",
            fix="PYTHONHASHSEED=0 in every process, or give --version vllm=X.Y.Z",
            severity=Severity.NOTE,
        )
    elif look.below("vllm", "0.29.0"):
        yield Found(
            what,
            why=f"vLLM {look.subject.versions['vllm']} starts its hashes from random bytes without it (NONE_HASH), "
            f"whatever pre_caching_hash_algorithm is: {_LOST}",
        )


_LOST = "another engine, or this one restarted, never finds what is stored"


def _serves(engine: EngineConfig) -> bool:
    return engine.program in {"vllm", "dynamo"}


_IN_KEYS: tuple[tuple[str, Callable[[EngineConfig], object]], ...] = (
    ("--model", lambda e: e.arg("model")),
    ("--dtype", lambda e: e.arg("dtype", "auto")),
    ("--kv-cache-dtype", lambda e: e.arg("kv-cache-dtype", "auto")),
    ("TP × PP", lambda e: e.ranks),
)


@rule(
    "E16",
    why="it is part of the key, as it is spelt: these engines never share a chunk",
    fix="the same on every engine",
    facts="LMCache `utils.py` CacheEngineKey; vLLM `mooncake/store/data.py`",
)
def in_keys(look: Look) -> Iterator[Found]:
    """Model, data types and ranks stand in the keys."""
    if len(look.subject.engines) < 2:
        return
    engines = list(look.engines(Part.ARGS, when=_serves))
    for name, read in _IN_KEYS:
        if different := _differ(engines, read):
            yield Found(f"{name} differs ({different})", fix=f"the same {name} on every engine")


@rule(
    "E18",
    why="objects with and without a header are read as each other: wrong bytes",
    fix="the same save_chunk_meta everywhere (false: no copy)",
    facts="LMCache `connector/base_connector.py`: read from extra_config alone, MOONCAKE_CONFIG_PATH or not",
)
def headers(look: Look) -> Iterator[Found]:
    """Writers and readers agree on the header of an object."""
    if len(look.subject.engines) < 2:
        return
    engines = list(look.lmcache())

    def saves(engine: EngineConfig) -> bool:
        told = engine.extra.get("save_chunk_meta")
        return told is None or told.value is None or is_true(told.value)

    if different := _differ(engines, saves):
        told = next((fact for e in engines if (fact := e.extra.get("save_chunk_meta"))), None)
        yield Found(f"save_chunk_meta differs ({different})", told)


_NOWHERE = re.compile(r"(0\.0\.0\.0|::|\[::\])$")
_LOOPBACK = re.compile(r"(localhost|127\..*|::1|\[::1\])$", re.IGNORECASE)
_SERVICE = re.compile(r"[^.]+\.[^.]+\.svc(\..*)?$", re.IGNORECASE)
"""`service.namespace.svc…`; a pod behind a headless Service has one more label in front."""


def _own(engine: EngineConfig) -> tuple[str, Fact] | None:
    """The address under which an engine's segment is to be found."""
    told = engine.store_settings.get("mooncake_local_hostname") or engine.store_settings.get("local_hostname")
    if told is None or not told.value:
        return None
    return re.sub(r"(?<=[^:]):\d+$", "", str(told.value)), told


def _host_of(address: str) -> str:
    text = address if "://" in address else f"//{address}"
    try:
        return urlsplit(text).hostname or ""
    except ValueError:
        return ""


@rule(
    "E23",
    why="the other hosts look for its segment on themselves",
    fix="local_hostname: the address under which the other hosts reach this one",
    facts="Mooncake#736, #809, #1115",
)
def localhost(look: Look) -> Iterator[Found]:
    """A segment that calls itself localhost is found from no other host."""
    engines = list(look.stores())
    if not _on_several_hosts(look):
        return
    for engine in engines:
        if (own := _own(engine)) and _LOOPBACK.match(own[0]):
            yield Found(f"{engine.name}: local_hostname is {own[0]}, and the engines run on several hosts", own[1])


@rule(
    "W42",
    why="others find its segment under that name and reach nobody, or somebody else: stored, never hit",
    fix="local_hostname: this pod's or host's own address (the downward API's status.podIP, $(hostname -i))",
    facts="LMCache#1957, #2493; Mooncake#736, #1115",
)
def own_address(look: Look) -> Iterator[Found]:
    """An engine's own address is one under which others reach it, and only it."""
    for engine in look.stores():
        own = _own(engine)
        if own is None:
            continue
        name, told = own
        remote = [m for m in look.subject.masters if (h := _host_of(m)) and not _LOOPBACK.match(h)]
        if _NOWHERE.match(name):
            what = "an address that nobody else can reach"
        elif _LOOPBACK.match(name) and remote and engine.segment_bytes and not _on_several_hosts(look):
            what = f"beside a master elsewhere ({remote[0]}): from there it is another host"
        elif _SERVICE.match(name) or name.partition(".")[0] in engine.services:
            what = "a Kubernetes Service's name, which is no pod's own address: it leads to any of them"
        else:
            continue
        yield Found(f"{engine.name}: local_hostname is {name}, {what}", told)


def _on_several_hosts(look: Look) -> bool:
    engines = look.subject.engines
    return len({engine.host for engine in engines if engine.host}) > 1 or any(e.replicas > 1 for e in engines)


@rule(
    "E25",
    why="a client cannot read a segment of another transport (NotSupportedTransport)",
    fix="the same protocol for all clients of a pool",
    facts="Mooncake#553; defaults: LMCache tcp, MooncakeStoreConnector rdma",
)
def transports(look: Look) -> Iterator[Found]:
    """One transport for a pool."""
    if len(look.subject.engines) < 2:
        return
    if different := _differ(list(look.stores()), lambda engine: engine.protocol):
        yield Found(f"protocol differs ({different})")


@rule(
    "W36",
    why="a warm round goes to another engine than the cold one, and their TTFT cannot be compared",
    fix="the same on every engine",
    facts="vLLM `config/scheduler.py`",
)
def prefill(look: Look) -> Iterator[Found]:
    """How prefill is cut decides TTFT."""
    if len(look.subject.engines) < 2:
        return
    engines = list(look.engines(Part.ARGS, when=_serves))
    for name in ("max-num-batched-tokens", "enable-chunked-prefill"):

        def read(engine: EngineConfig, name: str = name) -> object:
            return engine.arg(name, "default")

        if different := _differ(engines, read):
            yield Found(f"--{name} differs ({different})", fix=f"the same --{name} on every engine")


@rule(
    "W40",
    why="their messages change between versions ('invalid rpc arg', LMCache#1518)",
    fix="the same version on both sides",
    facts="Mooncake's deployment guide; LMCache#1518",
)
def one_mooncake(look: Look) -> Iterator[Found]:
    """Client and master of one version."""
    if not any(engine.uses_lmcache or engine.uses_own_store for engine in look.subject.engines):
        return
    client, master = (look.subject.versions.get(part) for part in ("mooncake", "mooncake-master"))
    if version_key(client or "") is None or version_key(master or "") is None:
        look.give("--version mooncake=X.Y.Z --version mooncake-master=X.Y.Z")
    elif client != master:
        yield Found(f"Mooncake client {client}, master {master}")
    else:
        look.see()
