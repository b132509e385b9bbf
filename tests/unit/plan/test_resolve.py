"""Options become a plan, or one line that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import DEFAULT_LOOKS, new_run_id, resolve
from pytest_mooncake.records import Rung

URL = ("http://127.0.0.1:8000",)


def planned(tmp_path: Path, **options: object) -> Plan:
    return resolve(Options(**options), tmp_path)  # type: ignore[arg-type] # the options are what the tests vary


def refusal(tmp_path: Path, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        planned(tmp_path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_options_the_plan_is_the_specs_acceptance_on_the_real_local_stack(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert (plan.stack.kind, plan.stack.store.nodes, plan.stack.engine.prefix_caching) == ("local", 2, False)
    assert (plan.stack.connector.kind, plan.stack.connector.chunk_tokens) == ("lmcache", 256)
    work = plan.workload
    assert (work.requests, work.prompt_tokens, work.output_tokens, work.concurrency) == (30, 16384, 128, 4)
    assert [(c.metric, c.ratio) for c in plan.targets.claims if c.gating] == [
        ("ttft_mean", 0.40),
        ("request_throughput", 2.5),
        ("tpot_mean", 1.10),
    ]
    assert plan.looks == DEFAULT_LOOKS == (3, 4, 5, 6, 8, 10)
    assert plan.evidence is Rung.STORE


def test_an_attached_endpoint_needs_only_usage_as_evidence(tmp_path: Path) -> None:
    plan = planned(tmp_path, url=URL)
    assert (plan.stack.kind, plan.stack.urls, plan.evidence) == ("attached", URL, Rung.USAGE)


def test_options_override_the_workloads_numbers(tmp_path: Path) -> None:
    plan = planned(tmp_path, requests="5", concurrency="2", prompt_tokens="1,024", output_tokens="8", seed="0")
    work = plan.workload
    assert (work.requests, work.concurrency, work.prompt_tokens, work.output_tokens, work.seed) == (5, 2, 1024, 8, 0)
    assert work.name == "long-document"


def test_names_in_the_users_own_fixtures_win(tmp_path: Path) -> None:
    mine = tmp_path / "fixtures" / "workloads" / "long-document.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("requests: 3\n", encoding="utf-8")
    assert planned(tmp_path).workload.requests == 3


def test_a_path_is_read_from_the_directory_of_invocation(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("requests: 4\n", encoding="utf-8")
    plan = planned(tmp_path, workload="w.yaml")
    assert (plan.workload.requests, plan.workload.name) == (4, "w")


@pytest.mark.parametrize(("text", "looks"), [("5", (5,)), ("3, 5,10", (3, 5, 10)), ("2,3", (2, 3))])
def test_looks_are_numbers_of_trials(tmp_path: Path, text: str, looks: tuple[int, ...]) -> None:
    assert planned(tmp_path, trials=text).looks == looks


def test_timeouts_are_given_by_name(tmp_path: Path) -> None:
    limits = planned(tmp_path, timeout="first-token=30,run=100.5").timeouts
    assert (limits.first_token_s, limits.run_s, limits.between_chunks_s) == (30, 100.5, 120)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"url": URL, "stack": "local"}, "give only one of them"),
        ({"url": URL, "keep_stack": True}, "nothing is started"),
        ({"quick": True, "trials": "3"}, "leave out --mooncake-trials"),
        ({"model": "m"}, "give --mooncake-url as well"),
        ({"api_key_env": "KEY"}, "give --mooncake-url as well"),
        ({"master": "http://h:9003"}, "give --mooncake-url as well"),
        (
            {"url": (*URL, "http://b:1"), "metrics": ("http://a",)},
            "1 --mooncake-metrics for 2 --mooncake-url: say whose",
        ),
        ({"url": URL, "metrics": ("none", "http://a")}, "--mooncake-metrics none reads no counters at all"),
        (
            {"url": URL, "metrics": ("http://x=http://a",)},
            "http://x=…: no such --mooncake-url; given: http://127.0.0.1",
        ),
        ({"url": URL, "metrics": (f"{URL[0]}=none", "http://a")}, "=none: other counters are named for it"),
        ({"url": URL, "metrics": ("a:9000",)}, "--mooncake-metrics a:9000: not an address"),
        ({"url": URL, "metrics": ("none",), "evidence": "engine"}, "--mooncake-metrics none leaves unread"),
        ({"url": ("localhost:8000",)}, "write http://host:port"),
        ({"url": ("ftp://host",)}, "write http://host:port"),
        ({"url": ("http://host:99999",)}, "not a URL"),
        ({"url": ("http://user:pw@host",)}, "--mooncake-api-key-env"),
        ({"url": ("mooncakestore://h",)}, "mooncakestore://host:port"),
        ({"url": ("mooncakestore://h:port",)}, "mooncakestore://host:port"),
        ({"url": ("mooncakestore://h:50051", "http://h:8000")}, "a store is named alone"),
        ({"url": ("mooncakestore://h:50051",), "model": "m"}, "--mooncake-model describes engines that run"),
        ({"url": ("mooncakestore://h:50051",), "stack": "simulated"}, "only a local stack's engines"),
        ({"url": ("mooncakestore://h:50051",), "master": "h:9003"}, "--mooncake-master"),
        ({"url": URL, "master": "9003"}, "--mooncake-master 9003"),
        ({"stack": "locl"}, "did you mean 'local'?"),
        ({"stack": "zzz"}, "known names: local, local-mooncakestore, simulated"),
        ({"workload": "nope.yaml"}, "no such file"),
        ({"requests": "0"}, "at least 1"),
        ({"requests": "-3"}, "--mooncake-requests -3"),
        ({"concurrency": "four"}, "expected a whole number"),
        ({"seed": "1.5"}, "expected a whole number"),
        ({"trials": "1"}, "one trial has no spread"),
        ({"trials": "5,3"}, "looks must rise"),
        ({"trials": "3,3"}, "looks must rise"),
        ({"trials": "a"}, "expected numbers of trials"),
        ({"trials": "3,1000"}, "end at 100"),
        ({"evidence": "stor"}, "expected one of store, engine, usage, timing"),
        ({"lang": "de"}, "expected one of en, zh"),
        ({"timeout": "first=3"}, "expected first-token=S"),
        ({"timeout": "run=-1"}, "seconds above 0"),
        ({"timeout": "run=inf"}, "seconds above 0"),
        ({"timeout": "run=x"}, "seconds above 0"),
    ],
)
def test_what_cannot_be_meant_is_one_line_that_says_what_to_do(
    tmp_path: Path, options: dict[str, object], fragment: str
) -> None:
    assert fragment in refusal(tmp_path, **options)


def test_a_password_in_a_url_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    assert "s3cret" not in refusal(tmp_path, url=("http://user:s3cret@host",))


def test_a_broken_yaml_file_is_a_plan_error(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("claims: 5\n", encoding="utf-8")
    with pytest.raises(PlanError, match=r"t\.yaml:1"):
        planned(tmp_path, targets="t.yaml")


def test_run_ids_are_never_given_twice() -> None:
    assert len({new_run_id() for _ in range(50)}) == 50


def test_a_plan_survives_the_way_through_json(tmp_path: Path) -> None:
    plan = planned(tmp_path, requests="3")
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_trials_may_be_spread_over_starts_of_a_stack_that_is_started_here(tmp_path: Path) -> None:
    assert planned(tmp_path).sessions == 1
    assert planned(tmp_path, sessions="1", url=URL).sessions == 1
    assert planned(tmp_path, sessions="3").sessions == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sessions": "0"}, "--mooncake-sessions 0: expected a number of engine starts, at least 1"),
        ({"sessions": "two"}, "--mooncake-sessions two: expected a number"),
        ({"sessions": "2", "url": URL}, "starts the stack several times: leave out --mooncake-url"),
        ({"sessions": "2", "quick": True}, "leave out --mooncake-quick"),
        ({"sessions": "2", "keep_stack": True}, "leave out --mooncake-keep-stack"),
        (
            {"sessions": "4"},
            "the first look comes after 3 trials, one a start is needed; give --mooncake-trials with a",
        ),
    ],
)
def test_starts_that_cannot_be_meant_are_refused(tmp_path: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        planned(tmp_path, **given)


def test_the_cold_tax_is_asked_for_where_a_connector_is_started_here(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("kind: local\nconnector:\n  kind: none\n", encoding="utf-8")

    assert planned(tmp_path, cold_tax=True).cold_tax
    with pytest.raises(UsageError, match="with --mooncake-url nothing is started"):
        planned(tmp_path, cold_tax=True, url=URL)
    with pytest.raises(UsageError, match="the stack 'bare' has no connector"):
        planned(tmp_path, cold_tax=True, stack="bare.yaml")


def test_a_steady_state_is_asked_for_where_the_store_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("kind: local\nconnector:\n  kind: none\n", encoding="utf-8")

    assert planned(tmp_path, steady=True).steady
    assert planned(tmp_path, steady=True, url=URL, allow_clear="2").steady
    with pytest.raises(UsageError, match="give --mooncake-allow-clear twice"):
        planned(tmp_path, steady=True, url=URL, allow_clear="1")
    with pytest.raises(UsageError, match="there is no store to fill"):
        planned(tmp_path, steady=True, stack="bare.yaml")


def test_a_running_store_is_joined_by_engines_of_a_local_stack(tmp_path: Path) -> None:
    plan = planned(tmp_path, url=("mooncakestore://store.example:50051/",), master="http://store.example:9004")
    stack = plan.stack
    assert (stack.kind, stack.store_url, stack.isolate) == ("local", "mooncakestore://store.example:50051", "never")
    assert stack.master_url == "http://store.example:9004"
    assert plan.evidence is Rung.STORE
    other = planned(tmp_path, url=("mooncakestore://h:50051",), stack="local-mooncakestore").stack
    assert (other.connector.kind, other.store_url) == ("mooncakestore", "mooncakestore://h:50051")


def attached_file(tmp_path: Path, text: str) -> str:
    (tmp_path / "prod.yaml").write_text(f"kind: attached\nurls: [http://prod:8000]\n{text}", encoding="utf-8")
    return "prod.yaml"


def test_the_chunk_size_of_what_runs_is_given_by_option_or_yaml(tmp_path: Path) -> None:
    assert planned(tmp_path, url=URL).stack.chunk_tokens is None
    assert planned(tmp_path, url=URL, chunk_tokens="1,024").stack.chunk_tokens == 1024
    stack = attached_file(tmp_path, "chunk_tokens: 544\n")
    assert planned(tmp_path, stack=stack).stack.chunk_tokens == 544
    assert planned(tmp_path, stack=stack, chunk_tokens="512").stack.chunk_tokens == 512
    stack = attached_file(tmp_path, "connector: {chunk_tokens: 1024}\n")
    assert planned(tmp_path, stack=stack).stack.chunk_tokens == 1024
    stack = attached_file(tmp_path, "connector: {kind: mooncakestore}\n")
    assert planned(tmp_path, stack=stack).stack.chunk_tokens is None, "a default was not written"


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "", "9" * 6000, "1048577", "٢٥٦"])
def test_a_chunk_size_that_cannot_be_meant_is_one_line(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, url=URL, chunk_tokens=text)
    assert message.startswith("--mooncake-chunk-tokens")
    assert len(message) < 200


def test_a_stack_that_is_started_here_tells_its_own_chunk_size(tmp_path: Path) -> None:
    assert "connector.chunk_tokens" in refusal(tmp_path, chunk_tokens="512")
    assert "describes what already runs" in refusal(tmp_path, url=("mooncakestore://h:50051",), chunk_tokens="512")
    (tmp_path / "mine.yaml").write_text("kind: local\nchunk_tokens: 512\n", encoding="utf-8")
    with pytest.raises(PlanError, match=r"connector: \{chunk_tokens: N\}"):
        planned(tmp_path, stack="mine.yaml")


@pytest.mark.parametrize("value", ["0", "many", "true", "1e400", "2097152", "[256]"])
def test_a_chunk_size_in_yaml_that_cannot_be_meant_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(PlanError, match=r"prod\.yaml:3.*(chunk_tokens|no finite number)"):
        planned(tmp_path, stack=attached_file(tmp_path, f"chunk_tokens: {value}\n"))
