"""Whose counters `--mooncake-metrics` names: one endpoint's processes, one for each endpoint, or by name."""

from __future__ import annotations

import pytest

from pytest_mooncake.plan.sources.counters import metrics_places

A, B = "http://a:8000", "http://b:8000/v1/"


@pytest.mark.parametrize(
    ("urls", "given", "places"),
    [
        ((A,), (), (None,)),
        ((A,), ("http://m:1",), (("http://m:1",),)),
        ((A,), ("http://m:1", "http://m:2", "http://m:3"), (("http://m:1", "http://m:2", "http://m:3"),)),
        ((A,), ("http://m:1", "http://m:1"), (("http://m:1",),)),
        ((A,), (f"{A}=http://m:1", "http://m:2"), (("http://m:2", "http://m:1"),)),
        ((A,), ("none",), ((),)),
        ((A,), (f"{A}=none",), ((),)),
        ((A, B), ("None",), ((), ())),
        ((A, B), ("http://m:1", "http://m:2"), (("http://m:1",), ("http://m:2",))),
        ((A, B), (f"{A}/=http://m:1", f"{A}=http://m:2"), (("http://m:1", "http://m:2"), None)),
        ((A, B), ("http://b:8000=none", f"{A}/v1=http://m:1/x=y"), (("http://m:1/x=y",), ())),
    ],
)
def test_every_address_belongs_to_an_endpoint(
    urls: tuple[str, ...], given: tuple[str, ...], places: tuple[tuple[str, ...] | None, ...]
) -> None:
    assert metrics_places(urls, given) == places
