"""The comparison of clients runs, sees every chunk, and finds ours no worse than what it is compared with."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.client import __main__ as command
from benchmarks.client import own_costs, peers, side_by_side
from benchmarks.client.accounted import account
from benchmarks.client.contestants import CONTESTANTS, Contestant, Job
from benchmarks.client.entrants import Absent, Entrant, entrants
from benchmarks.client.floor import floor
from benchmarks.client.goals import PROMISES, alone_goals, goals, table_of_goals
from benchmarks.client.in_process import excess, fastest, measure, repeated, table
from benchmarks.client.peers import Told
from benchmarks.client.side_by_side import Figures, compare_all, errors_of, median_of, reached_per_s, send_delay_ms
from benchmarks.client.truth import Load, compiled, serving
from pytest_mooncake.load.calibration.calibrate import Calibration

SMALL = Load(streams=3, tokens=6, gap_ms=5.0, ttft_ms=10.0)
CALIBRATION = Calibration(
    bias_ms=0.1,
    error_p99_ms=0.5,
    ttft_error_p99_ms=0.5,
    itl_bias_ms=0.0,
    itl_error_p99_ms=0.2,
    cpu_us_per_chunk=14.0,
    requests=6,
    chunks=36,
)


@pytest.fixture
def least() -> Iterator[Contestant]:
    """The floor; without a compiler there is none to hold anything against."""
    with floor() as found:
        if found is None:
            pytest.skip("no gcc for the C floor")
        yield found


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: str(contestant.name))
def test_every_client_sees_every_chunk(contestant: Contestant) -> None:
    found = measure(contestant, SMALL)
    assert found.requests == 6
    assert found.chunks == 36


def test_the_table_names_every_client() -> None:
    printed = table(SMALL, repeated(SMALL, 1))
    assert all(contestant.name in printed for contestant in CONTESTANTS)
    assert "CPU µs/chunk" in printed


def test_at_many_streams_opening_connections_first_pays() -> None:
    """Bias of the first wave, where everybody else pays for connecting and encoding inside TTFT."""
    load = Load(streams=64, tokens=4, gap_ms=20.0)
    ours, *_, plain = (min(abs(measure(one, load).bias_ms) for _ in range(3)) for one in CONTESTANTS)
    assert ours < plain


def test_our_error_is_within_bounds_of_the_floor_in_the_same_run(least: Contestant) -> None:
    """Ratios to a client in C that only stamps, best of three each: a busy machine disturbs both."""
    load = Load(streams=16, tokens=16, gap_ms=10.0)
    runs = repeated(load, 3, (least, CONTESTANTS[0]))
    best, ours = runs.values()
    assert all(one.chunks == 512 for one in (*best, *ours))
    assert excess(ours, best) == []
    assert min(o.cpu_us_per_chunk or 0 for o in ours) > min(b.cpu_us_per_chunk or 0 for b in best), "it is a floor"


def test_an_error_beyond_the_floors_own_is_told() -> None:
    worse = replace(CALIBRATION, itl_error_p99_ms=1.9)
    assert excess([worse], [CALIBRATION]) == ["itl_error_p99_ms: 1.90, the floor's own error allows 1.80"]
    assert excess([worse, CALIBRATION], [CALIBRATION]) == [], "the best of several counts"


def test_at_the_highest_rate_the_run_says_when_the_client_was_the_limit() -> None:
    slow = replace(CALIBRATION, itl_error_p99_ms=2.5)
    assert fastest([slow, CALIBRATION]).endswith("best of 2: 0.20 ms, within 2 ms")
    assert fastest([slow], [CALIBRATION]).endswith("2.50 ms, above 2 ms: the client was the limit")
    assert fastest([slow], [slow]).endswith("and so is the floor's: the machine was the limit")


TABLES: dict[int, dict[str, Figures | str]] = {
    256: {
        "C epoll floor": Figures(cpu_us_per_chunk=10.0, ttft_error_p99_ms=2.0),
        "pytest-mooncake": Figures(
            cpu_us_per_chunk=20.0, ttft_bias_ms=1.1, ttft_error_p99_ms=2.5, itl_error_p99_ms=0.7
        ),
        "vllm bench serve 0.32.0": Figures(cpu_us_per_chunk=30.0),
        "AIPerf 0.13.0": "ended with code 1",
    }
}


def test_goals_are_held_against_the_rows_of_one_table() -> None:
    found = {goal.title: (goal.measured, goal.outcome) for goal in goals(TABLES)}
    assert found == {
        "CPU of a chunk at 64 streams, × C epoll floor": (None, "not measured"),
        "CPU of a chunk at 256 streams, × C epoll floor": (2.0, "met"),
        "CPU of a chunk at 256 streams, × vllm bench serve": (pytest.approx(2 / 3), "missed"),
        "CPU of a chunk at 256 streams, × AIPerf": (None, "not measured"),
        "CPU of a chunk at 256 streams, × GuideLLM": (None, "not measured"),
        "TTFT bias at 256 streams, ms": (1.1, "missed"),
        "TTFT P99 error at 256 streams, ms above C epoll floor": (0.5, "met"),
        "ITL P99 error at 256 streams, ms": (0.7, "met"),
    }


def test_every_goal_has_its_line() -> None:
    alone = list(alone_goals([CALIBRATION], 310.0, 0.25))
    assert [goal.outcome for goal in alone] == ["met", "missed", "met"]
    printed = table_of_goals([*goals({}), *alone])
    assert "| CPU of a long prompt, µs" in printed
    assert printed.count("not measured") == len(PROMISES)


def test_the_quick_form_checks_and_its_code_says_how_it_ended(
    least: Contestant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", SMALL)
    monkeypatch.setattr(command, "excess", lambda *_: [])
    assert command.quick(least) == 0
    monkeypatch.setattr(command, "excess", lambda *_: ["too coarse"])
    assert command.quick(least) == 1
    assert "too coarse" in capsys.readouterr().out


def test_without_a_compiler_there_is_no_floor_and_the_servers_own_truth_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(SMALL, None) as server:
        pass
    assert not server.is_compiled
    monkeypatch.setenv("PATH", "")
    compiled.cache_clear()
    try:
        with floor() as found:
            assert found is None
        assert measure(CONTESTANTS[0], SMALL).chunks == 36
    finally:
        compiled.cache_clear()


def test_costs_beside_chunks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_costs, "PROMPT_TOKENS", 4 * own_costs.PROMPT_TOKENS)  # a cost far above a machine's noise
    assert own_costs.prompt_us(repeats=2) > 0
    assert own_costs.bytes_per_stream(replace(SMALL, streams=8)) > 0


# --- as processes of their own ---


def test_ours_and_the_floor_are_told_side_by_side_as_processes(least: Contestant) -> None:
    del least
    everybody = tuple(one for one in entrants(peers=False) if one.name in ("C epoll floor", "pytest-mooncake"))
    found = compare_all(everybody, SMALL, flood=replace(SMALL, gap_ms=1.0))
    printed = side_by_side.table(SMALL, found)
    for name in ("C epoll floor", "pytest-mooncake"):
        figures = found[name]
        assert isinstance(figures, Figures)
        assert figures.send_delay_ms is not None
        assert figures.send_delay_ms > 0
        assert figures.ttft_error_p99_ms is not None
        assert figures.itl_error_p99_ms is not None
        assert figures.chunks_per_s
        assert name in printed


def test_all_that_a_command_starts_is_accounted_for_even_what_it_leaves_behind(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    left = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    found = account([sys.executable, "-c", left], tmp_path, limit_s=30, environment=dict(os.environ))
    assert found.code == 0
    assert found.cpu_s > 0.3, "the grandchild outlived its parent and counts"


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    forever = "import time; time.sleep(600)"
    found = account([sys.executable, "-c", forever], tmp_path, limit_s=0.5, environment=dict(os.environ))
    assert found.code == -9
    assert found.wall_s < 100


def entrant(code: str) -> Entrant:
    return Entrant(name="odd", command=lambda *_: [sys.executable, "-c", code], read=lambda _: iter(()))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no model hub')", "ended with code 1: no model hub"),
        ("pass", "none of the requests it tells of is known"),
    ],
)
def test_a_client_that_fails_has_its_reason_for_a_row(code: str, said: str) -> None:
    found = compare_all((entrant(code), Absent(name="gone", reason="not on PyPI")), SMALL, flood=None)
    assert said in str(found["odd"])
    assert found["gone"] == "not on PyPI"
    assert "not on PyPI" in side_by_side.table(SMALL, found)


def test_errors_are_what_a_client_tells_less_what_the_server_did() -> None:
    known = {"r000001": [0, 10_000_000, 15_000_000, 20_000_000]}
    told = [
        Told(key="r000001", ttft_ms=12.0, gaps_ms=(5.5, 4.5)),
        Told(key="r000001", ttft_ms=11.0, gaps_ms=(5.0,)),
        Told(key="warm-up", ttft_ms=99.0),
    ]
    ttft, gaps = errors_of(told, known)
    assert ttft == [2.0, 1.0]
    assert gaps == [0.5, -0.5], "where chunks were merged gaps cannot be compared"


def test_the_rate_reached_is_that_of_the_waves_before_the_last() -> None:
    load = Load(streams=2, tokens=100, gap_ms=1.0, waves=3)
    arrivals = [0, 0, 10**9, 10**9, 2 * 10**9, 2 * 10**9]
    assert reached_per_s(load, arrivals) == 4 * 100 / 2
    assert reached_per_s(load, [-(10**9), *arrivals]) == 200, "a warm-up request does not count"
    assert reached_per_s(load, arrivals[1:]) is None


def test_the_send_delay_is_from_the_end_of_a_response_to_the_request_in_its_place() -> None:
    load = Load(streams=2, tokens=1, gap_ms=1.0, waves=2)
    first = {"r0": [0, 10_000_000], "r1": [1, 20_000_000]}
    one = [13_000_000, 30_000_000]
    truth = {**first, "r2": one, "ours-2": one, "r3": [25_000_000, 40_000_000]}
    assert send_delay_ms(load, truth) == 4.0
    assert send_delay_ms(load, {"warm-up": [-20, -10], **truth}) == 4.0
    assert send_delay_ms(load, first) is None


def test_of_several_runs_the_median_is_told_and_a_run_that_failed_does_not_count() -> None:
    runs = [Figures(cpu_us_per_chunk=one, itl_bias_ms=None) for one in (9.0, 30.0, 10.0)]
    assert median_of([*runs, "ended with code 1"]) == Figures(cpu_us_per_chunk=10.0)
    assert median_of(["ended with code 1", "ended with code 2"]) == "ended with code 1"


# --- what peers leave ---


def test_what_vllm_leaves_is_read(tmp_path: Path) -> None:
    told = {"generated_texts": ["r000007  token"], "ttfts": [0.05], "itls": [[0.01, 0.02]]}
    (tmp_path / "told.json").write_text(json.dumps(told))
    assert list(peers._read_vllm(tmp_path)) == [Told(key="r000007", ttft_ms=50.0, gaps_ms=(10.0, 20.0))]


def test_what_aiperf_leaves_is_read(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    metrics = {"time_to_first_token": {"value": 50.0}, "inter_chunk_latency": {"value": [10.0]}}
    line = json.dumps({"metadata": {"x_request_id": "u-1"}, "metrics": metrics})
    (tmp_path / "told" / "profile_export.jsonl").write_text(line + "\n")
    assert list(peers._read_aiperf(tmp_path)) == [Told(key="u-1", ttft_ms=50.0, gaps_ms=(10.0,))]


def test_what_guidellm_leaves_is_read(tmp_path: Path) -> None:
    times = {"request_start": 10.0, "first_token_iteration": 10.0625}
    request = {"output": "r000007  token", "info": {"timings": times}}
    told = {"benchmarks": [{"requests": {"successful": [request]}}]}
    (tmp_path / "told.json").write_text(json.dumps(told))
    assert list(peers._read_guidellm(tmp_path)) == [Told(key="r000007", ttft_ms=62.5)]


def test_what_evalscope_leaves_is_read_and_its_pickles_are_never_loaded(tmp_path: Path) -> None:
    place = tmp_path / "told" / "scripted"
    place.mkdir(parents=True)
    pickled = base64.b64encode(b"\x80\x04cos\nsystem\n: {'text': 'r000007'}").decode()
    with contextlib.closing(sqlite3.connect(place / "benchmark_data.db")) as database:
        database.execute("CREATE TABLE result (response_messages, first_chunk_latency, inter_token_latencies)")
        database.execute("INSERT INTO result VALUES (?, 0.05, '[0.01]')", (pickled,))
        database.commit()
    assert list(peers._read_evalscope(tmp_path)) == [Told(key="r000007", ttft_ms=50.0, gaps_ms=(10.0,))]


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: str(peer.name))
def test_every_peer_is_asked_for_the_same_load_with_a_local_tokenizer(peer: peers.Peer, tmp_path: Path) -> None:
    job = Job(url="http://127.0.0.1:1", streams=64, requests=256, tokens=128)
    asked = " ".join(peer.command(job, tmp_path, "/local/tokenizer"))
    assert all(word in asked for word in ("127.0.0.1:1", "64", "256", "128", "/local/tokenizer", str(tmp_path)))


def test_a_peer_that_cannot_be_installed_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "cache_dir", lambda: tmp_path)
    assert peers.tokenizer() is None
    absent = replace(peers.PEERS[0], module="no_such_module.at_all")
    assert peers.python_of(absent) == (None, "not installed here: comes with the real stack")
    found = [one for one in entrants() if one.name.startswith("EvalScope")]
    assert isinstance(found[0], Absent)
    assert "no tokenizer here" in found[0].reason
