"""Which command is which part of a stack, and what its arguments say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.stack.preflight.configuration import Connector, Fact, Facts, MPServer
from pytest_mooncake.stack.preflight.sources.shell import Command, in_container
from pytest_mooncake.stack.preflight.values import json_mapping, version_key

__all__ = ["Kind", "Process", "arguments_of", "connectors_of", "flags_of", "mp_server_of", "process_of"]


class Kind(StrEnum):
    """The parts of a stack that are started by a command."""

    VLLM = "vllm"
    DYNAMO = "dynamo"
    SGLANG = "sglang"
    MP_SERVER = "lmcache server"
    MASTER = "mooncake_master"
    NODE = "mooncake_client"
    METADATA = "metadata server"


ENGINES = frozenset({Kind.VLLM, Kind.DYNAMO, Kind.SGLANG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A part of a stack: its arguments behind the program's name, its environment, where it was told."""

    kind: Kind
    words: tuple[str, ...]
    env: Facts
    where: str
    contained: bool = False
    """It has a network of its own."""


_MODULES = {
    "vllm.entrypoints.openai.api_server": Kind.VLLM,
    "vllm.entrypoints.cli.main": Kind.VLLM,
    "dynamo.vllm": Kind.DYNAMO,
    "sglang.launch_server": Kind.SGLANG,
    "dynamo.sglang": Kind.SGLANG,
    "lmcache.v1.multiprocess.server": Kind.MP_SERVER,
    "lmcache.v1.multiprocess.http_server": Kind.MP_SERVER,
    "mooncake.mooncake_store_service": Kind.NODE,
    "mooncake.http_metadata_server": Kind.METADATA,
}
_PROGRAMS = {
    "mooncake_master": Kind.MASTER,
    "mooncake_client": Kind.NODE,
    "mooncake_http_metadata_server": Kind.METADATA,
    "lmcache_mp_server": Kind.MP_SERVER,
}
_WITH_SERVE = {("vllm", "serve"): Kind.VLLM, ("lmcache", "server"): Kind.MP_SERVER}
_WITH_SERVE[("lmcache.cli.main", "server")] = Kind.MP_SERVER
_WITH_SERVE[("sglang", "serve")] = Kind.SGLANG
_ASSIGNMENT = re.compile(r"(?:-e|--env=)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_IMAGE = re.compile(r"\S*vllm-openai[^\s=]*")


def process_of(command: Command) -> Process | None:
    """Return the part of a stack that a command starts, behind whatever wrappers; None for anything else."""
    words = command.words
    for place, word in enumerate(words):
        name = word.rpartition("/")[2]
        following = words[place + 1] if place + 1 < len(words) else ""
        kind = _WITH_SERVE.get((name, following))
        if kind is not None:
            return _process(kind, command, place, place + 2)
        kind = _PROGRAMS.get(name) or (_MODULES.get(word) if words[place - 1] == "-m" or place == 0 else None)
        if kind is not None:
            skip = 2 if following == "serve" else 1
            return _process(kind, command, place, place + skip)
    return _of_image(command)


def _of_image(command: Command) -> Process | None:
    """An image whose entry point is vLLM's server: what stands behind its name are arguments."""
    if not in_container(command.words):
        return None
    for place, word in enumerate(command.words):
        if _IMAGE.fullmatch(word):
            return _process(Kind.VLLM, command, place, place + 1)
    return None


def _process(kind: Kind, command: Command, place: int, start: int) -> Process:
    env = dict(command.env)
    for word in command.words[:place]:
        if match := _ASSIGNMENT.fullmatch(word):
            env[match[1]] = Fact(match[2], command.where)
    text = " ".join(command.words[:place]).replace("=", " ")
    contained = in_container(command.words) and not re.search(r"--net(work)? host\b", text)
    return Process(kind=kind, words=command.words[start:], env=env, where=command.where, contained=contained)


_SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-O": "optimization-level",
    "model-path": "model",
    "tp": "tensor-parallel-size",
    "tp-size": "tensor-parallel-size",
}
_FLAGS = frozenset(
    {"enable-prefix-caching", "enable-prompt-tokens-details", "enforce-eager", "enable-chunked-prefill"}
    | {"trust-remote-code", "disable-log-requests", "disable-log-stats", "enable-auto-tool-choice"}
    | {"enable-expert-parallel", "enable-sleep-mode", "headless", "async-scheduling", "enable-lora"}
    | {"disable-hybrid-kv-cache-manager", "enable-hierarchical-cache", "enable-log-requests"}
)


def arguments_of(words: Sequence[str], where: str = "command") -> dict[str, Fact]:
    """Read vLLM's arguments without vLLM: long names with dashes, flags as "true" or "false", the model as `model`.

    Dotted arguments (`--kv-transfer-config.kv_role kv_both`) are put together to the JSON that they stand for.

    >>> told = arguments_of(["m", "-tp", "2", "--no-enable-prefix-caching", "--block_size=128"])
    >>> {name: fact.value for name, fact in told.items()}
    {'model': 'm', 'tensor-parallel-size': '2', 'enable-prefix-caching': 'false', 'block-size': '128'}
    """
    found: dict[str, object] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            found.setdefault("model", word)
            continue
        name, equals, value = word.partition("=")
        name = _long(name)
        if not equals:
            is_flag = name in _FLAGS or name.startswith("no-")
            value = "true" if is_flag or not rest or rest[0].startswith("-") else rest.pop(0)
        if name.startswith("no-"):
            name, value = name[3:], "false"
        _put(found, name, value)
    return {name: Fact(value, where) for name, value in found.items()}


def _long(name: str) -> str:
    head, dot, keys = name.partition(".")
    head = _SHORT.get(head, head.lstrip("-").replace("_", "-"))
    return _SHORT.get(head, head) + dot + keys


def _put(found: dict[str, object], name: str, value: str) -> None:
    """Note an argument; a dotted one goes into the mapping that its first part names."""
    head, dot, keys = name.partition(".")
    if not dot:
        found[name] = value
        return
    told = found.get(head)
    inside: dict[str, object] = told if isinstance(told, dict) else dict(json_mapping(told) or {})
    found[head] = inside
    # keys of an extra configuration hold dots themselves: lmcache.mp.port
    outer, dot, key = keys.partition(".")
    holder: object = inside
    if dot and outer.rstrip("+") == "kv_connector_extra_config":
        holder, outer = inside.setdefault(outer, {}), key
    if isinstance(holder, dict):
        _set(holder, outer, _plain(value))


def _set(holder: dict[str, object], key: str, value: object) -> None:
    if not key.endswith("+"):
        holder[key] = value
        return
    values = holder.setdefault(key[:-1], [])
    if isinstance(values, list):
        values.append(value)


def _plain(value: str) -> object:
    """A dotted argument's value as vLLM takes it: JSON where it is some, else the text."""
    if value in {"true", "True", "false", "False"}:
        return value.lower() == "true"
    if re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    return json_mapping(value) or value


def connectors_of(
    arguments: Mapping[str, Fact], kind: Kind, vllm: str | None
) -> tuple[Connector | None, tuple[Connector, ...]]:
    """Return an engine's own connector, and those that move data: itself, or MultiConnector's inner ones.

    Where vLLM's version decides which connector an option sets and is not known, there are no inner ones.
    """
    told = arguments.get("kv-transfer-config")
    settings = told.value if told is not None else None
    settings = settings if isinstance(settings, dict) else json_mapping(settings)
    if told is not None and settings is not None:
        outer = Connector(settings=settings, where=told.where)
        return outer, _inner(outer)
    return _of_dynamo(arguments) if kind is Kind.DYNAMO else _of_offloading(arguments, vllm)


def _inner(outer: Connector) -> tuple[Connector, ...]:
    inner = outer.extra.get("connectors")
    if outer.name != "MultiConnector" or not isinstance(inner, list):
        return (outer,)
    return tuple(Connector(settings=one, where=outer.where, inner=True) for one in inner if isinstance(one, dict))


_DYNAMOS = {"lmcache": "LMCacheConnectorV1", "nixl": "NixlConnector", "kvbm": "DynamoConnector"}


def _of_dynamo(arguments: Mapping[str, Fact]) -> tuple[Connector | None, tuple[Connector, ...]]:
    told = arguments.get("connector")
    name = _DYNAMOS.get(str(told.value)) if told is not None else None
    if told is None or name is None:
        return None, ()
    one = Connector(settings={"kv_connector": name, "kv_role": "kv_both"}, where=told.where)
    return one, (one,)


def _of_offloading(arguments: Mapping[str, Fact], vllm: str | None) -> tuple[Connector | None, tuple[Connector, ...]]:
    """`--kv-offloading-size` switches offloading on, `--kv-offloading-backend` says to what."""
    told = arguments.get("kv-offloading-size")
    if told is None:
        return None, ()
    backend = arguments.get("kv-offloading-backend", Fact("native", told.where))
    name = "OffloadingConnector" if backend.value == "native" else "LMCacheMPConnector"
    one = Connector(settings={"kv_connector": name, "kv_role": "kv_both"}, where=backend.where)
    known = version_key(vllm or "")
    decided = backend.value == "native" or (known is not None and known >= (0, 32))
    return one, (one,) if decided else ()


def flags_of(words: Sequence[str], where: str = "command") -> dict[str, Fact]:
    """Read gflags (`mooncake_master`): one or two dashes, `=` or a following word, names with underscores.

    >>> told = flags_of(["-rpc_port=50051", "--enable_ha", "--metrics-port", "9003"])
    >>> {name: fact.value for name, fact in told.items()}
    {'rpc_port': '50051', 'enable_ha': 'true', 'metrics_port': '9003'}
    """
    found: dict[str, Fact] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("-") else "true"
        found[name.replace("-", "_")] = Fact(value, where)
    return found


def mp_server_of(process: Process) -> MPServer:
    """Read the MP server's command."""
    adapters: list[Facts] = []
    unreadable: list[Fact] = []
    words = list(process.words)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != "--l2-adapter":
            continue
        text = value if equals else (words[place + 1] if place + 1 < len(words) else "")
        settings = json_mapping(text)
        if settings is None:
            unreadable.append(Fact(text, process.where))
        else:
            adapters.append({key: Fact(value, process.where) for key, value in settings.items()})
    return MPServer(flags=arguments_of(words, process.where), adapters=tuple(adapters), unreadable=tuple(unreadable))
