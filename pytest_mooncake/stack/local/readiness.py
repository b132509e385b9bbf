"""Waiting for a stack, and proving that it is one: a chunk stored through the engine and read back.

`/health` answers 200 with no master behind it, and such an engine serves short prompts too; it dies on the first prompt
that stores. So an engine counts as ready when a prompt of two chunks has raised the master's key count, and the same
prompt again has raised its hits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mooncake.errors import StackError
from pytest_mooncake.stack.local.host import http
from pytest_mooncake.stack.local.host.logs import port_taken, useful_lines

__all__ = ["Deadline", "Ended", "Proof", "Watch", "prove_served", "prove_store"]

TICK_S = 0.1
STORE_S = 30.0
"""How long a stored chunk may take to show up at the master."""
PROOF_CHUNKS = 2
KEYS = "master_key_count"
HITS = "mem_cache_hit_nums_"

Progress = Callable[[str], None]


class Ended(StackError):
    """A component ended while it was waited for; `component` is its name."""

    def __init__(self, component: str, message: str, details: tuple[str, ...]) -> None:
        super().__init__(message, details)
        self.component = component


@dataclass(slots=True, kw_only=True)
class Deadline:
    """When patience ends, in seconds of `clock`."""

    limit_s: float
    clock: Callable[[], float] = time.monotonic
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started_s

    @property
    def passed(self) -> bool:
        """Whether the limit is behind us."""
        return self.elapsed_s > self.limit_s


@dataclass(slots=True, kw_only=True)
class Watch:
    """Waits for conditions while watching that nothing dies meanwhile.

    Args:
        exits: Names and exit codes of ended processes.
        log_of: The log file of a component.
        progress: Gets a line whenever what is waited for changes, and every `report_s`.
        replace: Told of an ended component; True when it has started it in another way.
    """

    exits: Callable[[], dict[str, int]]
    log_of: Callable[[str], Path]
    progress: Progress
    deadline: Deadline
    sleep: Callable[[float], None] = time.sleep
    report_s: float = 5.0
    replace: Callable[[Ended], bool] = lambda _: False

    def until(self, component: str, what: str, condition: Callable[[], bool], limit_s: float | None = None) -> None:
        """Poll `condition` until it holds.

        Raises:
            Ended: A component of the stack ended.
            StackError: The deadline (or `limit_s` from now) passed.
        """
        reported_s, began_s = None, self.deadline.elapsed_s
        while not condition():
            self.check_alive()
            now_s = self.deadline.elapsed_s
            if self.deadline.passed or (limit_s is not None and now_s - began_s > limit_s):
                raise self._too_slow(component, what, now_s - began_s)
            if reported_s is None or now_s - reported_s >= self.report_s:
                reported_s = now_s
                self.progress(f"waiting for {component}: {what} ({now_s:.0f} s)")
            self.sleep(TICK_S)

    def check_alive(self) -> None:
        """Raise `Ended` when a component is no longer running and `replace` has not started it anew."""
        for component, code in self.exits().items():
            ended = self._ended(component, code)
            if not self.replace(ended):
                raise ended

    def _ended(self, component: str, code: int) -> Ended:
        log = self.log_of(component)
        taken = port_taken(log)
        why = f" because its port is taken ({taken}); start again" if taken else ""
        message = f"{component} {exit_words(code)}{why} while the stack was starting; its log: {log}"
        return Ended(component, message, useful_lines(log))

    def _too_slow(self, component: str, what: str, waited_s: float) -> StackError:
        log = self.log_of(component)
        hint = ""
        if self.deadline.passed:
            hint = (
                f"; ready_timeout_s in the stack's YAML is {self.deadline.limit_s:.0f}, raise it for a slower machine"
            )
        message = f"{component} is not ready: waited {waited_s:.0f} s for this: {what}; its log: {log}{hint}"
        return StackError(message, useful_lines(log))


def answers(port: int, path: str) -> Callable[[], bool]:
    """A condition: this port answers 200."""
    return lambda: http.get(port, path) is not None


def exit_words(code: int) -> str:
    """What an exit code says."""
    if code == -9:
        return "was killed by signal 9 (out of memory?)"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def proof_prompt(tokens: int, vocab: int, rng: random.Random) -> list[int]:
    """Token ids nobody has sent before, special ones and single bytes left out."""
    return [300 + int((vocab - 300) * rng.random()) for _ in range(tokens)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an engine proves itself with. `tag` enters LMCache's keys, so that what a proof stores can be told apart."""

    component: str
    port: int
    model: str
    prompt: list[int]
    tag: str | None = None


def prove_served(watch: Watch, proof: Proof) -> None:
    """Let the engine serve the prompt.

    Raises:
        StackError: It does not answer with 200, or died over it.
    """
    body: dict[str, Any] = {"model": proof.model, "prompt": proof.prompt, "max_tokens": 1, "temperature": 0}
    if proof.tag:
        body["kv_transfer_params"] = {"lmcache.tag.run": proof.tag}
    limit_s = max(1.0, watch.deadline.limit_s - watch.deadline.elapsed_s)
    status, text = http.post(proof.port, "/v1/completions", body, limit_s)
    if status == 200:
        return
    watch.sleep(1.0 if status is None else 0.0)  # a dying process takes a moment to be reaped
    watch.check_alive()
    log = watch.log_of(proof.component)
    said = f"{status or 'no answer'} {' '.join(text.split())[:200]}"
    message = f"{proof.component} does not serve a prompt of {len(proof.prompt)} tokens: {said}; its log: {log}"
    raise StackError(message, useful_lines(log))


def prove_store(watch: Watch, proof: Proof, admin_port: int, *, nearer_tier: bool = False) -> None:
    """Store the prompt's chunks through the engine and read them back, by the master's own counters.

    Where the plan asks for a tier nearer than the store (prefix caching, LMCache's CPU memory), that one answers, and
    reading back cannot be proven.

    Raises:
        StackError: Nothing was stored, or what was stored is not read.
    """
    keys, hits = counter(admin_port, KEYS), counter(admin_port, HITS)
    watch.progress(f"{proof.component} answers; storing and reading back {PROOF_CHUNKS} chunks")
    prove_served(watch, proof)
    watch.until(
        proof.component,
        f"{PROOF_CHUNKS} chunks stored in Mooncake ({KEYS} was {keys:.0f})",
        lambda: counter(admin_port, KEYS) >= keys + PROOF_CHUNKS,
        STORE_S,
    )

    if nearer_tier:
        return

    def read_back() -> bool:
        # a key is counted when its put starts, so the first attempt may come before it has ended
        prove_served(watch, proof)
        return counter(admin_port, HITS) >= hits + PROOF_CHUNKS

    watch.until(
        proof.component, f"{PROOF_CHUNKS} chunks read back from Mooncake ({HITS} was {hits:.0f})", read_back, STORE_S
    )


def counter(admin_port: int, name: str) -> float:
    """One of the master's counters; 0 while it does not exist yet."""
    return http.sample(http.get(admin_port, "/metrics") or "", name) or 0.0
