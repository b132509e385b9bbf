"""Lints of keys that nobody reads and of values that nobody can read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pytest_mooncake.stack.preflight.configuration import EngineConfig, Fact, Facts, Part
from pytest_mooncake.stack.preflight.known import (
    EXTRA_KEYS,
    FLOATS,
    INTEGERS,
    LMCACHE_KEYS,
    LMCACHE_VARIABLES,
    MP_ADAPTER_KEYS,
    OWN_STORE_KEYS,
    PROTOCOLS,
    SWITCHES,
    is_extra_key,
    is_variable,
    nearest,
)
from pytest_mooncake.stack.preflight.rule import Found, Look, rule
from pytest_mooncake.stack.preflight.values import json_mapping, number, size_bytes, whole_number

_OLD_ADAPTER_KEYS = {"master_server_address": "master_server_addr", "device_name": "rdma_devices"}


@rule(
    "E07",
    why="MP mode hands its keys to Mooncake as they are, and Mooncake knows none of these",
    fix="master_server_addr and rdma_devices, without a prefix",
    versions="LMCache 0.4.5 and newer",
    facts="LMCache `l2_adapters/mooncake_store_l2_adapter.py`",
)
def adapter_keys(look: Look) -> Iterator[Found]:
    """LMCache's MP mode forwards keys as they are: no prefix, no old name."""
    server = look.subject.mp_server
    if server is None:
        if any(engine.uses_mp for engine in look.subject.engines):
            look.give("--lmcache-server-args FILE, the MP server's command")
        return
    look.see()
    for told in server.unreadable:
        yield Found(
            "--l2-adapter is no JSON object",
            told,
            why="the MP server ends while starting",
            fix='--l2-adapter \'{"type":"mooncake_store",…}\'',
        )
    for adapter in _mooncake_adapters(look):
        wrong = {key: adapter[key] for key in adapter if key.startswith("mooncake_") or key in _OLD_ADAPTER_KEYS}
        if wrong:
            right = [_OLD_ADAPTER_KEYS.get(k.removeprefix("mooncake_"), k.removeprefix("mooncake_")) for k in wrong]
            yield Found(
                f"LMCache MP adapter mooncake_store: {', '.join(sorted(wrong))}",
                next(iter(wrong.values())),
                fix=" and ".join(sorted(right)),
            )


def _mooncake_adapters(look: Look) -> tuple[Facts, ...]:
    adapters = look.subject.mp_server.adapters if look.subject.mp_server else ()
    return tuple(adapter for adapter in adapters if "type" in adapter and adapter["type"].value == "mooncake_store")


@rule(
    "W44",
    why="nobody reads it: one line in a log, and the default stays in force",
    fix="spell it as the nearest one that is known, or remove it",
    versions="LMCache 0.5.6 (108 settings, old names included), Mooncake 0.3.13, vLLM 0.33",
    facts="LMCache `config.py`, `mooncakestore_connector.py`; vLLM `distributed/mooncake_store.py`",
)
def unknown_keys(look: Look) -> Iterator[Found]:
    """Every key is one that LMCache, Mooncake or MooncakeStoreConnector reads."""
    for engine in look.engines(when=lambda e: bool(e.lmcache or e.extra or e.mooncake)):
        yield from _unknown_of_lmcache(engine)
        if engine.mooncake:
            yield from _unknown_of_file(engine, engine.mooncake)
    for adapter in _mooncake_adapters(look):
        look.see()
        names = [k for k in adapter if not k.startswith("mooncake_") and k not in _OLD_ADAPTER_KEYS]
        yield from _unknown("LMCache MP adapter mooncake_store", "Mooncake", adapter, names, MP_ADAPTER_KEYS)


def _unknown_of_lmcache(engine: EngineConfig) -> Iterator[Found]:
    if not engine.uses_lmcache:
        return
    who = "LMCache 0.5.6"
    yield from _unknown(engine.name, who, engine.lmcache, engine.lmcache, LMCACHE_KEYS)
    names = [key for key in engine.extra if not is_extra_key(key)]
    yield from _unknown(f"{engine.name}: extra_config", who, engine.extra, names, EXTRA_KEYS)
    prefix = "LMCACHE_"
    variables = [n for n in engine.env if n.startswith(prefix) and not is_variable(n.removeprefix(prefix))]
    known = {f"{prefix}{key.upper()}" for key in LMCACHE_KEYS} | {f"{prefix}{name}" for name in LMCACHE_VARIABLES}
    yield from _unknown(engine.name, who, engine.env, variables, known)


def _unknown_of_file(engine: EngineConfig, facts: Facts) -> Iterator[Found]:
    if engine.uses_own_store:
        yield from _unknown(engine.name, "MooncakeStoreConnector", facts, facts, OWN_STORE_KEYS)
    elif engine.uses_lmcache:
        names = [key for key in facts if not is_extra_key(key)]
        yield from _unknown(f"{engine.name}: Mooncake's file", "LMCache", facts, names, EXTRA_KEYS)


def _unknown(what: str, who: str, facts: Facts, names: Iterable[str], known: Collection[str]) -> Iterator[Found]:
    wrong = [name for name in names if name not in known]
    if wrong:
        shown = [f"{name} (nearest: {near})" if (near := _nearest(name, known)) else name for name in wrong]
        yield Found(f"{what}: {who} does not know {', '.join(shown)}", facts[wrong[0]])


def _nearest(name: str, known: Collection[str]) -> str | None:
    """The key that one was meant for: its name at another part of the stack, else the most alike."""
    bare = name.removeprefix("mooncake_")
    for names in _SAME:
        if bare in names and (found := sorted((names | {f"mooncake_{key}" for key in names}) & set(known))):
            return found[0]
    return bare if bare in known else nearest(name, known)


_SAME = (
    {"master_server_addr", "master_server_address"},
    {"rdma_devices", "device_name", "device_names", "devices"},
)
"""Names of one thing at LMCache, Mooncake and vLLM's MooncakeStoreConnector."""


@rule(
    "E45",
    why="LMCache does not start with it (every request is computed, with HTTP 200), or takes it for something else",
    fix="a number without a unit (max_local_cpu_size: 20 means 20 GB), true or false, a size such as 4GB",
    facts="LMCache `config.py`, `config_base.py` (_to_bool takes true and 1 only); Mooncake `real_client.cpp`",
)
def unreadable_values(look: Look) -> Iterator[Found]:
    """Every value is one that its reader can read."""
    for engine in look.engines(when=lambda e: bool(e.lmcache or e.extra or e.mooncake)):
        if engine.uses_lmcache:
            for key, told in engine.lmcache.items():
                if wanted := _not_of_lmcache(key, told.value):
                    yield Found(f"{engine.name}: {key} is {told.value!r}, {wanted}", told)
        if engine.uses_lmcache and engine.knows(Part.STORE):
            yield from _not_of_store(engine)


def _not_of_lmcache(key: str, value: object) -> str | None:
    """What LMCache wants instead of a value; None where it can read it."""
    if value is None:
        return None
    if key in FLOATS and number(value) is None:
        return "a number without a unit is wanted" + (" (GB)" if key.endswith("_size") else "")
    if key in INTEGERS and whole_number(value) is None and not _is_whole(value):
        return "a whole number is wanted"
    if key in SWITCHES and str(value).strip().lower() in {"yes", "on", "y", "t", "enable", "enabled"}:
        return "which LMCache takes for false"
    if key == "extra_config" and not isinstance(value, dict) and json_mapping(value) is None:
        return "settings (key: value) are wanted"
    return None


def _is_whole(value: object) -> bool:
    found = number(value)
    return found is not None and isinstance(value, int | float) and found == int(found)


def _not_of_store(engine: EngineConfig) -> Iterator[Found]:
    timeout = engine.store_settings.get("transfer_timeout")
    if timeout is not None and timeout.value is not None and number(timeout.value) is None:
        yield Found(f"{engine.name}: transfer_timeout is {timeout.value!r}, a number of seconds is wanted", timeout)
    for key in ("global_segment_size", "local_buffer_size", "mooncake_global_segment_size"):
        told = engine.store_settings.get(key)
        if told is not None and told.value is not None and size_bytes(told.value) is None:
            yield Found(f"{engine.name}: {key} is {told.value!r}, bytes or a size such as 4GB is wanted", told)


@rule(
    "E49",
    why="MooncakeStoreConnector ends while starting",
    fix="mode embedded with global_segment_size > 0, or standalone-store with 0 (and a mooncake_client process); "
    "local_buffer_size > 0; master_server_address and metadata_server",
    versions="vLLM 0.21 to 0.33",
    facts="vLLM `distributed/mooncake_store.py`",
)
def own_store_file(look: Look) -> Iterator[Found]:
    """The JSON of vLLM's MooncakeStoreConnector is one that it takes."""
    for engine in look.engines(Part.STORE, when=lambda e: e.uses_own_store):
        if engine.mooncake is not None:
            for what, told in _refused(engine, engine.mooncake):
                yield Found(f"{engine.name}: {what}", told)


def _refused(engine: EngineConfig, facts: Facts) -> Iterator[tuple[str, Fact | None]]:
    yield from _of_mode(engine, facts)
    segment, buffer = facts.get("global_segment_size"), facts.get("local_buffer_size")
    if engine.buffer_bytes == 0:
        yield "local_buffer_size must be > 0", buffer
    for told in (segment, buffer):
        if told is not None and not _is_own_size(told.value):
            yield f"{told.value!r} is no size that it reads (B, KB, MB or GB)", told
    for key in ("master_server_address", "metadata_server"):
        if not engine.store_setting(key):
            other = facts.get("mooncake_master_server_addr") if key == "master_server_address" else None
            why = f" ({other.value} stands under LMCache's spelling mooncake_master_server_addr)" if other else ""
            yield f"{key} is missing{why}", other


def _of_mode(engine: EngineConfig, facts: Facts) -> Iterator[tuple[str, Fact | None]]:
    mode, segment, size = facts.get("mode"), facts.get("global_segment_size"), engine.segment_bytes
    kind = "embedded" if mode is None else mode.value
    if kind not in ("embedded", "standalone-store"):
        yield f"mode is {kind!r}, which is neither embedded nor standalone-store", mode
    elif kind == "standalone-store" and size:
        told = segment.value if segment else "not set (default 4 GiB)"
        yield f"mode standalone-store needs global_segment_size 0, it is {told}", segment or mode
    elif kind == "embedded" and size == 0:
        yield "mode embedded needs global_segment_size > 0", segment


def _is_own_size(value: object) -> bool:
    text = str(value).strip().lower()
    return size_bytes(value) is not None and not text.endswith(("ib", "k", "m", "g", "t", "tb"))


@rule(
    "E51",
    why="Mooncake compares it as it is written: another case is another protocol, and its set-up fails",
    fix="lower case: tcp, rdma",
    versions="Mooncake 0.3.4 to 0.3.13",
    facts="Mooncake `transfer_engine`; vLLM `distributed/mooncake_store.py`",
)
def protocol_case(look: Look) -> Iterator[Found]:
    """A protocol is spelt in lower case."""
    named = [(engine.name, engine.store_settings.get("protocol")) for engine in look.stores()]
    named += [("LMCache MP adapter mooncake_store", adapter.get("protocol")) for adapter in _mooncake_adapters(look)]
    for name, told in named:
        look.see()
        text = str(told.value) if told is not None else "tcp"
        if text not in PROTOCOLS and text.strip().lower() in PROTOCOLS:
            yield Found(f"{name}: protocol is {text!r}, and it is case-sensitive: {text.strip().lower()!r}", told)
