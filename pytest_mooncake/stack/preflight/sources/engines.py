"""An engine's configuration as it is in force, put together from its command, its environment and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pytest_mooncake.stack.preflight.configuration import Connector, EngineConfig, Fact, Facts, Part
from pytest_mooncake.stack.preflight.known import LMCACHE_KEYS
from pytest_mooncake.stack.preflight.sources.commands import Kind, Process, arguments_of, connectors_of
from pytest_mooncake.stack.preflight.sources.documents import facts_of
from pytest_mooncake.stack.preflight.values import json_mapping, version_key

__all__ = ["Placement", "engine_of"]

_CPU_ONLY = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND")
_OURS = re.compile(r"LMCACHE_([A-Z0-9_]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an engine runs.

    `whole_environment`: its environment is known in full, also where it is empty. `host` is the same for engines on
    one host; `services` are names that are no machine's own.
    """

    whole_environment: bool = False
    device: str | None = None
    memory_limit_bytes: int | None = None
    replicas: int = 1
    host: str | None = None
    services: frozenset[str] = frozenset()


_ANYWHERE = Placement()
_UNTOLD: Mapping[str, str] = {}


def engine_of(
    process: Process | None,
    *,
    name: str,
    lmcache: Facts | None,
    mooncake: Facts | None = None,
    versions: Mapping[str, str] = _UNTOLD,
    placement: Placement = _ANYWHERE,
) -> EngineConfig:
    """Return what is in force in an engine.

    Args:
        process: its command; None where nobody told it.
        name: what findings call it.
        lmcache: LMCache's YAML, None where nobody told it.
        mooncake: the file that MOONCAKE_CONFIG_PATH names, None where nobody told it.
        versions: of the parts, where they decide what an option means.
        placement: where it runs.
    """
    arguments = arguments_of(process.words, process.where) if process else {}
    kind, env = (process.kind, process.env) if process else (Kind.VLLM, {})
    transfer, connectors = connectors_of(arguments, kind, versions.get("vllm"))
    settings = in_force(lmcache or {}, env, connectors)
    engine = EngineConfig(
        name=name,
        program=kind.value,
        args=arguments,
        env=env,
        lmcache=settings,
        extra=_extra(settings, lmcache),
        mooncake=mooncake,
        connectors=connectors,
        transfer=transfer,
        device=placement.device or _device(arguments, env, versions),
        host=placement.host or _host(env),
        memory_limit_bytes=placement.memory_limit_bytes,
        replicas=placement.replicas,
        services=placement.services,
    )
    return replace(engine, unknown=_unknown(engine, process, lmcache, placement))


def _unknown(engine: EngineConfig, process: Process | None, lmcache: Facts | None, place: Placement) -> frozenset[Part]:
    known = lmcache_is_known(lmcache, engine.env, place.whole_environment, engine.connectors)
    store_known = engine.mooncake is not None or (known and "MOONCAKE_CONFIG_PATH" not in engine.env)
    if any(connector.name == "MooncakeStoreConnector" for connector in engine.connectors):
        store_known = engine.mooncake is not None
    missing = {
        Part.ARGS: process is None or "config" in engine.args,
        Part.ENV: not (place.whole_environment or engine.env),
        Part.LMCACHE: not known,
        Part.STORE: not store_known,
    }
    return frozenset(part for part, is_missing in missing.items() if is_missing)


def lmcache_is_known(
    lmcache: Facts | None, env: Facts, whole_environment: bool, connectors: tuple[Connector, ...]
) -> bool:
    """Whether LMCache's settings are known in full: without a file it takes the environment's and defaults."""
    if lmcache is not None:
        return True
    if "LMCACHE_CONFIG_FILE" in env:
        return False
    overridden = any(c.is_in_process_lmcache and any(k.startswith("lmcache.") for k in c.extra) for c in connectors)
    if any(variable_of(name) in LMCACHE_KEYS for name in env) or (overridden and env):
        return True
    return whole_environment and any(connector.is_in_process_lmcache for connector in connectors)


def variable_of(name: str) -> str:
    """Return the setting that a variable of the environment stands for.

    >>> variable_of("LMCACHE_LOCAL_CPU"), variable_of("PATH")
    ('local_cpu', '')
    """
    match = _OURS.fullmatch(name)
    return match[1].lower() if match else ""


def in_force(lmcache: Facts, env: Facts, connectors: tuple[Connector, ...]) -> dict[str, Fact]:
    """LMCache's settings: the YAML's, over them `LMCACHE_*`, over them `lmcache.*` of the connector."""
    found = dict(lmcache)
    for name, fact in env.items():
        key = variable_of(name)
        if key in LMCACHE_KEYS:
            found[key] = Fact(_unquoted(fact.value), f"{name} in {fact.where}")
    for connector in connectors:
        if connector.is_in_process_lmcache:
            for key, value in connector.extra.items():
                if key.startswith("lmcache."):
                    found[key[8:]] = Fact(value, f"{key} in {connector.where}")
    return found


def _unquoted(value: object) -> object:
    text = str(value).strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else value


def _extra(settings: Facts, lmcache: Facts | None) -> Facts:
    """`extra_config`, each key with its line where it stands in the YAML."""
    told = settings.get("extra_config")
    if told is None:
        return {}
    value = json_mapping(told.value) if isinstance(told.value, str) else told.value
    if not isinstance(value, Mapping):
        return {}
    own = lmcache is not None and lmcache.get("extra_config") is told
    return facts_of(value, told.where.rpartition(":")[0] if own else told.where)


def _device(arguments: Facts, env: Facts, versions: Mapping[str, str]) -> str | None:
    named = arguments.get("device") or env.get("VLLM_TARGET_DEVICE")
    if named is not None and named.value != "auto":
        return str(named.value)
    vllm = versions.get("vllm", "")
    if any(name in env for name in _CPU_ONLY) or (version_key(vllm) is not None and vllm.endswith("+cpu")):
        return "cpu"
    return None


def _host(env: Facts) -> str | None:
    """The host that an engine says to be on."""
    told = env.get("VLLM_HOST_IP") or env.get("HOST_IP")
    if told is None:
        return None
    try:
        return urlsplit(f"//{told.value}").hostname
    except ValueError:
        return None
