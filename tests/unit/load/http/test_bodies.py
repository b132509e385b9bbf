"""Bodies are encoded ahead, in order, within their budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.load.http.bodies import Bodies
from pytest_mooncake.load.spec import RoundSpec
from pytest_mooncake.plan.models import Timeouts
from pytest_mooncake.records import Engine, Kind, Phase, PlannedRequest


class Lazy(Sequence[PlannedRequest]):
    """Requests made when asked for."""

    def __init__(self, count: int, **fields: Any) -> None:
        self.asked: list[int] = []
        self._count = count
        self._fields = fields

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> PlannedRequest:  # type: ignore[override]
        self.asked.append(index)
        values: dict[str, Any] = {"prompt": (1, 2), "prompt_tokens": 2, "output_tokens": 3, **self._fields}
        return PlannedRequest(index=index, **values)


def spec(requests: Sequence[PlannedRequest], **fields: Any) -> RoundSpec:
    values: dict[str, Any] = {"concurrency": 1, "engines": (Engine(url="http://127.0.0.1:1"),), **fields}
    return RoundSpec(
        round=0, kind=Kind.COLD, phase=Phase.CHAIN, requests=requests, timeouts=Timeouts(), model="m", **values
    )


def first_body(requests: Sequence[PlannedRequest], **fields: Any) -> dict[str, Any]:
    prepared = Bodies(spec(requests, **fields)).take()
    assert prepared is not None
    body: dict[str, Any] = json.loads(prepared.body)
    return body


def test_everything_that_fits_is_encoded_before_the_round() -> None:
    requests = Lazy(4)
    bodies = Bodies(spec(requests))
    bodies.prepare()
    assert requests.asked == [0, 1, 2, 3]
    taken = [bodies.take() for _ in range(4)]
    assert [prepared.index for prepared in taken if prepared] == [0, 1, 2, 3]
    assert bodies.take() is None
    assert requests.asked == [0, 1, 2, 3]


def test_no_more_than_the_budget_is_held() -> None:
    requests = Lazy(10)
    size = len(json.dumps(first_body(Lazy(1)), separators=(",", ":")))
    bodies = Bodies(spec(requests), ahead_bytes=3 * size)
    bodies.prepare()
    assert len(requests.asked) == 3
    bodies.take()
    bodies.prepare()
    assert len(requests.asked) == 4


async def test_the_rest_is_encoded_while_the_round_runs() -> None:
    requests = Lazy(6)
    bodies = Bodies(spec(requests), ahead_bytes=1)
    bodies.prepare()
    assert requests.asked == [0]
    feeding = asyncio.create_task(bodies.keep_ahead())
    for expected in range(6):
        prepared = bodies.take()
        assert prepared is not None
        assert prepared.index == expected
        await asyncio.sleep(0.01)
    await feeding
    assert requests.asked == list(range(6))


def test_a_body_that_is_not_ready_is_made_on_the_spot() -> None:
    bodies = Bodies(spec(Lazy(2)))
    assert [prepared.index for prepared in (bodies.take(), bodies.take()) if prepared] == [0, 1]


def test_a_prompt_is_not_kept_beside_its_body() -> None:
    prepared = Bodies(spec(Lazy(1))).take()
    assert not hasattr(prepared, "prompt")


def test_completions_take_ids_or_text() -> None:
    assert first_body(Lazy(1))["prompt"] == [1, 2]
    assert first_body(Lazy(1, prompt="hello"))["prompt"] == "hello"


def test_chat_takes_text_only() -> None:
    body = first_body(Lazy(1, prompt="hello"), api="chat")
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    with pytest.raises(WorkloadError, match="request 0: token ids"):
        first_body(Lazy(1), api="chat")


def test_servers_that_refuse_the_extras_are_spared_them() -> None:
    body = first_body(Lazy(1), ignore_eos=False, continuous_usage=False)
    assert "ignore_eos" not in body
    assert "min_tokens" not in body
    assert body["stream_options"] == {"include_usage": True}


def test_further_fields_of_a_request_are_sent_and_win() -> None:
    body = first_body(Lazy(1, body={"cache_salt": "s", "temperature": 0.5}))
    assert (body["cache_salt"], body["temperature"]) == ("s", 0.5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"concurrency": 0}, "concurrency must be positive, got 0"), ({"engines": ()}, "at least one engine")],
)
def test_a_round_that_cannot_run_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        spec(Lazy(1), **fields)
    with pytest.raises(ValueError, match="at least one request"):
        spec(Lazy(0))
