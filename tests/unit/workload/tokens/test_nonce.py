from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.workload.tokens.nonce import NONCE_TOKENS, nonce_places, round_nonce


def test_the_nonce_of_a_round_depends_on_the_run_and_the_round_and_nothing_else() -> None:
    assert round_nonce("run-a", 3) == round_nonce("run-a", 3)
    nonces = {round_nonce(run, ordinal) for run in ("run-a", "run-b") for ordinal in range(50)}
    assert len(nonces) == 100


def test_a_resumed_run_never_repeats_a_nonce_it_has_used() -> None:
    before = {round_nonce("run", ordinal) for ordinal in range(20)}
    after = {round_nonce("run", ordinal, resumed=1) for ordinal in range(20)}
    assert before.isdisjoint(after)


@given(symbols=st.integers(64, 65_536), nonce=st.text(min_size=1), root=st.integers(0, 10**9))
def test_nonce_places_are_places_in_the_pool(symbols: int, nonce: str, root: int) -> None:
    places = nonce_places(nonce, root, symbols)
    assert len(places) == NONCE_TOKENS
    assert all(0 <= place < symbols for place in places)


@given(symbols=st.integers(64, 300), nonce=st.text(min_size=1))
def test_families_differ_from_the_first_token_on_as_far_as_the_pool_reaches(symbols: int, nonce: str) -> None:
    firsts = {nonce_places(nonce, root, symbols)[0] for root in range(symbols)}
    assert len(firsts) == symbols


def test_more_families_than_symbols_still_differ_in_the_first_two_tokens() -> None:
    assert len({nonce_places("n", root, 64)[:2] for root in range(64 * 64)}) == 64 * 64


def test_two_nonces_differ_in_nearly_every_place() -> None:
    first, second = (nonce_places(nonce, 0, 4096) for nonce in ("a", "b"))
    assert sum(a != b for a, b in zip(first, second, strict=True)) >= NONCE_TOKENS - 2
