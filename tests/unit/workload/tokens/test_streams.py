from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.plan.models import Traffic, WorkloadPlan
from pytest_mooncake.workload.layouts.scenario import scenario_layout
from pytest_mooncake.workload.prompts import Workload
from pytest_mooncake.workload.tokens.pools import pool_of_ids
from pytest_mooncake.workload.tokens.streams import MARK_SYMBOLS, OwnText, SyntheticTokens
from pytest_mooncake.workload.tokens.user_text import PIECE_CHARACTERS, pieces
from tests.support.brute_force_reuse import unbounded_hits

POOL = pool_of_ids(range(1000, 1200), "test")


@given(stream=st.integers(0, 10**6), offset=st.integers(0, 300), count=st.integers(0, 300))
def test_a_part_of_a_row_is_the_same_wherever_it_is_cut(stream: int, offset: int, count: int) -> None:
    for content in (SyntheticTokens(range(100)), OwnText([[5, 6, 7, 8], list(range(90))], POOL.ids)):
        whole = content.take("salt", stream, 0, offset + count).tolist()
        assert content.take("salt", stream, offset, count).tolist() == whole[offset:]


def test_made_up_rows_differ_by_number_and_salt_and_use_all_symbols() -> None:
    content = SyntheticTokens(range(100))
    rows = {tuple(content.take(salt, stream, 0, 50).tolist()) for salt in "ab" for stream in range(50)}
    assert len(rows) == 100
    assert {place for row in rows for place in row} == set(range(100))


def test_made_up_rows_are_pinned_because_recorded_runs_are_compared_with_them() -> None:
    assert SyntheticTokens(range(1000)).take("seed 0", 0, 0, 6).tolist() == [201, 532, 841, 383, 397, 933]


def test_own_text_is_read_over_and_over_behind_the_number_of_its_row() -> None:
    content = OwnText([[1, 2, 3], [9]], POOL.ids)
    row = content.symbols[content.take("", 0, 0, 9)].tolist()
    assert row[MARK_SYMBOLS:] == [1, 2, 3, 1, 2, 3]
    assert content.symbols[content.take("", 1, 0, 6)].tolist()[MARK_SYMBOLS:] == [9, 9, 9]


def test_texts_with_the_same_first_page_and_rows_of_the_same_text_share_nothing_unplanned() -> None:
    kind = Traffic(name="qa", reuse=0.6, documents=3, shared_prefix_ratio=0.1)
    plan = WorkloadPlan(name="s", kind="scenario", requests=20, prompt_tokens=2560, traffic=(kind,))
    page = [1, 2, 3, 4] * 100
    work = Workload(plan, scenario_layout(plan, chunk_tokens=256), POOL, own_text=OwnText([page, [*page, 5]], POOL.ids))
    prompts = [request.prompt for request in work.requests("n")]
    assert unbounded_hits(prompts, 256) == work.reuse(256).cold_hits.tolist()  # type: ignore[arg-type]  # token ids
    assert all(request.prompt_tokens == 2560 for request in work.requests("n"))


@given(st.text(alphabet="ab \n", max_size=200), st.integers(0, 3))
def test_pieces_lose_nothing_and_are_never_too_long(text: str, times: int) -> None:
    text = text * 100 * times
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= PIECE_CHARACTERS for piece in cut)


def test_pieces_end_at_spaces_where_there_are_any() -> None:
    assert all(piece[-1] == "x" for piece in pieces("xxxx " * 4000 + "x"))
    assert [len(piece) for piece in pieces("x" * 20_000)] == [8000, 8000, 4000]
