"""The correctness gate's prompts: the lengths at which a cache goes wrong, each asked for cold, then from the cache.

Whole chunks are what is stored and found, so the cases lie at the edges of chunks: one token short of a chunk (nothing
may be found), exactly one, one more, a document of several, and a second document that shares the first one's
beginning. The document ends one token short of a further chunk: what an engine's own prefix cache finds of it, in
smaller blocks, is more than what the store does. It is asked for once more under another tag (nothing may be found) and
with a `cache_salt` (what that isolates is only reported). Where the chunk's size is not known and nothing of these is
found, a prompt as long as the run's own follows: of that length the rounds were served.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_mooncake.analysis.evidence.checks.correct_text import SHARED
from pytest_mooncake.analysis.evidence.expected.chunk_size import MOST_CHUNK_TOKENS
from pytest_mooncake.analysis.evidence.expected.formulae import HitRule, chunks_stored, external_tokens
from pytest_mooncake.analysis.evidence.expected.told_chunks import chunk_tokens_of
from pytest_mooncake.records import ProbeRole, StackView

__all__ = ["OUTPUT_TOKENS", "TELLING", "TENANT", "Probe", "colds", "control", "keys_of", "longer", "warms"]

OUTPUT_TOKENS = 16
TENANT = "a"
UNKNOWN_CHUNK = 256
"""LMCache's default, where the stack does not tell. It only chooses prompts: nothing is held against a guess."""
SHARED_CHUNKS = 2
DOCUMENT_CHUNKS = 4
LONG = "long-document"
TELLING = frozenset({"document", LONG})
"""Cases of which an engine's own prefix cache finds more than the store does."""
LONGEST_TOKENS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One request of the gate."""

    case: str
    role: ProbeRole
    prompt: tuple[int, ...]
    cached_expected: int | None
    tenant: str = TENANT
    salt: str | None = None


def colds(run_id: str, ids: Sequence[int], view: StackView, *, tagged: bool) -> tuple[Probe, ...]:
    """The requests that find nothing and store what the warm ones look for.

    The document with a shared beginning is computed under another tenant's tag, so that it leaves nothing for its warm
    request to find; without tags it has no cold answer.
    """
    prompts = _prompts(run_id, ids, view)
    shared = prompts.pop(SHARED, None)
    probes = [Probe(case=name, role=ProbeRole.COLD, prompt=text, cached_expected=0) for name, text in prompts.items()]
    if tagged and shared is not None:
        probes.append(Probe(case=SHARED, role=ProbeRole.COLD, prompt=shared, cached_expected=0, tenant="b"))
    return tuple(probes)


def warms(run_id: str, ids: Sequence[int], view: StackView, *, tagged: bool) -> tuple[Probe, ...]:
    """The requests that find what the cold ones stored, and those that must not."""
    prompts = _prompts(run_id, ids, view)
    probes = [
        Probe(case=name, role=ProbeRole.WARM, prompt=prompt, cached_expected=_expected(name, prompt, view))
        for name, prompt in prompts.items()
    ]
    document = prompts.get("document")
    if document is None:
        return tuple(probes)
    if tagged:
        other = Probe(case="document", role=ProbeRole.OTHER_TENANT, prompt=document, cached_expected=0, tenant="c")
        probes.append(other)
    salt = hashlib.sha256(f"{run_id}/salt".encode()).hexdigest()[:16]
    probes.append(Probe(case="document", role=ProbeRole.SALTED, prompt=document, cached_expected=None, salt=salt))
    return tuple(probes)


def longer(run_id: str, ids: Sequence[int], view: StackView, longest: int | None) -> tuple[Probe, Probe] | None:
    """A cold and a warm request as long as the run's own, for stacks whose chunks may be larger than was assumed.

    None where the chunk's size is known, or the run's prompts are no longer than the document.
    """
    tokens = min(longest or 0, LONGEST_TOKENS, _room(view))
    if chunk_tokens_of(view) is not None or tokens <= _document_tokens(UNKNOWN_CHUNK):
        return None
    if tokens >= 2 * MOST_CHUNK_TOKENS:
        tokens -= 1  # no end of a block or a chunk is where such a prompt ends
    prompt = _text(run_id, "long", ids, tokens)
    cold = Probe(case=LONG, role=ProbeRole.COLD, prompt=prompt, cached_expected=0)
    return cold, replace(cold, role=ProbeRole.WARM, cached_expected=None)


def control(run_id: str, ids: Sequence[int], failed: Probe) -> Probe:
    """A prompt as long as that of a failed request, which nobody has sent and no cache holds."""
    prompt = _text(run_id, f"control/{failed.case}", ids, len(failed.prompt))
    return Probe(case=failed.case, role=ProbeRole.CONTROL, prompt=prompt, cached_expected=None)


def keys_of(probes: Iterable[Probe], view: StackView) -> int | None:
    """Objects that cold probes leave in the store; None where the stack does not tell its chunks."""
    if view.kv is None:
        return None
    return sum(chunks_stored(len(p.prompt), view.kv.chunk_tokens) for p in probes) * view.kv.ranks


def _document_tokens(chunk_tokens: int) -> int:
    return (DOCUMENT_CHUNKS + 1) * chunk_tokens - 1


def _chunk(view: StackView) -> int:
    return chunk_tokens_of(view) or UNKNOWN_CHUNK


def _room(view: StackView) -> int:
    return LONGEST_TOKENS if view.max_model_len is None else view.max_model_len - OUTPUT_TOKENS


def _prompts(run_id: str, ids: Sequence[int], view: StackView) -> dict[str, tuple[int, ...]]:
    """The cases that fit the model's context."""
    size = _chunk(view)
    document = _text(run_id, "document", ids, _document_tokens(size))
    other = _text(run_id, "other", ids, (DOCUMENT_CHUNKS - SHARED_CHUNKS) * size)
    prompts = {
        "short-of-a-chunk": _text(run_id, "short", ids, size - 1),
        "one-chunk": _text(run_id, "one", ids, size),
        "a-token-more": _text(run_id, "more", ids, size + 1),
        "document": document,
        SHARED: document[: SHARED_CHUNKS * size] + other,
    }
    return {name: prompt for name, prompt in prompts.items() if len(prompt) <= _room(view)}


def _text(run_id: str, name: str, ids: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Tokens that nobody has sent before: the run's id is in them from the first one on."""
    rng = random.Random(f"{run_id}/probe/{name}")  # noqa: S311 - prompts, not secrets
    return tuple(rng.choices(ids, k=tokens))


def _expected(case: str, prompt: Sequence[int], view: StackView) -> int | None:
    if view.kv is None:
        return None
    own = view.details.get("connector") == "mooncakestore"
    present = SHARED_CHUNKS if case == SHARED else None
    rule = HitRule.LAST_CHUNK if own else HitRule.LAST_TOKEN
    return external_tokens(len(prompt), view.kv.chunk_tokens, present_chunks=present, rule=rule)
