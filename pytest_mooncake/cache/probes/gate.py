"""The correctness gate, run beside the rounds: short prompts asked for cold, then from the store, one at a time.

Before each request that is to be served from the store, what stands nearer to the engine is emptied where that was
permitted, as before a warm round; counters around each request say who served it. Several engines need no clearing:
what one computed the next one is asked for. Behind one address there may be several, too: where the prefix cache
answered, or may have, the document is asked for again, until another engine has to ask the store. Never
`prompt_logprobs`: vLLM does not read its cache for such requests (vllm#57596).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.evidence.checks.correct_text import ALTERNATIVES, Tier, tier_of
from pytest_mooncake.analysis.evidence.checks.correctness import gate_of, is_proven_failure
from pytest_mooncake.analysis.evidence.checks.refusals import is_refusal
from pytest_mooncake.analysis.evidence.counters.deltas import deltas
from pytest_mooncake.analysis.evidence.counters.deltas import read as value_of
from pytest_mooncake.border.http import NoReply, send
from pytest_mooncake.cache.probes.prompts import (
    OUTPUT_TOKENS,
    TELLING,
    TENANT,
    Probe,
    colds,
    control,
    keys_of,
    longer,
    warms,
)
from pytest_mooncake.cache.probes.replies import read_reply, served_by
from pytest_mooncake.cache.quiesce import quiesce
from pytest_mooncake.records import CORRECTNESS, Gate, GateStatus, ProbeAnswer, ProbeRole, Scrape, StackView

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Probe", "colds", "keys_of", "run_gate", "warms"]

LIMIT_S = 300.0
"""For the whole gate, a dozen short requests: seconds on a healthy stack."""
REQUEST_S = 60.0
MAX_BYTES = 4 * 2**20
SETTLE_LIMIT_S = 30.0
COUNTERS_S = 2.0
"""How long to wait until an engine has counted a request that it answered."""
UNCOUNTED_S = 0.3
"""The same once it did not: its counters are shared, or are dealt out by several replicas."""
POLL_S = 0.05
FURTHER_ASKS = 4
"""How often a prompt is asked for again that an engine's own prefix cache answered, in search of another engine."""

Read = Callable[[], Awaitable[tuple[Scrape, ...]]]
Params = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Fields of a request that an endpoint may refuse; the fewest are asked for last."""

    names_ids: bool = True
    plain: bool = False
    tagged: bool = True

    def body(self, probe: Probe, model: str, params: Params | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "prompt": probe.prompt,
            "max_tokens": OUTPUT_TOKENS,
            "temperature": 0,
            "logprobs": 2 if self.plain else ALTERNATIVES,
        }
        if not self.plain:
            body["ignore_eos"] = True
        if self.names_ids:
            body["return_tokens_as_token_ids"] = True
        if self.tagged and params is not None:
            body["kv_transfer_params"] = params(probe.tenant)
        return body if probe.salt is None else body | {"cache_salt": probe.salt}


FORMS = (
    _Form(),
    _Form(names_ids=False),
    _Form(names_ids=False, plain=True),
    _Form(names_ids=False, plain=True, tagged=False),
)


async def run_gate(
    session: aiohttp.ClientSession,
    view: StackView,
    run_id: str,
    ids: Sequence[int],
    *,
    read: Read,
    headers: Mapping[str, str],
    params: Params | None,
    clear: Callable[[], Awaitable[None]] | None = None,
    fresh: aiohttp.ClientSession | None = None,
    longest: int | None = None,
    limit_s: float = LIMIT_S,
    request_s: float = REQUEST_S,
) -> tuple[tuple[ProbeAnswer, ...], Gate]:
    """Send the cold probes, wait until they are stored, send the warm ones. A dozen short requests, seconds.

    Args:
        session: client session.
        view: the stack.
        run_id: makes the prompts new.
        ids: ordinary token ids of the model.
        read: scrapes the stack.
        headers: the endpoint's credentials.
        params: tenant to `kv_transfer_params`; None where requests are not tagged.
        clear: empties what stands nearer to the engines than the store; None where that was not permitted.
        fresh: client session that keeps no connections: other engines behind the same address may answer it.
        longest: length of the run's own prompts, which were served; for stacks whose chunk is not known.
        limit_s: for the whole gate, whatever the endpoint does.
        request_s: for one request.

    Returns:
        The answers so far, and what became of the gate.
    """
    if not colds(run_id, ids, view, tagged=False):
        return (), _no_room(view)
    ask = _Asking(sessions=(session, fresh or session), view=view, headers=headers, params=params, request_s=request_s)
    conduct = _Conduct(ask, (run_id, ids, view), read=read, clear=clear, longest=longest)
    cut = await _cut_off(conduct, limit_s)
    return (answers := tuple(conduct.answers)), gate_of(answers, cut)


def _no_room(view: StackView) -> Gate:
    """The gate of a model that cannot be asked with one whole chunk."""
    why = f"the model's context of {view.max_model_len} tokens is shorter than one chunk"
    return Gate(id=CORRECTNESS, status=GateStatus.NOT_APPLICABLE, reason=why)


async def _cut_off(conduct: _Conduct, limit_s: float) -> str | None:
    """Ask until all is answered or the time is over; why the gate was cut off, if it was."""
    try:
        async with asyncio.timeout(limit_s):
            return await conduct.run()
    except TimeoutError:
        return f"the gate was not over after its limit of {limit_s:g} s"


class _Conduct:
    """One run of the gate. `answers` holds what was answered so far, also when it is cut off.

    Args:
        ask: sends one request.
        what: the run's id, ordinary token ids, the stack: what the prompts are made of.
        read: scrapes the stack.
        clear: empties what stands nearer than the store, where that was permitted.
        longest: length of the run's own prompts.
    """

    def __init__(
        self,
        ask: _Asking,
        what: tuple[str, Sequence[int], StackView],
        *,
        read: Read,
        clear: Callable[[], Awaitable[None]] | None,
        longest: int | None,
    ) -> None:
        self._ask = ask
        self._what = what
        self._view = what[2]
        self._read = read
        self._clear = clear
        self._longest = longest
        self._patience_s = COUNTERS_S
        self.answers: list[ProbeAnswer] = []

    async def run(self) -> str | None:
        """Send everything; return why it was given up, if it was."""
        cut = await self._round(colds(*self._what, tagged=self._ask.tags))
        if cut or all(answer.error is not None for answer in self.answers):
            return cut
        cut = await self._round(warms(*self._what, tagged=self._ask.tags), shift=1)
        found = any(a.role is ProbeRole.WARM and tier_of(a) is not Tier.NOTHING for a in self.answers)
        pair = None if cut or found else longer(*self._what, self._longest)
        if pair is not None:
            cut = await self._round(pair[:1]) or await self._round(pair[1:], shift=1)
        return cut

    async def _round(self, probes: Sequence[Probe], shift: int = 0) -> str | None:
        """Send probes one after the other: batching changes the last bits of what an engine computes.

        The i-th goes to engine (i + shift) mod n, so that with several engines every hit crosses engines. After cold
        ones it waits until they are stored. Returns why it was given up, if it was.
        """
        before = await self._look()
        for place, probe in enumerate(probes):
            if self._is_pointless(probe):
                continue
            number = (place + shift) % len(self._view.engines)
            answer = await self._answer(probe, number)
            self.answers.append(answer)
            cut = await self._cut_after(probe, answer, number) or await self._elsewhere(probe, answer, number)
            if cut:
                return cut
        stored = {a.case for a in self.answers if a.role is ProbeRole.COLD and a.error is None}
        to_come = [probe for probe in probes if probe.role is ProbeRole.COLD and probe.case in stored]
        if to_come:
            keys = keys_of(to_come, self._view)
            await quiesce(self._read, expect_keys=keys, before=before, deadline_s=SETTLE_LIMIT_S)
        return None

    def _is_pointless(self, probe: Probe) -> bool:
        """Whether the endpoint was found to refuse what a request needs: tags, or a prompt of its length."""
        if probe.tenant != TENANT and not self._ask.tags:
            return True
        refused = {a.case for a in self.answers if a.role is ProbeRole.COLD and is_refusal(a.error)}
        return probe.role is not ProbeRole.COLD and probe.case in refused

    async def _answer(self, probe: Probe, number: int) -> ProbeAnswer:
        """Ask; the very first request also with fewer fields where the endpoint refuses it."""
        answer = await self._tried(probe, number)
        if self.answers or not is_refusal(answer.error):
            return answer
        for form in FORMS[1:]:
            self._ask.form = form
            again = await self._tried(probe, number)
            if again.error is None:
                return again
        self._ask.form = FORMS[0]
        return answer

    async def _cut_after(self, probe: Probe, answer: ProbeAnswer, number: int) -> str | None:
        """Why the gate is given up after an answer, if it is."""
        if await self._may_go_on(probe, answer, number):
            return None
        return f"a short request failed twice: {answer.case} ({answer.role}): {answer.error}"

    async def _elsewhere(self, probe: Probe, answer: ProbeAnswer, number: int) -> str | None:
        """Ask again for what a prefix cache answered, or may have: another engine would have to ask the store.

        Balancers deal out connections or requests, so that a new connection and a kept one take turns. Returns why the
        gate was given up, if it was.
        """
        if self._view.provisioned or probe.role is not ProbeRole.WARM or probe.case not in TELLING:
            return None
        for time_ in range(FURTHER_ASKS):
            if tier_of(answer) not in (Tier.ENGINE, Tier.CACHED):
                break
            self._ask.anew = time_ % 2 == 0
            answer = await self._tried(probe, number)
            self._ask.anew = False
            self.answers.append(answer)
            if cut := await self._cut_after(probe, answer, number):
                return cut
        return None

    async def _may_go_on(self, probe: Probe, answer: ProbeAnswer, number: int) -> bool:
        """Whether the gate can still be made after an answer. A failure that is the product's own does not end it.

        A request that failed only when it should have been served from the cache is followed by one of the same length
        that no cache can hold: where that one is answered, the endpoint is well and the cache is not.
        """
        if answer.error is None or probe.role not in (ProbeRole.COLD, ProbeRole.WARM):
            return True
        if probe.role is ProbeRole.COLD:
            return is_refusal(answer.error)
        run_id, ids, _ = self._what
        self.answers.append(await self._once(control(run_id, ids, probe), number))
        return is_proven_failure(answer, self.answers)

    async def _tried(self, probe: Probe, number: int) -> ProbeAnswer:
        """Ask, once more where it failed: a proxy's 503 is nobody's fault. What is refused is not asked for again."""
        first = await self._once(probe, number)
        if first.error is None or (is_refusal(first.error) and probe.role is not ProbeRole.WARM):
            return first
        return replace(await self._once(probe, number), retried=first.error)

    async def _once(self, probe: Probe, number: int) -> ProbeAnswer:
        """Ask once, and read from the counters who served it."""
        if self._clear is not None and probe.role not in (ProbeRole.COLD, ProbeRole.CONTROL):
            await self._clear()
        before = await self._look()
        answer = await self._ask(probe, number)
        return answer if answer.error else replace(answer, **await self._served(before, answer))

    async def _served(self, before: tuple[Scrape, ...], answer: ProbeAnswer) -> dict[str, Any]:
        """Which cache served a request, once its engine has counted it; empty where that cannot be told."""
        if value_of(before, "prompt_tokens") is None:
            return {}
        ends_s = time.monotonic() + self._patience_s
        while True:
            moved = deltas(before, await self._look())
            found = served_by(moved, prompt_tokens=answer.prompt_tokens, cached_tokens=answer.cached_tokens)
            if found is not None:
                return found
            if (moved.get("prompt_tokens") or 0) > answer.prompt_tokens:
                return {}  # somebody else's requests are counted too
            if time.monotonic() >= ends_s:
                self._patience_s = UNCOUNTED_S
                return {}
            await asyncio.sleep(POLL_S)

    async def _look(self) -> tuple[Scrape, ...]:
        """Read the counters, once more where a source did not answer."""
        seen = await self._read()
        return await self._read() if any(scrape.error for scrape in seen) else seen


@dataclass(slots=True, kw_only=True)
class _Asking:
    """Sends one request and reads its reply. `form` is what the endpoint was found to take.

    `sessions` are one that keeps its connection and one that may not, which is used where one is wanted `anew`.
    """

    sessions: tuple[aiohttp.ClientSession, aiohttp.ClientSession]
    view: StackView
    headers: Mapping[str, str]
    params: Params | None
    request_s: float
    form: _Form = field(default_factory=_Form)
    anew: bool = False

    @property
    def tags(self) -> bool:
        """Whether requests carry tags."""
        return self.params is not None and self.form.tagged

    async def __call__(self, probe: Probe, number: int) -> ProbeAnswer:
        error, values = None, {}
        try:
            values = read_reply(await self._post(number, self.form.body(probe, self.view.model, self.params)))
        except ValueError as problem:
            error = _one_line(str(problem)) or "no answer"
        return ProbeAnswer(
            case=probe.case,
            role=probe.role,
            engine=number,
            prompt_tokens=len(probe.prompt),
            cached_expected=probe.cached_expected,
            error=error,
            **values,
        )

    async def _post(self, number: int, body: Mapping[str, Any]) -> str:
        """The reply to a completion request.

        Raises:
            ValueError: it is an error, too large, or late.
        """
        import orjson

        try:
            reply = await send(
                self.sessions[self.anew],
                "POST",
                f"{self.view.engines[number].url}/v1/completions",
                timeout_s=self.request_s,
                most_bytes=MAX_BYTES,
                headers=self.headers,
                body=orjson.dumps(body),
            )
        except NoReply as problem:
            why = f"no answer within {self.request_s:g} s" if problem.timed_out else f"it {problem.why}"
            raise ValueError(why) from None
        if reply.status != 200:
            raise ValueError(f"HTTP {reply.status}: {reply.text[:1000]}")
        return reply.text


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
