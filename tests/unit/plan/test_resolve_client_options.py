"""Options of the client: what they mean, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.parsing.arrivals import Arrivals, parse_rate
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.secrets.credentials import header_in

ATTACHED = ("http://127.0.0.1:1",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", Arrivals(rate_per_s=5)),
        (" poisson:0.5", Arrivals(rate_per_s=0.5)),
        ("constant:.25", Arrivals(shape="constant", rate_per_s=0.25)),
        ("gamma:5:2", Arrivals(shape="gamma", rate_per_s=5, burstiness=2)),
        ("ramp:1-10", Arrivals(shape="ramp", rate_per_s=1, to_per_s=10)),
    ],
)
def test_rates_as_people_write_them(text: str, expected: Arrivals) -> None:
    assert parse_rate(text) == expected


@pytest.mark.parametrize(
    "text", ["", "fast", "-1", "5/s", "gamma:5", "ramp:1", "poisson:5:2", "nan", "inf", "1e3", "0", "ramp:0-5"]
)
def test_a_rate_that_cannot_be_meant_is_refused_with_what_to_write(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--mooncake-rate .*(expected N, constant:N|above 0)"):
        resolve(Options(rate=text), tmp_path)


@given(st.text(max_size=20))
def test_any_text_is_a_rate_above_zero_or_a_value_error(text: str) -> None:
    try:
        found = parse_rate(text)
    except ValueError:
        return
    assert found.rate_per_s > 0


def test_a_rate_lifts_the_cap_unless_concurrency_is_given_too(tmp_path: Path) -> None:
    assert resolve(Options(), tmp_path).workload.in_flight_cap == 4
    assert resolve(Options(rate="5"), tmp_path).workload.in_flight_cap is None
    assert resolve(Options(rate="5", concurrency="7"), tmp_path).workload.in_flight_cap == 7


def test_a_recorded_trace_has_its_own_times(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}\n')
    with pytest.raises(UsageError, match="--mooncake-rate: a trace is sent at its recorded times"):
        resolve(Options(rate="5", workload="trace:t.jsonl"), tmp_path)
    plan = resolve(Options(rate="5", workload="trace:t.jsonl?schedule=none"), tmp_path)
    assert plan.workload.arrivals == Arrivals(rate_per_s=5)


@pytest.mark.parametrize("text", ["0", "-1", "65", "two", "1.5", "²"])
def test_workers_are_a_number_or_auto(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 1 to 64 processes, or auto"):
        resolve(Options(workers=text), tmp_path)


def test_workers_as_asked(tmp_path: Path) -> None:
    assert [resolve(Options(workers=text), tmp_path).workers for text in (None, "3", "auto")] == [1, 3, "auto"]


def test_a_ray_cluster_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ray: .* not built yet; give a number or auto"):
        resolve(Options(workers="ray"), tmp_path)


def test_an_api_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert resolve(Options(api="chat"), tmp_path).api == "chat"
    with pytest.raises(UsageError, match="--mooncake-api grpc: expected one of completions, chat, auto"):
        resolve(Options(api="grpc"), tmp_path)


def test_a_header_belongs_to_what_already_runs(tmp_path: Path) -> None:
    assert resolve(Options(url=ATTACHED, header_env="VAR"), tmp_path).stack.header_env == "VAR"
    with pytest.raises(UsageError, match="--mooncake-header-env describes what already runs"):
        resolve(Options(header_env="VAR"), tmp_path)


def test_a_header_is_read_from_its_variable() -> None:
    assert header_in("VAR", {"VAR": "X-Tenant:  blue team "}) == {"X-Tenant": "blue team"}


@pytest.mark.parametrize("text", ["secret-value", ": secret-value", "X: secret-value\r\nY: 2", "a b: secret-value"])
def test_what_is_no_header_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(UsageError, match="--mooncake-header-env VAR: what it holds is no header") as refused:
        header_in("VAR", {"VAR": text})
    assert "secret-value" not in str(refused.value)


def test_a_header_that_is_not_there_or_not_ours_to_set_is_refused() -> None:
    with pytest.raises(UsageError, match="is not set"):
        header_in("VAR", {})
    with pytest.raises(UsageError, match="Host belongs to the request itself"):
        header_in("VAR", {"VAR": "Host: elsewhere"})
