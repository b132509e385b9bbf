"""The tokens in front of every prompt that are not ours: a chat template, a gateway's system prompt, BOS.

Prompts are new by a nonce at their very start, but an endpoint may put the same tokens in front of all of them. Whole
blocks of these are served to every request of every round by whichever cache is nearest, cold rounds included. That is
neither a warm prompt nor a wrong tier, as long as no request is served more.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mooncake.records import RequestRecord, Round

__all__ = ["common_tokens"]

FEWEST = 2
"""Requests that must have been served the same few tokens before these are taken for a common beginning."""


def common_tokens(this: Round, cold: Round | None) -> int | None:
    """Return the most tokens that any request may be served of the common beginning; None where nothing tells.

    Told by what was sent: tokens around our text by the server's own tokenizer, and those that it counts beyond what
    was planned. Else by the replies of a cold round whose prompts share nothing: the same small number for all,
    whatever their length.

    Args:
        this: the round.
        cold: the cold round to learn from; for a cold round itself.
    """
    planned = this.planned.common_tokens if this.planned is not None else None
    served = _served(this)
    if planned is not None:
        return planned + _added(served)
    shares_by_plan = this.planned is not None and this.planned.cold_cached_tokens > 0
    return None if cold is None or shares_by_plan else _same_few(_served(cold))


def _served(this: Round) -> tuple[RequestRecord, ...]:
    return tuple(record for record in this.requests if record.error is None)


def _added(served: Sequence[RequestRecord]) -> int:
    """Tokens that the server counts beyond what was planned, in every prompt."""
    beyond = (
        record.prompt_tokens - record.prompt_tokens_planned
        for record in served
        if record.prompt_tokens is not None and record.prompt_tokens_planned is not None
    )
    return max(0, min(beyond, default=0))


def _same_few(served: Sequence[RequestRecord]) -> int | None:
    """The cached tokens that half of the replies or more had, all of them as many; 0 where they differ or are many.

    A prompt that had been cached before is served more than half of itself: floor(P / S) S is, for any S.
    """
    if not served or all(record.cached_tokens is None for record in served):
        return None
    had = [record.cached_tokens for record in served if record.cached_tokens]
    shortest = min((record.prompt_tokens or record.prompt_tokens_planned or 0 for record in served), default=0)
    is_common = len(set(had)) == 1 and len(had) >= max(FEWEST, len(served) / 2) and 2 * had[0] <= shortest
    return had[0] if is_common else 0
