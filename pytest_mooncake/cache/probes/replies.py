"""What a server answered to a request of the correctness gate, read from whatever shape its reply has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_mooncake.analysis.evidence.checks.near_ties import nats
from pytest_mooncake.analysis.evidence.counters.deltas import CounterDeltas

__all__ = ["read_reply", "served_by"]

MOST_STEPS, MOST_ALTERNATIVES, MOST_CHARACTERS, MOST_CACHED = 64, 64, 200, 2**40
"""What is read of a reply at most: far more than was asked for."""


def read_reply(text: str) -> dict[str, Any]:
    """Read tokens, log-probabilities and cached tokens from a reply; what it lacks or garbles stays empty.

    Log-probabilities come as vLLM's completions write them (`tokens`, `token_logprobs`, `top_logprobs`) or as chat
    does (`content`). NaN and infinity are read, and are no log-probabilities.

    Raises:
        ValueError: it is no completion.
    """
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"the reply is not JSON ({type(problem).__name__})") from None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("the reply is no completion")
    return {"cached_tokens": _cached_tokens(reply), **_tokens_of(choices[0].get("logprobs"))}


def _cached_tokens(reply: Mapping[str, Any]) -> int | None:
    usage = reply.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    is_count = isinstance(cached, int) and not isinstance(cached, bool) and 0 <= cached <= MOST_CACHED
    return cached if is_count else None


def _tokens_of(logprobs: object) -> dict[str, Any]:
    if not isinstance(logprobs, dict):
        return {}
    content = logprobs.get("content")
    if isinstance(content, list):
        found = [step for step in content if isinstance(step, dict)]
        lists = [[step.get(name) for step in found] for name in ("token", "logprob", "top_logprobs")]
    else:
        lists = [_listed(logprobs.get(name)) for name in ("tokens", "token_logprobs", "top_logprobs")]
    tokens, values, top = lists
    if not all(isinstance(token, str | int) and not isinstance(token, bool) for token in tokens):
        return {}  # what is no token equals nothing, itself least of all: null and null are no equal texts
    steps = min(len(tokens), MOST_STEPS)
    return {
        "tokens": tuple(_word(token) for token in tokens[:steps]),
        "logprobs": tuple(nats(value) for value in values[:steps]),
        "top": tuple(_alternatives(best) for best in top[:steps]),
    }


def _word(token: object) -> str:
    """A token's text as it can be recorded: servers cut characters in two, and JSON can carry the halves."""
    return str(token).encode("utf-8", "replace").decode()[:MOST_CHARACTERS]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _alternatives(best: object) -> dict[str, float]:
    """The alternatives of one step, from a mapping or from chat's list; what is no log-probability is left out."""
    pairs: list[tuple[object, object]] = []
    if isinstance(best, dict):
        pairs = list(best.items())
    elif isinstance(best, list):
        pairs = [(entry.get("token"), entry.get("logprob")) for entry in best if isinstance(entry, dict)]
    return {_word(token): value for token, raw in pairs[:MOST_ALTERNATIVES] if (value := nats(raw)) is not None}


def served_by(moved: CounterDeltas, *, prompt_tokens: int, cached_tokens: int | None) -> dict[str, int | None] | None:
    """Which cache served one request, where counters moved by that request and by nothing else; None where not (yet).

    Args:
        moved: what the counters did around the request.
        prompt_tokens: length of its prompt.
        cached_tokens: what the reply says of it.
    """
    if moved.get("prompt_tokens") != prompt_tokens:
        return None
    local, external = moved.get("local_hit_tokens"), moved.get("external_hit_tokens")
    if None not in (local, external, cached_tokens) and (local or 0) + (external or 0) != cached_tokens:
        return None
    keys = moved.get("store_hit_keys")
    names = {"local_tokens": local, "external_tokens": external, "store_keys": keys}
    return {name: None if value is None else int(value) for name, value in names.items()}
