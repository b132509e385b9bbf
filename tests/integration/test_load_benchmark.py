"""The comparison of clients runs, sees every chunk, and finds ours no worse than what it is compared with."""

from __future__ import annotations

import pytest

from benchmarks.client.__main__ import Load, encoding_us, measure, table
from benchmarks.client.contestants import CONTESTANTS, Contestant

SMALL = Load(streams=3, tokens=6, gap_ms=5.0, ttft_ms=10.0)


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: str(contestant.name))
def test_every_client_sees_every_chunk(contestant: Contestant) -> None:
    found = measure(contestant, SMALL)
    assert found.requests == 6
    assert found.chunks == 36


def test_the_table_names_every_client() -> None:
    printed = table(SMALL, repeats=1)
    assert all(contestant.name in printed for contestant in CONTESTANTS)
    assert "CPU µs/chunk" in printed


def test_at_many_streams_opening_connections_first_pays() -> None:
    """Bias of the first wave, where everybody else pays for connecting and encoding inside TTFT."""
    load = Load(streams=64, tokens=4, gap_ms=20.0)
    ours, *_, plain = (min(abs(measure(one, load).bias_ms) for _ in range(3)) for one in CONTESTANTS)
    assert ours < plain


def test_encoding_a_prompt_is_measured() -> None:
    assert encoding_us() > 0
