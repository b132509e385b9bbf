"""Chunks of several tokens whose number nobody tells: gaps stand, ITL is unknown, TPOT is estimated; never a crash."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.analysis.claims.judge_claims import judge_claims
from pytest_mooncake.analysis.claims.thresholds import figure_of
from pytest_mooncake.analysis.figures.columns import MOST_TOKENS, columns_of, columns_of_mappings
from pytest_mooncake.analysis.figures.summary import Spread, request_metrics, summarise, summarise_columns
from pytest_mooncake.analysis.statistics.observed import observe
from pytest_mooncake.load.http.completion import StreamReading
from pytest_mooncake.plan.models import Target, TargetsPlan
from pytest_mooncake.plan.targets.thresholds import parse_expression
from pytest_mooncake.records import Kind, Phase, RequestRecord, Verdict
from tests.support.made_rounds import MS, a_round, request


def answer(*at_ms: float, tokens: int | None, split: tuple[int, ...] = (), index: int = 0) -> RequestRecord:
    """An answer whose chunks arrive at these times after the send."""
    chunk_ns = tuple(round(at * MS) for at in at_ms)
    return replace(
        request(index),
        chunk_ns=chunk_ns,
        chunk_tokens=split,
        output_tokens=tokens,
        first_token_ns=chunk_ns[0] if chunk_ns else None,
        last_token_ns=chunk_ns[-1] if chunk_ns else None,
    )


def test_gaps_of_chunks_stand_and_itl_is_unknown_where_nobody_tells_the_tokens_of_each() -> None:
    metrics = request_metrics(answer(100, 140, 180, tokens=12))
    assert [*metrics.chunk_gap_ms] == [40, 40]
    assert metrics.itl_ms is None
    assert metrics.tpot_ms == 80 / (12 - 4), "the first chunk counts as a mean one"

    summary = summarise([a_round([answer(100, 140, 180, tokens=12)])])
    assert summary.chunk_gap_ms.mean == 40
    assert summary.itl_ms == Spread()
    assert summary.tpot_ms.mean == 10
    assert summary.unsplit == 1


def test_one_answer_whose_tokens_nobody_tells_leaves_the_itl_of_its_round_unknown() -> None:
    known, unknown = request(0), answer(100, 200, tokens=5, index=1)
    summary = summarise([a_round([known, unknown])])
    assert summary.itl_ms == Spread()
    assert (summary.unsplit, summary.requests) == (1, 2)
    assert summary.chunk_gap_ms.mean == pytest.approx((4 * 10 + 100) / 5)


def test_a_failed_request_leaves_the_itl_of_the_others_known() -> None:
    broken = replace(answer(100, 200, tokens=5, index=1), error="cut")
    summary = summarise([a_round([request(0), broken])])
    assert summary.unsplit == 0
    assert summary.itl_ms.mean == 10


def test_an_answer_in_one_chunk_has_no_tpot_and_leaves_nothing_unknown() -> None:
    summary = summarise([a_round([answer(100, tokens=12)])])
    assert (summary.tpot_ms, summary.itl_ms, summary.chunk_gap_ms, summary.unsplit) == (Spread(), Spread(), Spread(), 0)
    assert request_metrics(answer(100, tokens=12)).tpot_ms is None, "all tokens came at once: not 0 ms a token"


@pytest.mark.parametrize("split", [(1,), (1, 2, 3), (-1, 4), (MOST_TOKENS + 1, 1)], ids=str)
def test_a_split_that_cannot_be_is_none(split: tuple[int, ...]) -> None:
    summary = summarise([a_round([answer(100, 140, tokens=4, split=split)])])
    assert summary.unsplit == 1
    assert summary.itl_ms == Spread()
    assert summary.tpot_ms.mean == 20


def test_more_chunks_than_tokens_still_put_a_token_into_the_first() -> None:
    assert request_metrics(answer(100, 110, 120, tokens=2)).tpot_ms == 20
    assert request_metrics(answer(100, 110, 120, tokens=1)).tpot_ms is None


def test_an_answer_without_usage_has_gaps_and_no_tpot() -> None:
    summary = summarise([a_round([answer(100, 140, tokens=None)])])
    assert (summary.output_tokens, summary.tpot_ms, summary.chunk_gap_ms.mean) == (None, Spread(), 40)


CHAIN = tuple(
    a_round(
        [answer(*(first + 40 * chunk for chunk in range(3)), tokens=12, index=i) for i in range(3)],
        number=number,
        kind=Kind.WARM if number % 2 else Kind.COLD,
    )
    for number, first in enumerate((1000.0, 300.0, 1010.0, 305.0, 990.0, 298.0, 1005.0))
)


def test_claims_on_such_answers_are_judged_where_they_can_be_and_have_no_data_where_not() -> None:
    targets = TargetsPlan(
        name="t",
        claims=(
            Target(metric="ttft_mean", title="mean TTFT", direction="lower", ratio=0.4, stated="-60 %"),
            Target(metric="tpot_mean", title="mean TPOT", direction="lower", ratio=1.1, stated="stable"),
            Target(metric="itl_mean", title="mean ITL", direction="lower", ratio=1.1, stated="stable"),
        ),
    )
    ttft, tpot, itl = judge_claims(targets, CHAIN, looks=(3,), trials=3, quick=False)
    assert ttft.verdict is Verdict.PASS
    assert tpot.estimate_ratio == pytest.approx(1.0)
    assert tpot.details["estimated"] is True
    assert itl.verdict is Verdict.INVALID
    assert itl.estimate_ratio is None


def test_a_threshold_on_itl_has_no_sample_of_such_answers() -> None:
    columns = columns_of([answer(100, 140, 180, tokens=12)])
    assert figure_of(columns, "itl", parse_expression("warm.itl", "p(99)<50")) is None
    assert figure_of(columns, "tpot", parse_expression("warm.tpot", "avg<50")) == 10


# one event of a stream: characters of text, whether its usage counts, and what it counts
USAGE = st.none() | st.integers(0, 40) | st.sampled_from([2**24 + 1, 2**40, 2**62, 2**63, 2**64 - 1])
CHUNK = st.tuples(st.sampled_from(["", "a", "é"]), USAGE, st.sampled_from(["text", "delta", "none"]))


def stream(chunks: list[tuple[str, int | None, str]], *, chat: bool, stamps: list[int]) -> StreamReading:
    reading = StreamReading(chat=chat)
    for (text, tokens, form), at_ns in zip(chunks, stamps, strict=True):
        body: dict[str, Any] = {"choices": []}
        if form == "text":
            body["choices"] = [{"text": text}]
        elif form == "delta":
            body["choices"] = [{"delta": {"content": text}}]
        if tokens is not None:
            body["usage"] = {"prompt_tokens": tokens, "completion_tokens": tokens}
        reading.take((at_ns, orjson.dumps(body)))
    return reading


def recorded(reading: StreamReading, index: int, *, failed: bool) -> RequestRecord:
    """As `load.http.exchange` records it."""
    return RequestRecord(
        round=0,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=8,
        output_tokens_planned=4,
        intended_ns=0,
        sent_ns=1,
        first_role_ns=reading.first_role_ns,
        first_token_ns=reading.first_token_ns,
        last_token_ns=reading.last_token_ns,
        done_ns=reading.usage_ns,
        prompt_tokens=reading.prompt_tokens,
        output_tokens=reading.output_tokens,
        cached_tokens=reading.cached_tokens,
        chunk_ns=tuple(reading.chunk_ns),
        chunk_tokens=reading.chunk_tokens,
        error=reading.error or ("failed" if failed else None),
    )


@st.composite
def answers(draw: st.DrawFn) -> list[RequestRecord]:
    made = []
    for index in range(draw(st.integers(1, 6))):
        chunks = draw(st.lists(CHUNK, max_size=8))
        stamps = draw(st.lists(st.integers(0, 10**12), min_size=len(chunks), max_size=len(chunks)))  # falls as well
        reading = stream(chunks, chat=draw(st.booleans()), stamps=stamps)
        made.append(recorded(reading, index, failed=draw(st.booleans())))
    return made


def is_plain(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


@given(answers())
def test_whatever_a_stream_was_read_as_has_figures(records: list[RequestRecord]) -> None:
    columns = columns_of(records)
    read_back = columns_of_mappings(orjson.loads(orjson.dumps([asdict(one) for one in records])))
    summary = summarise_columns(columns)
    assert summarise_columns(read_back) == summary
    assert all(is_plain(value) for value in summary.to_json().values())
    unsplit = 0
    for record in records:
        metrics = request_metrics(record)
        assert all(is_plain(value) for value in (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms))
        unsplit += metrics.itl_ms is None and record.error is None
    assert summary.unsplit == unsplit
    assert not unsplit or summary.itl_ms == Spread()
    observe(a_round(records))


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=5), st.integers(-(2**70), 2**70))
def test_no_number_of_a_record_overflows(stamps: list[int], count: int) -> None:
    record = replace(
        request(0),
        chunk_ns=tuple(stamps),
        chunk_tokens=(count,) * len(stamps),
        first_token_ns=stamps[0],
        last_token_ns=stamps[-1],
        output_tokens=count,
        prompt_tokens=count,
    )
    summarise([a_round([request(1), record])])
    request_metrics(record)
