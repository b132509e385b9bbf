"""Rounds made for tests: every time is chosen, so every figure is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pytest_mooncake.records import Kind, Phase, RequestRecord, Round

MS = 1_000_000


def request(
    index: int = 0,
    *,
    sent_ms: float = 0.0,
    ttft_ms: float = 100.0,
    tpot_ms: float = 10.0,
    tokens: int = 5,
    error: str | None = None,
) -> RequestRecord:
    """A request that streams one token a chunk, evenly; a failed one never got a token."""
    sent_ns = round(sent_ms * MS)
    first_ns = sent_ns + round(ttft_ms * MS)
    chunk_ns = tuple(first_ns + round(i * tpot_ms * MS) for i in range(tokens))
    record = RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=1000,
        output_tokens_planned=tokens,
        intended_ns=sent_ns,
        sent_ns=sent_ns,
        error=error,
    )
    if error is not None:
        return record
    return replace(
        record,
        first_token_ns=first_ns,
        last_token_ns=chunk_ns[-1],
        done_ns=chunk_ns[-1],
        prompt_tokens=1000,
        output_tokens=tokens,
        cached_tokens=0,
        chunk_ns=chunk_ns,
        chunk_tokens=(1,) * tokens,
    )


def a_round(requests: Iterable[RequestRecord], *, number: int = 0, kind: Kind = Kind.COLD, segment: int = 0) -> Round:
    """A round of the chain that holds `requests`."""
    held = tuple(replace(one, round=number, kind=kind) for one in requests)
    return Round(
        round=number,
        kind=kind,
        phase=Phase.CHAIN,
        segment=segment,
        position=number,
        nonce=f"n{number}",
        started_ns=0,
        ended_ns=1,
        requests=held,
    )


def chain(
    cold: Sequence[tuple[float, float]], warm: Sequence[tuple[float, float]], requests: int = 4
) -> tuple[Round, ...]:
    """C0 W1 C1 …, each round given as (TTFT ms, TPOT ms), its requests one after another."""
    order = [pair for both in zip(cold, [*warm, None], strict=True) for pair in both if pair is not None]
    return tuple(
        a_round(
            serial(ttft_ms, tpot_ms, requests),
            number=number,
            kind=Kind.WARM if number % 2 else Kind.COLD,
        )
        for number, (ttft_ms, tpot_ms) in enumerate(order)
    )


def serial(ttft_ms: float, tpot_ms: float, requests: int) -> list[RequestRecord]:
    """`requests` equal requests, each sent when the one before it is done."""
    latency_ms = ttft_ms + 4 * tpot_ms + 0.001
    return [request(i, sent_ms=i * latency_ms, ttft_ms=ttft_ms, tpot_ms=tpot_ms) for i in range(requests)]


LOOKS = (3, 4, 5, 6, 8, 10)


def noisy(trials: int, ttft: float, tpot: float = 1.0, sigma: float = 0.02, seed: int = 0) -> tuple[Round, ...]:
    generator = np.random.default_rng(seed)

    def pairs(count: int, ttft_ms: float, tpot_ms: float) -> list[tuple[float, float]]:
        factors = np.exp(generator.normal(scale=sigma, size=(count, 2)))
        return [(ttft_ms * float(a), tpot_ms * float(b)) for a, b in factors]

    return chain(pairs(trials + 1, 1200, 15), pairs(trials, 1200 * ttft, 15 * tpot))
