"""From a user's files, and from what a process was started with, to the configuration that the lints look at.

Texts and values in, values out; whoever calls opens the files.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from pytest_mooncake.cache.preflight.subject import EngineConfig, parse_vllm_args
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.yaml_text import parse

__all__ = ["engine_of_command", "flags_of", "mapping_of", "split_command"]

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def split_command(text: str, source: str) -> tuple[dict[str, str], tuple[str, ...]]:
    r"""Split a shell command into the variables set in front of it (or exported above it) and its words.

    Raises:
        PlanError: the text is no command (an open quotation mark).

    >>> split_command("export A=1\nB=2 vllm serve m --port 1  # ours", "x")
    ({'A': '1', 'B': '2'}, ('vllm', 'serve', 'm', '--port', '1'))
    """
    joined = re.sub(r"\\\s*\n", " ", text)
    try:
        words = shlex.split(joined, comments=True)
    except ValueError as problem:
        raise PlanError(
            f"{source}: not a command line ({problem}); write it as in a shell: vllm serve MODEL …"
        ) from None
    variables: dict[str, str] = {}
    while words and (words[0] in {"export", "exec", "env"} or _ASSIGNMENT.fullmatch(words[0])):
        match = _ASSIGNMENT.fullmatch(words.pop(0))
        if match:
            variables[match[1]] = match[2]
    return variables, tuple(words)


def engine_of_command(
    words: Sequence[str],
    env: Mapping[str, str],
    *,
    name: str,
    lmcache: Mapping[str, object] | None,
    mooncake: Mapping[str, object] | None = None,
    device: str | None = None,
) -> EngineConfig:
    """Return the configuration of an engine from its command line, its environment and its files.

    `lmcache` is None where nobody told it: then no setting is held against the engine, nor is an unset variable where
    `env` is empty.
    """
    unknown = {part for part, missing in (("lmcache", lmcache is None), ("env", not env)) if missing}
    return EngineConfig(
        name=name,
        args=parse_vllm_args(words),
        lmcache=lmcache or {},
        env=env,
        mooncake=mooncake,
        device=device,
        unknown=frozenset(unknown),
    )


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """Read gflags (`mooncake_master`): one or two dashes, `=` or a following word, names with underscores.

    >>> flags_of(["mooncake_master", "-rpc_port=50051", "--enable_ha", "--metrics-port", "9003"])
    {'rpc_port': '50051', 'enable_ha': 'true', 'metrics_port': '9003'}
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("-") else "true"
        found[name.replace("-", "_")] = value
    return found


def mapping_of(text: str, source: str) -> dict[str, object]:
    """Read a YAML or JSON file that holds one mapping.

    Raises:
        PlanError: it holds anything else; the message names file and line.
    """
    if source.endswith(".json"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise PlanError(f"{source}: not JSON ({problem})") from None
    else:
        value = parse(text, source).data
    if not isinstance(value, dict):
        raise PlanError(f"{source}: expected settings (key: value), found {type(value).__name__}")
    return {str(key): setting for key, setting in value.items()}
