"""Which decodes met a foreign prefill, against the plain definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.figures.columns import columns_of, pooled
from pytest_mooncake.analysis.figures.interference import calm_decode, foreign_prefills, pooled_calm
from pytest_mooncake.records import RequestRecord
from tests.support.made_rounds import MS, request

shapes = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(1, 4), st.booleans(), st.integers(0, 1)),
    min_size=1,
    max_size=10,
)


def plain(record: RequestRecord, others: list[RequestRecord]) -> int:
    if record.first_token_ns is None or record.last_token_ns == record.first_token_ns:
        return 0
    count = 0
    for other in others:
        end = other.first_token_ns or other.done_ns
        if other is not record and other.engine == record.engine and end and other.sent_ns is not None:
            count += other.sent_ns < (record.last_token_ns or 0) and end > record.first_token_ns
    return count


@given(shapes)
def test_overlaps_follow_the_definition(shape: list[tuple[int, int, int, bool, int]]) -> None:
    records = []
    for i, (sent, ttft, tokens, failed, engine) in enumerate(shape):
        made = request(i, sent_ms=sent, ttft_ms=ttft, tokens=tokens, error="cut" if failed else None)
        done = (made.done_ns or 0) if not failed else (sent + ttft) * MS
        records.append(replace(made, engine=engine, done_ns=done))
    found = foreign_prefills(columns_of(records)).tolist()
    assert found == [plain(record, records) for record in records]


def test_only_calm_requests_enter_the_calm_tpot() -> None:
    alone = request(0, sent_ms=0, ttft_ms=100, tpot_ms=10)
    disturbed = request(1, sent_ms=200, ttft_ms=100, tpot_ms=30)
    intruder = request(2, sent_ms=310, ttft_ms=500, tpot_ms=12)
    calm = calm_decode(columns_of([alone, disturbed, intruder]))

    assert calm.mean_ms == pytest.approx(11)
    assert (calm.requests, calm.total) == (2, 3)


def test_rounds_do_not_disturb_each_other_and_pool_by_request() -> None:
    one = columns_of([request(0, tpot_ms=10)])
    other = columns_of(
        [replace(request(0, tpot_ms=20), round=2), replace(request(1, sent_ms=900, tpot_ms=30), round=2)]
    )

    assert calm_decode(pooled([one, other])) == pooled_calm([calm_decode(one), calm_decode(other)])
    assert pooled_calm([calm_decode(one), calm_decode(other)]).mean_ms == pytest.approx(20)


def test_no_calm_request_gives_no_figure() -> None:
    busy = [request(0, ttft_ms=100, tpot_ms=10), request(1, sent_ms=90, ttft_ms=100, tpot_ms=10)]
    calm = calm_decode(columns_of([*busy, request(2, sent_ms=150, ttft_ms=200)]))
    assert calm.requests == 1
    assert pooled_calm([]).mean_ms is None
