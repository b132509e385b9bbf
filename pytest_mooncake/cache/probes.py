"""The correctness gate's prompts: the lengths at which a cache goes wrong, sent cold, then warm, beside the rounds.

Whole chunks are what is stored and found, so the cases lie at the edges of chunks: one token short of a chunk (nothing
may be found), exactly one, one more, a document of several, and a second document that shares the first one's
beginning. The document is asked for once more under another tag (nothing may be found) and with a `cache_salt` (what
that isolates is only reported). Never `prompt_logprobs`: vLLM does not read its cache for such requests (vllm#57596).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_mooncake.cache.body import read_text
from pytest_mooncake.cache.expect import HitRule, chunks_stored, external_tokens
from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.records import Engine, ProbeAnswer, ProbeRole, Scrape, StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Probe", "colds", "keys_of", "run_gate", "send", "warms"]

TIMEOUT_S = 120.0
MAX_BYTES = 4 * 2**20
OUTPUT_TOKENS = 16
TOP = 5
"""As many alternatives as every vLLM allows a client to ask for."""
UNKNOWN_CHUNK = 256
"""LMCache's default, where the stack does not tell."""
SETTLE_LIMIT_S = 30.0
SHARED_CHUNKS = 2
DOCUMENT_CHUNKS = 4
TAIL_TOKENS = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One request of the gate."""

    case: str
    role: ProbeRole
    prompt: tuple[int, ...]
    cached_expected: int | None
    tenant: str = "a"
    salt: str | None = None


def colds(run_id: str, ids: Sequence[int], view: StackView, *, tagged: bool) -> tuple[Probe, ...]:
    """The requests that find nothing and store what the warm ones look for.

    The document with a shared beginning is computed under another tenant's tag, so that it leaves nothing for its warm
    request to find; without tags it has no cold answer.
    """
    prompts = _prompts(run_id, ids, view)
    cases = [name for name in prompts if name != "shared-beginning"]
    probes = [Probe(case=name, role=ProbeRole.COLD, prompt=prompts[name], cached_expected=0) for name in cases]
    if tagged:
        shared = prompts["shared-beginning"]
        probes.append(Probe(case="shared-beginning", role=ProbeRole.COLD, prompt=shared, cached_expected=0, tenant="b"))
    return tuple(probes)


def warms(run_id: str, ids: Sequence[int], view: StackView, *, tagged: bool) -> tuple[Probe, ...]:
    """The requests that find what the cold ones stored, and those that must not."""
    prompts = _prompts(run_id, ids, view)
    probes = [
        Probe(case=name, role=ProbeRole.WARM, prompt=prompt, cached_expected=_expected(name, prompt, view))
        for name, prompt in prompts.items()
    ]
    document = prompts["document"]
    if tagged:
        other = Probe(case="document", role=ProbeRole.OTHER_TENANT, prompt=document, cached_expected=0, tenant="c")
        probes.append(other)
    salt = hashlib.sha256(f"{run_id}/salt".encode()).hexdigest()[:16]
    probes.append(Probe(case="document", role=ProbeRole.SALTED, prompt=document, cached_expected=None, salt=salt))
    return tuple(probes)


def keys_of(probes: Iterable[Probe], view: StackView) -> int | None:
    """Objects that cold probes leave in the store; None where the stack does not tell its chunks."""
    if view.kv is None:
        return None
    return sum(chunks_stored(len(p.prompt), view.kv.chunk_tokens) for p in probes) * view.kv.ranks


def _chunk(view: StackView) -> int:
    return view.kv.chunk_tokens if view.kv else UNKNOWN_CHUNK


def _prompts(run_id: str, ids: Sequence[int], view: StackView) -> dict[str, tuple[int, ...]]:
    size = _chunk(view)
    document = _text(run_id, "document", ids, DOCUMENT_CHUNKS * size + TAIL_TOKENS)
    other = _text(run_id, "other", ids, (DOCUMENT_CHUNKS - SHARED_CHUNKS) * size)
    return {
        "short-of-a-chunk": _text(run_id, "short", ids, size - 1),
        "one-chunk": _text(run_id, "one", ids, size),
        "a-token-more": _text(run_id, "more", ids, size + 1),
        "document": document,
        "shared-beginning": document[: SHARED_CHUNKS * size] + other,
    }


def _text(run_id: str, name: str, ids: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Tokens that nobody has sent before: the run's id is in them from the first one on."""
    rng = random.Random(f"{run_id}/probe/{name}")  # noqa: S311 - prompts, not secrets
    return tuple(rng.choices(ids, k=tokens))


def _expected(case: str, prompt: Sequence[int], view: StackView) -> int | None:
    if view.kv is None:
        return None
    own = view.details.get("connector") == "mooncakestore"
    present = SHARED_CHUNKS if case == "shared-beginning" else None
    rule = HitRule.LAST_CHUNK if own else HitRule.LAST_TOKEN
    return external_tokens(len(prompt), view.kv.chunk_tokens, present_chunks=present, rule=rule)


async def run_gate(
    session: aiohttp.ClientSession,
    view: StackView,
    run_id: str,
    ids: Sequence[int],
    *,
    read: Callable[[], Awaitable[tuple[Scrape, ...]]],
    headers: Mapping[str, str],
    params: Callable[[str], Mapping[str, str]] | None,
) -> tuple[ProbeAnswer, ...]:
    """Send the cold probes, wait until they are stored, send the warm ones. A dozen short requests, seconds.

    Args:
        session: client session.
        view: the stack.
        run_id: makes the prompts new.
        ids: ordinary token ids of the model.
        read: scrapes the stack.
        headers: the endpoint's credentials.
        params: tenant to `kv_transfer_params`; None where requests are not tagged.
    """
    tagged = params is not None
    first = colds(run_id, ids, view, tagged=tagged)
    before = await read()
    answers = await send(session, first, view, headers=headers, params=params)
    if all(answer.error is not None for answer in answers):
        return answers
    await quiesce(read, expect_keys=keys_of(first, view), before=before, deadline_s=SETTLE_LIMIT_S)
    second = warms(run_id, ids, view, tagged=tagged)
    return (*answers, *await send(session, second, view, headers=headers, params=params, shift=1))


async def send(
    session: aiohttp.ClientSession,
    probes: Iterable[Probe],
    view: StackView,
    *,
    headers: Mapping[str, str],
    params: Callable[[str], Mapping[str, str]] | None,
    shift: int = 0,
) -> tuple[ProbeAnswer, ...]:
    """Send probes one after the other: batching changes the last bits of what an engine computes.

    Args:
        session: client session.
        probes: what to send; the i-th goes to engine (i + shift) mod n.
        view: the stack.
        headers: the endpoint's credentials.
        params: tenant to `kv_transfer_params`; None where requests are not tagged.
        shift: 1 for warm probes, so that with several engines every hit crosses engines.
    """
    answers = []
    for place, probe in enumerate(probes):
        number = (place + shift) % len(view.engines)
        body = _body(probe, view.model, params)
        answers.append(await _ask(session, view.engines[number], number, probe, body, headers))
    return tuple(answers)


def _body(probe: Probe, model: str, params: Callable[[str], Mapping[str, str]] | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": probe.prompt,
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": TOP,
        "return_tokens_as_token_ids": True,
    }
    if params is not None:
        body["kv_transfer_params"] = params(probe.tenant)
    return body if probe.salt is None else body | {"cache_salt": probe.salt}


async def _ask(
    session: aiohttp.ClientSession,
    engine: Engine,
    number: int,
    probe: Probe,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
) -> ProbeAnswer:
    import aiohttp
    import orjson

    error, values = None, {}
    try:
        async with session.post(
            f"{engine.url}/v1/completions",
            data=orjson.dumps(body),
            headers={**headers, "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            allow_redirects=False,
        ) as response:
            text = await read_text(response, MAX_BYTES)
            if response.status == 200:
                values = _values(orjson.loads(text))
            else:
                error = f"HTTP {response.status}: {' '.join(text.split())[:200]}"
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as problem:
        error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
    return ProbeAnswer(
        case=probe.case,
        role=probe.role,
        engine=number,
        prompt_tokens=len(probe.prompt),
        cached_expected=probe.cached_expected,
        error=error,
        **values,
    )


def _values(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Read tokens, log-probabilities and cached tokens from an answer; what it lacks stays empty.

    Raises:
        LookupError, TypeError: it is no completion.
    """
    details = (reply.get("usage") or {}).get("prompt_tokens_details") or {}
    found: dict[str, Any] = {"cached_tokens": details.get("cached_tokens")}
    logprobs = reply["choices"][0].get("logprobs")
    if not logprobs:
        return found
    return found | {
        "tokens": tuple(str(token) for token in logprobs["tokens"]),
        "logprobs": tuple(_nats(value) for value in logprobs["token_logprobs"]),
        "top": tuple({token: _nats(value) for token, value in best.items()} for best in logprobs["top_logprobs"]),
    }


def _nats(value: float | None) -> float:
    """A log-probability; servers write the impossible as null or -9999."""
    return -9999.0 if value is None else float(value)
