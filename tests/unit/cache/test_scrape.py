"""What vLLM, LMCache and Mooncake really write is understood, name for name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pytest_mooncake.analysis.evidence.counters.deltas import read
from pytest_mooncake.analysis.evidence.counters.exposition import exposition_of, split_series
from pytest_mooncake.cache.scrape import MAX_SERIES, Source, series_name, sources_of
from pytest_mooncake.records import Engine, Scrape, StackView, Store
from tests.support.scripted_world import view

DATA = Path(__file__).parents[2] / "data" / "metrics"


def parse_samples(text: str) -> Mapping[str, float]:
    return exposition_of(text).samples


def scraped(source: str, file: str) -> tuple[Scrape, ...]:
    return (Scrape(source=source, at_ns=0, samples=parse_samples((DATA / file).read_text())),)


def test_mooncakes_counters_keep_their_names_whatever_their_type_line_says() -> None:
    samples = parse_samples((DATA / "mooncake-master-0.3.13.txt").read_text())

    assert samples["mem_cache_hit_nums_"] == 1920
    assert samples["mem_cache_hit_bytes_total"] == 251_658_240
    assert samples["master_evicted_key_count"] == 0
    assert samples['segment_allocated_bytes{segment="127.0.0.1:12301"}'] == 130_023_424
    assert not [name for name in samples if name.endswith(("__total", "_bucket"))]


def test_the_master_is_read_into_its_quantities() -> None:
    master = scraped("master", "mooncake-master-0.3.13.txt")

    assert read(master, "keys") == 1925
    assert read(master, "put_items_started") == 1925 + 6
    assert read(master, "put_items_failed") == 1
    assert read(master, "put_items_ended") == 1925 + 5
    assert read(master, "put_items_discarded") == 0
    assert read(master, "active_clients") == 2


def test_vllm_is_read_into_its_quantities() -> None:
    engine = scraped("engine:0", "vllm-0.32.0.txt")

    assert read(engine, "external_hit_tokens") == 491_490
    assert read(engine, "local_hit_tokens") == 0
    assert read(engine, "computed_tokens") == 491_550
    assert read(engine, "requests_running") == 0
    assert read(engine, "requests_succeeded") == 60
    assert read(engine, "lmcache_remote_read_bytes") == 251_658_240
    assert read(engine, "lmcache_local_cpu_hot_cache_count") == 0


def test_an_older_vllm_is_read_by_its_older_names() -> None:
    engine = scraped("engine:0", "vllm-0.11.1.txt")

    assert read(engine, "external_hit_tokens") == 98_298
    assert read(engine, "local_hit_tokens") == 512
    assert read(engine, "computed_tokens") is None
    assert read(engine, "requests_succeeded") == 12


def test_buckets_creation_times_and_python_internals_are_left_out() -> None:
    registry = CollectorRegistry()
    Histogram("vllm:time_to_first_token_seconds", "t", ["engine"], registry=registry).labels("0").observe(2.5)
    Counter("vllm:prompt_tokens", "t", registry=registry).inc(7)
    Gauge("python_gc_objects", "t", registry=registry).set(1)
    samples = parse_samples(generate_latest(registry).decode())

    assert samples == {
        'vllm:time_to_first_token_seconds_count{engine="0"}': 1,
        'vllm:time_to_first_token_seconds_sum{engine="0"}': 2.5,
        "vllm:prompt_tokens_total": 7,
    }


def test_a_broken_line_costs_that_line_only() -> None:
    text = 'vllm:a{x="1"} 5\nvllm:b{x="unclosed 3\nvllm:c not-a-number\nvllm:d NaN\nvllm:\nvllm:e 1e+06\n'

    assert parse_samples(text) == {'vllm:a{x="1"}': 5, "vllm:e": 1_000_000}


@pytest.mark.parametrize("text", ["", "<html>login</html>", "python_info 1\n", "# only comments\n"])
def test_an_answer_without_any_series_of_the_stack_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is this a /metrics address"):
        parse_samples(text)


def test_an_answer_with_too_many_series_is_an_error() -> None:
    text = "\n".join(f'segment_allocated_bytes{{segment="{i}"}} 1' for i in range(MAX_SERIES + 1))

    with pytest.raises(ValueError, match=f"more than {MAX_SERIES}"):
        parse_samples(text)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.text(max_size=20), max_size=4),
    st.integers(min_value=0, max_value=2**53),
)
def test_what_prometheus_writes_is_read_back_whatever_the_labels(labels: dict[str, str], value: int) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("vllm:g", "t", sorted(labels), registry=registry)
    (gauge.labels(**labels) if labels else gauge).set(value)

    assert parse_samples(generate_latest(registry).decode()) == {series_name("vllm:g", labels): value}


@given(st.text(max_size=2000))
def test_no_text_at_all_makes_the_parser_stumble(text: str) -> None:
    try:
        samples = parse_samples("vllm:a 1\nvllm:" + text)
    except ValueError:
        return
    assert samples["vllm:a"] == 1 or "vllm:a" in text


def test_a_series_is_split_at_its_labels_even_when_they_hold_brackets_and_quotes() -> None:
    name, labels = split_series(series_name("m", {"model_name": 'a"b,c}', "engine": "0"}))

    assert name == "m"
    assert labels == (("engine", "0"), ("model_name", 'a\\"b,c}'))


def test_sources_are_all_engines_that_show_metrics_the_master_and_its_nodes() -> None:
    stack = StackView(
        name="s",
        provisioned=True,
        engines=(
            Engine(url="http://127.0.0.1:1", metrics_url="http://127.0.0.1:1/metrics"),
            Engine(url="http://127.0.0.1:2"),
            Engine(url="http://127.0.0.1:3", metrics_url="http://127.0.0.1:3"),
        ),
        model="m",
        store=Store(master_url="http://127.0.0.1:9003/", node_urls=("http://127.0.0.1:9300",)),
    )

    assert sources_of(stack) == (
        Source(name="engine:0", url="http://127.0.0.1:1/metrics"),
        Source(name="engine:2", url="http://127.0.0.1:3/metrics"),
        Source(name="master", url="http://127.0.0.1:9003/metrics"),
        Source(name="node:0", url="http://127.0.0.1:9300/metrics"),
    )
    assert [s.name for s in sources_of(view(store=False))] == ["engine:0"]


def test_each_process_of_an_engines_address_is_a_source_and_a_place_that_two_engines_name_is_one() -> None:
    many = Engine(url="http://a", metrics_url="http://m:1", metrics_urls=("http://m:1", "http://m/prom#10.0.0.2"))
    stack = replace(view(store=False), engines=(many, Engine(url="http://b", metrics_urls=("http://m:1", "http://c"))))

    assert sources_of(stack) == (
        Source(name="engine:0", url="http://m:1/metrics"),
        Source(name="engine:0.1", url="http://m/prom", address="10.0.0.2"),
        Source(name="engine:1.1", url="http://c/metrics"),
    )
