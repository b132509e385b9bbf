"""What was measured comes back as it was, also after a kill."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pytest_mooncake.errors import JournalError, UsageError
from pytest_mooncake.journal import EVENTS_FILE, PLAN_FILE, REQUESTS_FILE, Journal, append_event, read, view_of
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import (
    ClientHealth,
    Engine,
    Kind,
    KVGeometry,
    Phase,
    PlannedReuse,
    ProbeAnswer,
    ProbeRole,
    RequestRecord,
    Round,
    Scrape,
    Settle,
    StackView,
    Store,
)
from tests.support.made_records import as_first_version

VIEW = StackView(
    name="local",
    provisioned=True,
    engines=(Engine(url="http://127.0.0.1:1", metrics_url="http://m:1/", metrics_urls=("http://m:1/", "http://m:2/")),),
    model="tiny",
    max_model_len=32768,
    store=Store(master_url="http://127.0.0.1:2", node_urls=("http://127.0.0.1:3",)),
    kv=KVGeometry(bytes_per_token=512),
    versions={"vllm": "0.32.0"},
    notes=("figures do not transfer",),
)


def request(index: int, number: int = 0) -> RequestRecord:
    return RequestRecord(
        round=number,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        index=index,
        prompt_tokens_planned=512,
        output_tokens_planned=4,
        intended_ns=1,
        sent_ns=2,
        first_token_ns=5,
        last_token_ns=9,
        chunk_ns=(5, 7, 9),
        chunk_tokens=(1, 1, 2),
        prompt_tokens=512,
        output_tokens=4,
        cached_tokens=0,
    )


def measured(number: int = 0) -> Round:
    return Round(
        round=number,
        kind=Kind.COLD,
        phase=Phase.CHAIN,
        segment=1,
        position=0,
        nonce=f"n{number}",
        started_ns=1,
        ended_ns=10,
        requests=(request(0, number), replace(request(1, number), error="cut off")),
        before=(Scrape(source="master", at_ns=0, samples={"master_key_count": 1.0}),),
        after=(Scrape(source="master", at_ns=11, samples={}, error="refused"),),
        settle=Settle(seconds=0.7, settled=True, how="store counters"),
        client=ClientHealth(cpu_s=0.1, chunks=3),
    )


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return resolve(Options(label="release 7"), tmp_path)


def recorded(directory: Path, plan: Plan, *rounds: Round, end: str | None = "decided") -> Path:
    with Journal(directory, plan) as journal:
        journal.event("environment", environment={"python": "3.11"})
        journal.event("stack", view=VIEW)
        for one in rounds:
            for record in reversed(one.requests):
                journal.request(record)
            journal.round(one)
        if end:
            journal.event("run_end", reason=end)
    return directory


def test_a_run_comes_back_as_it_was_written(tmp_path: Path, plan: Plan) -> None:
    back = read(recorded(tmp_path / "run", plan, measured(0), measured(1)))
    assert back.plan == plan
    assert back.view == VIEW
    assert back.rounds == (measured(0), measured(1))
    assert back.environment == {"python": "3.11"}
    assert back.complete


def test_an_answer_whose_tokens_nobody_split_over_its_chunks_comes_back(tmp_path: Path, plan: Plan) -> None:
    one = measured()
    unsplit = replace(one, requests=tuple(replace(each, chunk_tokens=()) for each in one.requests))
    found = read(recorded(tmp_path / "run", plan, unsplit))
    assert found.damage == ()
    assert found.rounds == (unsplit,)


def test_an_engine_of_a_record_from_before_it_could_have_several_processes_is_read() -> None:
    old = asdict(VIEW)
    del old["engines"][0]["metrics_urls"]

    assert view_of(old).engines == (Engine(url="http://127.0.0.1:1", metrics_url="http://m:1/"),)


def test_what_a_round_was_planned_to_reuse_comes_back_with_it(tmp_path: Path, plan: Plan) -> None:
    planned = PlannedReuse(
        requests=2,
        chunk_tokens=256,
        chunks=4,
        distinct_chunks=3,
        cold_chunks=1,
        cold_cached_tokens=256,
        warm_cached_tokens=1024,
        in_order=True,
    )
    back = read(recorded(tmp_path / "run", plan, replace(measured(0), planned=planned)))
    assert back.rounds[0].planned == planned


def test_what_a_workload_could_not_be_is_read_back_once(tmp_path: Path, plan: Plan) -> None:
    directory = recorded(tmp_path / "run", plan, measured(0))
    assert read(directory).run_notes.workload_notes == ()
    for _ in range(2):
        append_event(directory, "workload", notes=["kb-qa: 1 of 8 documents"])
    assert read(directory).run_notes.workload_notes == ("kb-qa: 1 of 8 documents",)


def test_what_the_client_lacked_is_read_back_once(tmp_path: Path, plan: Plan) -> None:
    directory = recorded(tmp_path / "run", plan, measured(0))
    assert read(directory).run_notes.client_notes == ()
    for _ in range(2):
        append_event(directory, "client", notes=["stamped late"])
    assert read(directory).run_notes.client_notes == ("stamped late",)


def test_a_record_without_planned_reuse_is_read_as_not_known(tmp_path: Path, plan: Plan) -> None:
    directory = as_first_version(recorded(tmp_path / "run", plan, measured(0)))
    events = (directory / EVENTS_FILE).read_bytes()
    (directory / EVENTS_FILE).write_bytes(events.replace(b',"planned":null', b""))
    assert read(directory).rounds == (measured(0),)


def test_a_killed_run_keeps_every_finished_request(tmp_path: Path, plan: Plan) -> None:
    with Journal(tmp_path / "run", plan) as journal:
        journal.event("stack", view=VIEW)
        for record in measured(0).requests:
            journal.request(record)
        journal.round(measured(0))
        journal.request(request(0, number=1))
    with (tmp_path / "run" / REQUESTS_FILE).open("ab") as file:
        file.write(b'{"round": 1, "torn')
    back = read(tmp_path / "run")
    assert not back.complete
    assert back.damage == ()
    assert back.rounds == (measured(0),)
    assert back.orphans == (request(0, number=1),)


def test_records_are_on_disk_before_the_journal_is_closed(tmp_path: Path, plan: Plan) -> None:
    with Journal(tmp_path / "run", plan) as journal:
        journal.request(request(0))
        assert (tmp_path / "run" / REQUESTS_FILE).read_bytes().endswith(b"}\n")


def test_a_directory_that_holds_a_run_is_not_written_again(tmp_path: Path, plan: Plan) -> None:
    recorded(tmp_path / "run", plan, measured())
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match="already holds a run"):
        Journal(tmp_path / "run", plan)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_directory_without_a_run_is_said_to_hold_none(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no run"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": "pytest-mooncake/journal/1", "plan": {"stack": 5}}'])
def test_a_plan_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PLAN_FILE).write_bytes(content)
    with pytest.raises(JournalError) as caught:
        read(tmp_path)
    assert PLAN_FILE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).write_bytes(b'{"schema": "pytest-mooncake/journal/99", "plan": {}}')
    with pytest.raises(JournalError, match="journal/99"):
        read(tmp_path)


def test_a_damaged_line_is_named_and_what_stands_is_read(tmp_path: Path, plan: Plan) -> None:
    directory = recorded(tmp_path / "run", plan, measured())
    events = (directory / EVENTS_FILE).read_bytes()
    (directory / EVENTS_FILE).write_bytes(b"garbage\n" + events)
    back = read(directory)
    assert back.damage == ("events.jsonl:1: not as it was written (its checksum is wrong)",)
    assert back.rounds == (measured(),)


def test_a_missing_file_is_named(tmp_path: Path, plan: Plan) -> None:
    directory = recorded(tmp_path / "run", plan, measured())
    (directory / REQUESTS_FILE).unlink()
    with pytest.raises(JournalError, match=r"requests\.jsonl is missing"):
        read(directory)


def test_rounds_of_the_chain_come_back_with_the_worst_error_of_all_calibrations(tmp_path: Path, plan: Plan) -> None:
    left_out = replace(measured(0), phase=Phase.LEFT_OUT)
    directory = recorded(tmp_path / "run", plan, left_out, measured(1))
    known: dict[str, object] = {"itl_bias_ms": 0.01, "error_p99_ms": 2.0}
    events: list[dict[str, object]] = [
        {"when": "before", "error": None, "bias_ms": -0.7, **known},
        {"when": "after", "error": None, "bias_ms": 0.5, **known},
        {"when": "after", "error": "it did not start"},
    ]
    for values in events:
        append_event(directory, "calibration", **values)
    first, second = read(directory).rounds
    assert first.client == left_out.client
    assert second.client == replace(measured(1).client, bias_ms=-0.7, itl_bias_ms=0.01, error_p99_ms=2.0)


def test_what_is_known_beside_the_rounds_comes_back_too(tmp_path: Path) -> None:
    answer = ProbeAnswer(
        case="document",
        role=ProbeRole.WARM,
        engine=1,
        prompt_tokens=1041,
        cached_expected=1024,
        cached_tokens=1024,
        local_tokens=0,
        external_tokens=1024,
        store_keys=4,
        tokens=("token_id:7", "token_id:9"),
        logprobs=(-0.5, None),
        top=({"token_id:7": -0.5, "token_id:8": -1.0}, {"token_id:9": -0.25}),
    )
    with Journal(tmp_path / "run", resolve(Options(), tmp_path)) as journal:
        journal.event("probes", answers=(answer,))
        journal.event("store_care", removed_keys=12, sentences=["keys of this run stay in the store: no RPC"])
        journal.event("casualties", sentences=["master is no longer running; its log: logs/master.log"])
        journal.event("run_end", reason="decided")
    recorded = read(tmp_path / "run")
    assert recorded.run_notes.casualties == ("master is no longer running; its log: logs/master.log",)
    assert recorded.run_notes.probes == (answer,)
    assert recorded.run_notes.store_notes == ("keys of this run stay in the store: no RPC",)
