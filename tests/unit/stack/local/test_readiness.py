"""Waiting with a deadline, and the words for what went wrong meanwhile. Time stands still unless somebody sleeps."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import StackError
from pytest_mooncake.stack.local.host.http import sample
from pytest_mooncake.stack.local.readiness import Deadline, Ended, Watch, exit_words, proof_prompt


@dataclass
class World:
    """A clock that only sleeping moves, processes that end when told, and what was said."""

    log_dir: Path
    now_s: float = 0.0
    exits: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def watch(self, limit_s: float = 60.0) -> Watch:
        return Watch(
            exits=lambda: self.exits,
            log_of=lambda name: self.log_dir / f"{name}.log",
            progress=self.said.append,
            deadline=Deadline(limit_s=limit_s, clock=lambda: self.now_s),
            sleep=self.sleep,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_holds_already_is_not_waited_for(world: World) -> None:
    world.watch().until("master", "its metrics", lambda: True)
    assert world.said == []
    assert world.now_s == 0


def test_waiting_says_what_for_and_how_long_but_not_too_often(world: World) -> None:
    world.watch().until("vllm-0", "loading", lambda: world.now_s > 11)
    assert world.said[0] == "waiting for vllm-0: loading (0 s)"
    assert 3 <= len(world.said) <= 4
    assert "(10 s)" in world.said[2]


def test_the_deadline_of_the_stack_names_the_setting_that_raises_it(world: World) -> None:
    (world.log_dir / "vllm-0.log").write_text("ERROR still compiling\n")
    with pytest.raises(
        StackError, match=r"vllm-0 is not ready: waited 20 s .*loading.*ready_timeout_s .* is 20"
    ) as caught:
        world.watch(limit_s=20).until("vllm-0", "loading", lambda: False)
    assert caught.value.details == ("ERROR still compiling",)
    assert str(world.log_dir / "vllm-0.log") in str(caught.value)


def test_a_shorter_limit_of_one_step_does_not_blame_the_setting(world: World) -> None:
    with pytest.raises(StackError, match="waited 5 s") as caught:
        world.watch().until("vllm-0", "chunks stored", lambda: False, 5.0)
    assert "ready_timeout_s" not in str(caught.value)


def test_any_component_that_ends_meanwhile_ends_the_wait_with_its_last_words(world: World) -> None:
    (world.log_dir / "master.log").write_text("F1124 12:00:00 out of file descriptors\n")
    world.exits["master"] = 1
    with pytest.raises(Ended, match="master ended with exit code 1 while the stack was starting") as caught:
        world.watch().until("vllm-0", "loading", lambda: False)
    assert caught.value.component == "master"
    assert caught.value.details == ("F1124 12:00:00 out of file descriptors",)


def test_a_taken_port_is_said_in_the_message_itself(world: World) -> None:
    (world.log_dir / "vllm-0.log").write_text("OSError: [Errno 98] Address already in use\n")
    world.exits["vllm-0"] = 1
    with pytest.raises(Ended, match=r"because its port is taken \(OSError: \[Errno 98\].*start again"):
        world.watch().check_alive()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-11, "was killed by signal 11"),
        (-9, "was killed by signal 9 (out of memory?)"),
    ],
)
def test_exit_codes_are_words(code: int, words: str) -> None:
    assert exit_words(code) == words


@given(st.integers(1, 600), st.integers(301, 100_000), st.integers())
def test_proof_prompts_have_the_length_asked_for_and_only_ordinary_tokens(tokens: int, vocab: int, seed: int) -> None:
    prompt = proof_prompt(tokens, vocab, random.Random(seed))
    assert len(prompt) == tokens
    assert all(300 <= token < vocab for token in prompt)


def test_two_proofs_never_send_the_same_prompt() -> None:
    assert proof_prompt(512, 8192, random.Random(1)) != proof_prompt(512, 8192, random.Random(2))


def test_a_counter_is_summed_over_its_labels_and_not_confused_with_its_neighbours() -> None:
    exposition = '# HELP keys help\nkeys 3\nkeys{a="b"} 4\nkeys_total 100\nmykeys 7\n'
    assert sample(exposition, "keys") == 7
    assert sample(exposition, "absent") is None
