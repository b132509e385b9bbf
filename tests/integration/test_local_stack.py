"""How a local stack is put together, proven, described, kept and taken down, with stand-ins for its programs."""

from __future__ import annotations

import dataclasses
import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pytest_mooncake.errors import MissingPartError, StackError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.stack import persistent
from pytest_mooncake.stack.local import assembly, model, provision_local, readiness
from pytest_mooncake.stack.local.host.paths import cache_dir
from pytest_mooncake.stack.local.provision import casualties
from pytest_mooncake.stack.local.requirements import Parts
from pytest_mooncake.stack.namespace import inside
from pytest_mooncake.stack.process import birth

STANDIN = Path(__file__).with_name("standin.py")
VERSIONS = {"vllm": "0.32.0", "lmcache": "0.5.6", "mooncake": "0.3.13", "torch": "2.13.0"}


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Stand-ins for all programs; the tools (model builder, probe) are played by the shell."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    python = f"exec {sys.executable} {STANDIN}"
    choose = (
        'case "$2" in\n'
        '  *.build_model) cp "$0" "$4/config.json";;\n'
        "  *.probe_attention) echo 0.016; echo probed >> " + str(tmp_path / "probes") + ";;\n"
        f'  *) shift; {python} engine "$@";;\n'
        "esac"
    )
    found = Parts(
        python=program(binaries / "python", choose),
        master=program(binaries / "mooncake_master", f'{python} master "$@"'),
        node=program(binaries / "mooncake_client", f'{python} node "$@"'),
        versions=VERSIONS,
    )
    monkeypatch.setattr(assembly, "find_parts", lambda: found)
    monkeypatch.setattr(model, "builder_versions", lambda: {"numpy": "2"})
    return found


def make_plan(fault: str = "", **fields: Any) -> StackPlan:
    engine = {"extra_env": {"STANDIN": fault}, **fields.pop("engine", {})}
    return StackPlan.model_validate({"name": "local", "kind": "local", "engine": engine, "isolate": "never", **fields})


def answers(url: str | None) -> bool:
    assert url is not None
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", "/metrics" if parts.path in {"", "/"} else parts.path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def pids_of(view: StackView) -> tuple[int, ...]:
    return (*view.details["pids"].values(), view.details["warden_pid"])


def all_gone(view: StackView) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not all(birth(pid) is None for pid in pids_of(view)):
        time.sleep(0.02)
    return all(birth(pid) is None for pid in pids_of(view)) and not Path(view.details["run_dir"]).exists()


def start(plan: StackPlan, tmp_path: Path, said: list[str] | None = None) -> None:
    with provision_local(plan, log_dir=tmp_path / "logs", progress=(said if said is not None else []).append):
        pass


@pytest.mark.usefixtures("parts")
def test_a_stack_is_one_master_its_nodes_and_its_engines_and_all_are_gone_afterwards(tmp_path: Path) -> None:
    said: list[str] = []
    plan = make_plan(store={"nodes": 2}, engine={"count": 2})
    with provision_local(plan, log_dir=tmp_path / "logs", progress=said.append) as view:
        assert set(view.components) == {"master", "node-0", "node-1", "vllm-0", "vllm-1"}
        assert view.store is not None
        assert answers(view.store.master_url)
        assert all(answers(url) for url in view.store.node_urls)
        assert len(view.engines) == 2
        assert len({engine.url for engine in view.engines}) == 2
        assert view.provisioned
        assert not view.simulated
    assert all_gone(view)
    assert any("storing and reading back" in line for line in said)
    assert {path.name for path in (tmp_path / "logs").iterdir()} >= {"master.log", "node-0.log", "vllm-0.log"}


@pytest.mark.usefixtures("parts")
def test_the_view_says_what_ran_and_that_its_figures_do_not_transfer(tmp_path: Path) -> None:
    plan = make_plan(connector={"chunk_tokens": 128})
    with provision_local(plan, log_dir=tmp_path / "logs", progress=lambda _: None) as view:
        pass
    assert view.kv is not None
    assert (view.kv.bytes_per_token, view.kv.chunk_tokens) == (512, 128)
    assert {name: view.versions[name] for name in VERSIONS} == VERSIONS
    assert view.details["heads"] == view.details["geometry"]["heads"] == 2
    assert view.details["launchers"] == {"vllm-0": "fork"}
    assert "do not transfer" in view.notes[0]
    assert "2 query heads" in view.notes[0]
    assert view.ready_s is not None
    assert view.max_model_len == 32768
    assert "lmcache 0.5.6" in view.components["vllm-0"]


def test_model_and_probe_are_made_once_for_many_stacks(tmp_path: Path, parts: Parts) -> None:
    for _ in range(2):
        start(make_plan(), tmp_path)
    assert (tmp_path / "probes").read_text() == "probed\n"
    assert len(list((tmp_path / "cache/pytest-mooncake/models").iterdir())) == 1


def test_a_number_of_heads_needs_no_probe(tmp_path: Path, parts: Parts) -> None:
    with provision_local(make_plan(model={"heads": 4}), log_dir=tmp_path / "logs", progress=lambda _: None) as view:
        assert view.details["heads"] == 4
        assert "probe" not in view.notes[0]
    assert not (tmp_path / "probes").exists()


def test_a_model_that_cannot_be_built_says_why(tmp_path: Path, parts: Parts) -> None:
    program(parts.python, 'echo "ValueError: no space left on device"; exit 1')
    with pytest.raises(StackError, match="probe_attention ended with exit code 1") as caught:
        start(make_plan(), tmp_path)
    assert caught.value.details == ("ValueError: no space left on device",)


@pytest.mark.usefixtures("parts")
def test_an_engine_without_connector_is_proven_by_a_served_request(tmp_path: Path) -> None:
    with provision_local(
        make_plan(connector={"kind": "none"}), log_dir=tmp_path / "logs", progress=lambda _: None
    ) as view:
        assert "no KV connector" in view.components["vllm-0"]


@pytest.mark.usefixtures("parts")
def test_an_engine_that_serves_but_does_not_store_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "STORE_S", 0.5)
    with pytest.raises(
        StackError, match=r"vllm-0 is not ready.*2 chunks stored in Mooncake \(master_key_count was 0\)"
    ):
        start(make_plan("deaf-store"), tmp_path)


@pytest.mark.usefixtures("parts")
def test_an_engine_that_answers_500_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"vllm-0 does not serve a prompt of 513 tokens: 500 .*EngineCore encountered"):
        start(make_plan("mute"), tmp_path)


@pytest.mark.usefixtures("parts")
def test_an_engine_that_dies_over_its_first_prompt_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="vllm-0 ended with exit code 1") as caught:
        start(make_plan("die-serving"), tmp_path)
    assert caught.value.details == ("RuntimeError: EngineCore died",)


@pytest.mark.usefixtures("parts")
def test_an_engine_that_cannot_fork_is_started_plainly_and_the_view_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with provision_local(make_plan("die-forked"), log_dir=tmp_path / "logs", progress=said.append) as view:
        assert view.details["launchers"] == {"vllm-0": "plain"}
        assert any("fork launcher failed" in note for note in view.notes)
    assert any("fork launcher failed" in line for line in said)


def test_without_its_libraries_the_fork_launcher_is_not_tried(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "find_parts", lambda: dataclasses.replace(parts, can_fork=False))
    with provision_local(make_plan("die-forked"), log_dir=tmp_path / "logs", progress=lambda _: None) as view:
        assert view.details["launchers"] == {"vllm-0": "plain"}


@pytest.mark.usefixtures("parts")
def test_an_engine_that_dies_either_way_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="vllm-0 ended with exit code 1") as caught:
        start(make_plan("die"), tmp_path)
    assert "RuntimeError: no such instruction" in caught.value.details[-1]


@pytest.mark.usefixtures("parts")
def test_arguments_that_vllm_refuses_are_not_tried_a_second_time(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(StackError, match="vllm-0 ended with exit code 2") as caught:
        start(make_plan("refuse"), tmp_path, said)
    assert caught.value.details == ("vllm: error: unrecognized arguments: --nonsense",)
    assert not any("fork launcher" in line for line in said)


def test_a_master_that_dies_at_once_is_reported_and_everything_else_ended(tmp_path: Path, parts: Parts) -> None:
    program(parts.master, 'echo "E1124 12:00:00 master.cpp:1] cannot bind: Address already in use"; exit 1')
    with pytest.raises(
        StackError, match=r"master ended with exit code 1 because its port is taken .*its log: .*master.log"
    ):
        start(make_plan(), tmp_path)


def test_a_program_that_cannot_be_executed_is_reported(tmp_path: Path, parts: Parts) -> None:
    parts.master.chmod(0o644)
    with pytest.raises(StackError, match=r"master cannot be started: .*Permission denied"):
        start(make_plan(), tmp_path)


@pytest.mark.usefixtures("parts")
def test_a_stack_that_is_too_slow_is_given_up_after_its_timeout(tmp_path: Path) -> None:
    plan = make_plan(ready_timeout_s=3.0, engine={"extra_env": {"STANDIN_DELAY_S": "60"}})
    with pytest.raises(StackError, match=r"vllm-0 is not ready: .*ready_timeout_s in the stack's YAML is 3"):
        start(plan, tmp_path)


def test_missing_parts_are_found_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Parts:
        raise MissingPartError("lmcache is missing; pip install 'pytest-mooncake[local]'")

    monkeypatch.setattr(assembly, "find_parts", missing)
    with pytest.raises(MissingPartError, match="pip install"):
        start(make_plan(), tmp_path)


@pytest.mark.usefixtures("parts")
def test_an_interrupt_while_the_stack_starts_ends_what_had_started(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "vllm-0" in line:
            raise KeyboardInterrupt

    plan = make_plan(engine={"extra_env": {"STANDIN_DELAY_S": "60"}})
    with (
        pytest.raises(KeyboardInterrupt),
        provision_local(plan, log_dir=tmp_path / "logs", progress=interrupt),
    ):
        pytest.fail("it never became ready")


@pytest.mark.usefixtures("parts")
def test_a_component_that_dies_during_the_run_is_named_with_its_last_words(tmp_path: Path) -> None:
    with provision_local(make_plan(), log_dir=tmp_path / "logs", progress=lambda _: None) as view:
        assert casualties(view) == ()
        os.kill(view.details["pids"]["vllm-0"], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not casualties(view) and time.monotonic() < deadline:
            time.sleep(0.02)
        (casualty,) = casualties(view)
    assert str(casualty).startswith("vllm-0 is no longer running; its log: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root here")
@pytest.mark.usefixtures("parts")
def test_an_isolated_stack_is_reached_from_inside_its_namespace_only(tmp_path: Path) -> None:
    plan = make_plan(isolate="auto")
    with provision_local(plan, log_dir=tmp_path / "logs", progress=lambda _: None) as view:
        if view.details["netns"] is None:
            pytest.skip("no network namespace here")
        assert view.store is not None
        assert not answers(view.store.master_url)
        with inside(view.details["netns"]):
            assert answers(view.store.master_url)
    assert all_gone(view)


@pytest.fixture
def kept_stack(parts: Parts) -> Iterator[Parts]:
    """Stand-ins, and no kept stack left however the test ends."""
    yield parts
    view = persistent.status()
    persistent.down()
    if view is not None:
        os.waitpid(view.details["warden_pid"], 0)


def reap(view: StackView) -> None:
    """Collect the warden, which in these tests is a child of pytest itself."""
    os.waitpid(view.details["warden_pid"], 0)


@pytest.mark.usefixtures("kept_stack")
def test_a_kept_stack_is_there_for_the_next_run_until_it_is_taken_down(tmp_path: Path) -> None:
    said: list[str] = []
    assert persistent.status() is None
    assert not persistent.down()
    with provision_local(make_plan(), log_dir=tmp_path / "logs", progress=said.append, keep=True) as first:
        pass
    seen = persistent.status()
    assert seen is not None
    assert seen.engines == first.engines
    assert seen.details["ended"] == ()
    with provision_local(make_plan(), log_dir=tmp_path / "logs", progress=said.append, keep=True) as second:
        assert second == first
    assert not (tmp_path / "logs").exists()
    assert persistent.down()
    assert all_gone(first)
    reap(first)
    assert persistent.status() is None
    assert not persistent.down()


@pytest.mark.usefixtures("kept_stack")
def test_a_kept_stack_with_other_settings_is_not_replaced_silently() -> None:
    persistent.up(make_plan(), lambda _: None)
    with pytest.raises(StackError, match="other settings is up; end it first: pytest-mooncake stack down"):
        persistent.up(make_plan(connector={"kind": "none"}), lambda _: None)
    persistent.up(make_plan().model_copy(update={"name": "another name", "ready_timeout_s": 9.0}), lambda _: None)


@pytest.mark.usefixtures("kept_stack")
def test_a_kept_stack_whose_engines_have_other_variables_is_told_apart_without_a_record_of_them() -> None:
    def plan(token: str) -> StackPlan:
        return make_plan(engine={"extra_env": {"HF_TOKEN": token}})

    persistent.up(plan("a-first-token"), lambda _: None)
    persistent.up(plan("a-first-token"), lambda _: None)
    with pytest.raises(StackError, match="a kept stack with other settings is up"):
        persistent.up(plan("another-token"), lambda _: None)
    files = [path for path in cache_dir().rglob("*") if path.is_file()]
    assert not [path for path in files if b"a-first-token" in path.read_bytes()]


@pytest.mark.usefixtures("kept_stack")
def test_a_kept_stack_that_lost_a_component_is_started_anew() -> None:
    said: list[str] = []
    first = persistent.up(make_plan(), said.append)
    os.kill(first.details["pids"]["node-0"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while birth(first.details["pids"]["node-0"]) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    seen = persistent.status()
    assert seen is not None
    assert seen.details["ended"] == ("node-0",)
    second = persistent.up(make_plan(), said.append)
    assert "the kept stack lost node-0; starting it anew" in said
    assert second.details["pids"] != first.details["pids"]
    assert all_gone(first)
    reap(first)


@pytest.mark.usefixtures("kept_stack")
def test_a_kept_stack_that_no_longer_proves_itself_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = persistent.up(make_plan(), said.append)

    def broken(*_: object) -> None:
        raise StackError("vllm-0 does not store")

    monkeypatch.setattr(persistent, "prove_again", broken)
    second = persistent.up(make_plan(), said.append)
    assert any("does not work any more (vllm-0 does not store)" in line for line in said)
    assert second.details["warden_pid"] != first.details["warden_pid"]
    reap(first)


@pytest.mark.usefixtures("kept_stack")
def test_a_stranger_with_the_wardens_old_id_is_never_signalled() -> None:
    view = persistent.up(make_plan(), lambda _: None)
    state = persistent._state_file()
    genuine = state.read_text()
    forged = genuine.replace(f'"pid": {view.details["warden_pid"]}', f'"pid": {os.getpid()}')
    state.write_text(forged)
    assert persistent.status() is None
    assert not persistent.down()  # it would have ended this very process
    assert not state.exists()
    state.write_text(genuine)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("content", ["", "{}", '{"schema": 999}', "not json"])
def test_a_state_file_that_says_nothing_is_no_stack(content: str) -> None:
    persistent._state_file().write_text(content)
    assert persistent.status() is None
    assert not persistent.down()


@pytest.mark.usefixtures("parts")
def test_two_who_want_the_kept_stack_wait_for_each_other() -> None:
    said: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with persistent._locked(said.append):
            entered.set()

    with persistent._locked(lambda _: None):
        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == ["waiting for another process that is starting or ending the kept stack"]
