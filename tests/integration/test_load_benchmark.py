"""The comparison of clients runs, sees every chunk, and finds ours no worse than what it is compared with."""

from __future__ import annotations

import pytest

from benchmarks.client.__main__ import Load, encoding_us, measure, table
from benchmarks.client.contestants import CONTESTANTS, Contestant
from benchmarks.client.floor import floor

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


def test_our_error_is_within_bounds_of_the_floor_in_the_same_run() -> None:
    """Ratios to a client in C that only stamps, best of three each: a busy machine disturbs both."""
    load = Load(streams=16, tokens=16, gap_ms=10.0)
    with floor() as least:
        if least is None:
            pytest.skip("no gcc for the C floor")
        runs = [(measure(least, load), measure(CONTESTANTS[0], load)) for _ in range(3)]
    best, ours = ([pair[side] for pair in runs] for side in (0, 1))
    assert all(one.chunks == 512 for one in (*best, *ours))
    room_ms = 1.0
    assert min(o.ttft_error_p99_ms for o in ours) < 4 * max(b.ttft_error_p99_ms for b in best) + room_ms
    assert min(o.itl_error_p99_ms for o in ours) < 4 * max(b.itl_error_p99_ms for b in best) + room_ms
    assert min(o.cpu_us_per_chunk or 0 for o in ours) > min(b.cpu_us_per_chunk or 0 for b in best), "it is a floor"


def test_without_a_compiler_there_is_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with floor() as least:
        assert least is None
